//! A tap on a bus: counts frames and bytes by sender, once a second. It needs only permission to
//! read the file.
//!
//! ```text
//! cargo run -p shmbus --example listener -- /tmp/lan
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, Tap};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: listener BUSPATH")?;
    let mut tap = Tap::new(Bus::open_read_only(&path)?)?;
    let mut burst = Burst::new(256);
    loop {
        let mut senders: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let end = Instant::now() + Duration::from_secs(1);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            tap.wait(Some(left))?;
            tap.recv_burst(&mut burst);
            for frame in &burst {
                let (frames, bytes) = senders.entry(frame.info.sender).or_default();
                *frames += 1;
                *bytes += frame.bytes.len() as u64;
            }
        }
        for (sender, (frames, bytes)) in &senders {
            println!("{sender:016x}: {frames} frames/s, {bytes} bytes/s");
        }
        // The format has no sequence numbers: what a slow reader missed is known only in bytes.
        println!("{} bytes missed so far", tap.stats().overrun_bytes);
    }
}
