//! Buses larger than a rump kernel's: the same code, longer frames, and no rump kernels.

use std::fs::File;
use std::path::Path;

use shmbus::{
    BUS_SIZE, Burst, Bus, BusOptions, MAX_BIG_FRAME, OpenError, SendError, Station, StationOptions,
    Tap,
};

const MIB: u64 = 1 << 20;

fn station(path: &Path) -> Station {
    let bus = BusOptions::new().size(4 * MIB).open_or_create(path).expect("a bus");
    Station::join(bus, StationOptions::new()).expect("joined")
}

fn frame(len: usize, number: u64) -> Vec<u8> {
    let mut frame = vec![0xff; 14];
    frame.extend(number.to_be_bytes());
    frame.resize(len, number.to_be_bytes()[7]);
    frame
}

#[test]
fn long_frames_go_around_the_ring_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut alice, mut bob) = (station(&path), station(&path));
    let mut burst = Burst::new(16);
    let lens = (60..=MAX_BIG_FRAME).step_by(211).chain([MAX_BIG_FRAME]).cycle();
    // Several times around.
    for (number, len) in (0..4_000).zip(lens) {
        let sent = frame(len, number);
        alice.send(&sent).expect("sent");
        assert_eq!(bob.recv_burst(&mut burst), 1);
        assert!(burst.iter().next().expect("one").bytes == sent, "frame {number} of {len} bytes");
    }
    assert!(alice.bus().state().generation >= 4);
    assert_eq!(bob.stats().overruns + bob.stats().corrupt, 0);
    let longer = vec![0xff; MAX_BIG_FRAME + 1];
    assert!(matches!(alice.send(&longer), Err(SendError::TooLong { max: MAX_BIG_FRAME, .. })));
}

#[test]
fn a_big_bus_keeps_what_a_small_one_would_have_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let mut alice = station(&path);
    let mut tap = Tap::new(Bus::open_read_only(&path).expect("a bus")).expect("sound");
    let frames: Vec<Vec<u8>> = (0..2_000).map(|number| frame(1_514, number)).collect();
    alice.send_burst(&frames).expect("sent");
    let mut burst = Burst::new(4_000);
    assert_eq!(tap.recv_burst(&mut burst), 2_000);
    assert!(burst.iter().zip(&frames).all(|(received, sent)| received.bytes == sent));
}

#[test]
fn sizes_that_no_bus_has_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    for size in [0, BUS_SIZE - 1, BUS_SIZE + 1, BUS_SIZE + 4_096, 2 << 30] {
        let made = BusOptions::new().size(size).open_or_create(&path);
        assert!(matches!(made, Err(OpenError::BadSize { .. })), "{size}: {made:?}");
        assert!(!path.exists());
    }
}

#[test]
fn the_size_is_that_of_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    drop(station(&path));
    // A process that opens it later need not know the size.
    assert_eq!(Bus::open_or_create(&path, 0o600).expect("a bus").size(), 4 * MIB);
    assert_eq!(Bus::open(&path).expect("a bus").max_frame(), MAX_BIG_FRAME);
    // As a rump kernel leaves it that cuts it short before it looks.
    File::options().write(true).open(&path).expect("a bus").set_len(BUS_SIZE).expect("cut");
    assert!(matches!(Bus::open(&path), Err(OpenError::CutByRumpKernel { .. })));
    File::options().write(true).open(&path).expect("a bus").set_len(2 * BUS_SIZE).expect("cut");
    assert!(matches!(Bus::open(&path), Err(OpenError::WrongSize { .. })));
}

#[test]
fn a_big_bus_that_is_cut_short_is_lost() {
    shmbus::survive_truncation().expect("a handler");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let (mut alice, mut bob) = (station(&path), station(&path));
    File::options().write(true).open(&path).expect("a bus").set_len(BUS_SIZE).expect("cut");
    // The rest of it still works, up to the cut.
    let frames: Vec<Vec<u8>> = (0..500).map(|number| frame(9_000, number)).collect();
    assert!(matches!(alice.send_burst(&frames), Err(SendError::Lost { .. })));
    let mut burst = Burst::new(1_000);
    while bob.recv_burst(&mut burst) > 0 {}
    assert!(alice.bus().is_lost());
}
