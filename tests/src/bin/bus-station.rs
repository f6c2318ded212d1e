//! A station on a bus, whose sleep and sends are measured.
//!
//! - `bus-station receive BUS MAC` prints `ready` and receives, asleep between frames, until it is
//!   stopped.
//! - `bus-station send BUS MAC FRAMES RATE` sends frames to that address in bursts, RATE a second,
//!   and prints how many seconds it took.
//! - `bus-station listen BUS` prints `ready` and sleeps. After the last broadcast it prints a line
//!   for each: its number and when it was received.
//! - `bus-station broadcast BUS COUNT` sends broadcasts, with a rest before each, and prints a line
//!   for each: its number, when the send began, and how long it took.
//!
//! Times are nanoseconds of the monotonic clock, which is the same in all processes.

use std::error::Error;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use macaddr::MacAddr6;
use nix::time::{ClockId, clock_gettime};
use shmbus::{Burst, Bus, Station, StationOptions};

/// Frames of a burst, as busy senders have them.
const BURST: usize = 32;
/// Bytes of a frame.
const FRAME: usize = 64;
/// The offset of the number in a broadcast.
const NUMBER: usize = 14;
/// The rest before a broadcast: enough for every listener to fall asleep again.
const REST: Duration = Duration::from_millis(20);
/// The time without a frame after which a listener has heard the last one.
const SILENCE: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["receive", bus, mac] => receive(join(bus, StationOptions::new().mac(mac.parse()?))?),
        ["send", bus, mac, frames, rate] => {
            let station = join(bus, StationOptions::new())?;
            let seconds = send(station, mac.parse()?, frames.parse()?, rate.parse()?)?;
            println!("{seconds}");
            Ok(())
        }
        ["listen", bus] => {
            print!("{}", listen(join(bus, StationOptions::new())?)?);
            Ok(())
        }
        ["broadcast", bus, count] => {
            print!("{}", broadcast(join(bus, StationOptions::new())?, count.parse()?)?);
            Ok(())
        }
        _ => Err("say receive, send, listen or broadcast, and BUS".into()),
    }
}

fn join(bus: &str, options: StationOptions) -> Result<Station, Box<dyn Error>> {
    Ok(Station::join(Bus::open_or_create(bus, 0o600)?, options)?)
}

fn receive(mut station: Station) -> Result<(), Box<dyn Error>> {
    let mut burst = Burst::new(256);
    println!("ready");
    loop {
        station.wait(None)?;
        while station.recv_burst(&mut burst) > 0 {}
    }
}

fn send(mut station: Station, to: MacAddr6, frames: u64, rate: f64) -> Result<f64, Box<dyn Error>> {
    let burst = vec![frame(to, station.mac()); BURST];
    let (begin, mut sent) = (Instant::now(), 0);
    while sent < frames {
        // A sleep is not as exact as the pauses are short.
        while begin.elapsed().as_secs_f64() * rate < sent as f64 {
            std::hint::spin_loop();
        }
        station.send_burst(&burst)?;
        sent += BURST as u64;
    }
    station.flush()?;
    Ok(begin.elapsed().as_secs_f64())
}

fn listen(mut station: Station) -> Result<String, Box<dyn Error>> {
    let (mut burst, mut heard, mut last) = (Burst::new(32), String::new(), None::<Instant>);
    println!("ready");
    while last.is_none_or(|last| last.elapsed() < SILENCE) {
        station.wait(last.map(|_| SILENCE))?;
        let now = nanoseconds()?;
        if station.recv_burst(&mut burst) > 0 {
            last = Some(Instant::now());
        }
        for frame in &burst {
            if let Some(number) = frame.bytes.get(NUMBER..NUMBER + 8) {
                writeln!(heard, "{} {now}", u64::from_be_bytes(number.try_into()?))?;
            }
        }
    }
    Ok(heard)
}

fn broadcast(mut station: Station, count: u64) -> Result<String, Box<dyn Error>> {
    let mut frame = frame(MacAddr6::broadcast(), station.mac());
    let mut sent = String::new();
    for number in 0..count {
        sleep(REST);
        frame[NUMBER..NUMBER + 8].copy_from_slice(&number.to_be_bytes());
        let begin = nanoseconds()?;
        station.send(&frame)?;
        writeln!(sent, "{number} {begin} {}", nanoseconds()? - begin)?;
    }
    Ok(sent)
}

/// Returns a frame of the type that IEEE reserves for experiments.
fn frame(to: MacAddr6, from: MacAddr6) -> Vec<u8> {
    let mut frame = vec![0; FRAME];
    frame[..6].copy_from_slice(to.as_bytes());
    frame[6..12].copy_from_slice(from.as_bytes());
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn nanoseconds() -> nix::Result<u128> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos())
}
