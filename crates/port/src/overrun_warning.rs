//! Warns that a reader loses frames because the ring of its bus is too small for it.

use std::sync::atomic::{AtomicBool, Ordering};

use shmbus::{MAX_BUS_SIZE, Station};

/// Returns the line to report when a station was overrun for the first time in this process: how
/// much it lost, and the way out. Later losses are in the counters. Call it in every round of a loop,
/// with the station's bus still joined.
#[must_use]
pub fn overrun_warning(station: &Station) -> Option<String> {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    let stats = station.stats();
    // Relaxed: the flag orders nothing; of several threads one reports.
    if stats.overruns == 0 || REPORTED.swap(true, Ordering::Relaxed) {
        return None;
    }
    Some(text(
        &station.bus().path().display().to_string(),
        station.bus().size(),
        stats.overrun_frames,
    ))
}

fn text(path: &str, size: u64, frames: u64) -> String {
    let larger = (size * 4).min(MAX_BUS_SIZE);
    let cure = if larger > size {
        format!("make the bus larger (--size {}M, not for rump kernels), or give", larger >> 20)
    } else {
        "give".to_owned()
    };
    format!(
        "frames were missed, perhaps some for this process: {path} is filled faster than it reads (about {frames} \
         frames so far, by their usual length); {cure} this process more CPU time"
    )
}

#[cfg(test)]
mod tests {
    use shmbus::{Burst, Bus, StationOptions};

    use super::*;

    #[test]
    fn an_overrun_is_reported_once_with_the_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("bus");
        let station = || {
            let bus = Bus::open_or_create(&path, 0o600).expect("a bus");
            Station::join(bus, StationOptions::new()).expect("joined")
        };
        let (mut sender, mut reader, mut other) = (station(), station(), station());
        assert_eq!(overrun_warning(&reader), None);
        for _ in 0..40 {
            sender.send_burst(vec![[0xff; 1_000]; 60]).expect("sent");
        }
        let mut burst = Burst::new(64);
        reader.recv_burst(&mut burst);
        other.recv_burst(&mut burst);
        let warning = overrun_warning(&reader).expect("it was overrun");
        assert!(warning.contains("--size 4M") && warning.contains("frames so far"), "{warning}");
        assert_eq!((overrun_warning(&reader), overrun_warning(&other)), (None, None));
        // No bus is larger than the largest.
        let largest = text("bus", MAX_BUS_SIZE, 1);
        assert!(!largest.contains("--size") && largest.contains("CPU time"), "{largest}");
        assert!(text("bus", MAX_BUS_SIZE / 2, 1).contains("--size 1024M"));
        // 2,400 frames of 1,024 bytes with their headers, and a ring of 1 MiB of them is still there.
        let missed = reader.stats().overrun_frames;
        assert!((700..1_500).contains(&missed), "{missed}");
    }
}
