//! Sends to and receives from a bus.

use std::path::Path;
use std::time::Duration;

use shmbus::{Burst, Bus, Station, StationOptions, Tap, WaitError};

use super::cpu::Backoff;
use super::frames::{Generator, Sent, Tally};
use super::protocol::Reported;
use super::reception::Reception;
use super::start_stop::StartStop;
use super::{EndOptions, Load, RxMode};

/// The burst of a receiver, whatever the burst of the sender.
const AT_ONCE: usize = 256;
/// How long a receiver sleeps at most before it checks whether the measurement is over.
const MAX_SLEEP: Duration = Duration::from_millis(10);

pub(super) fn send(
    path: &Path,
    load: Load,
    start_stop: &StartStop,
) -> anyhow::Result<Reported<Sent>> {
    let mut station = join(path)?;
    let meter = start_stop.wait_for_start()?;
    let mut generator = Generator::new(load, start_stop);
    let mut backoff = Backoff::default();
    while let Some(burst) = generator.next_burst() {
        let frames = burst.len();
        station.send_burst(burst)?;
        generator.sent(frames);
        if frames == 0 {
            generator.rest();
        }
        backoff.note(frames);
    }
    Ok(Reported { results: vec![generator.result()], usage: start_stop.usage(&meter) })
}

pub(super) fn receive(
    path: &Path,
    options: EndOptions,
    start_stop: &StartStop,
) -> anyhow::Result<Reported<Tally>> {
    let mut receiver = if options.taps {
        Receiver::Tap(Box::new(Tap::new(Bus::open_read_only(path)?)?))
    } else {
        Receiver::Station(Box::new(join(path)?))
    };
    let mut burst = Burst::new(AT_ONCE);
    let mut tally = Tally::default();
    let meter = start_stop.wait_for_start()?;
    let mut reception = Reception::new(start_stop);
    let mut backoff = Backoff::default();
    loop {
        let frames = receiver.recv_burst(&mut burst);
        for frame in &burst {
            tally.count(frame.bytes);
        }
        if reception.is_over(frames, &mut tally) {
            return Ok(Reported { results: vec![tally], usage: start_stop.usage(&meter) });
        }
        match options.rx_mode {
            RxMode::Polling => backoff.note(frames),
            RxMode::Interrupt if frames == 0 => drop(receiver.wait()?),
            RxMode::Interrupt => {}
        }
    }
}

pub(super) fn join(path: &Path) -> anyhow::Result<Station> {
    Ok(Station::join(Bus::open(path)?, StationOptions::new())?)
}

/// A receiver of frames.
enum Receiver {
    // Boxed, because they are several hundred bytes.
    Station(Box<Station>),
    Tap(Box<Tap>),
}

impl Receiver {
    fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        match self {
            Self::Station(station) => station.recv_burst(burst),
            Self::Tap(tap) => tap.recv_burst(burst),
        }
    }

    fn wait(&mut self) -> Result<bool, WaitError> {
        match self {
            Self::Station(station) => station.wait(Some(MAX_SLEEP)),
            Self::Tap(tap) => tap.wait(Some(MAX_SLEEP)),
        }
    }
}
