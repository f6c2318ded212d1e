//! A station on a bus: sends a hello once a second and prints what it receives. Start it twice:
//!
//! ```text
//! cargo run -p shmbus --example station -- /tmp/lan
//! ```

use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, Station, StationOptions};

/// Broadcast.
const TO_ALL: [u8; 6] = [0xff; 6];
/// The type that IEEE reserves for experiments.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: station BUSPATH")?;
    let mut station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
    println!("{} on {}", station.mac(), station.bus().path().display());

    let hello = [&TO_ALL[..], station.mac().as_bytes(), &EXPERIMENT, b"hello"].concat();
    let mut burst = Burst::new(32);
    let mut next_hello = Instant::now();
    loop {
        if Instant::now() >= next_hello {
            station.send(&hello)?;
            next_hello = Instant::now() + Duration::from_secs(1);
        }
        // Sleeps until a frame comes, or the next hello is due.
        station.wait(Some(next_hello.saturating_duration_since(Instant::now())))?;
        while station.recv_burst(&mut burst) > 0 {
            for frame in &burst {
                println!("{} bytes: {:02x?}", frame.bytes.len(), frame.bytes);
            }
        }
    }
}
