//! Sending to and receiving from a bus.

use std::path::Path;
use std::time::Duration;

use shmbus::{Burst, Bus, Station, StationOptions, Tap, WaitError};

use super::backoff::Backoff;
use super::frames::{Sent, Source, Tally};
use super::job::Reported;
use super::reception::Reception;
use super::start_stop::StartStop;
use super::{Load, Manner, RxMode};

/// How many frames a receiver takes at a time, however many are sent at once.
const AT_ONCE: usize = 256;
/// How long a receiver sleeps at most without a look at whether it is over.
const NAP: Duration = Duration::from_millis(10);

pub(super) fn send(path: &Path, load: Load, start_stop: &StartStop) -> anyhow::Result<Reported<Sent>> {
    let mut station = join(path)?;
    let meter = start_stop.pass()?;
    let mut source = Source::new(load, start_stop);
    let mut backoff = Backoff::default();
    while let Some(burst) = source.next_burst() {
        let frames = burst.len();
        station.send_burst(burst)?;
        source.sent(frames);
        if frames == 0 {
            source.rest();
        }
        backoff.note(frames);
    }
    Ok(Reported { what: vec![source.result()], usage: start_stop.usage(&meter) })
}

pub(super) fn receive(
    path: &Path,
    manner: Manner,
    start_stop: &StartStop,
) -> anyhow::Result<Reported<Tally>> {
    let mut ear = if manner.taps {
        Ear::Tap(Box::new(Tap::new(Bus::open_read_only(path)?)?))
    } else {
        Ear::Station(Box::new(join(path)?))
    };
    let mut burst = Burst::new(AT_ONCE);
    let mut tally = Tally::default();
    let meter = start_stop.pass()?;
    let mut reception = Reception::new(start_stop);
    let mut backoff = Backoff::default();
    loop {
        let frames = ear.listen(&mut burst);
        for frame in &burst {
            tally.count(frame.bytes);
        }
        if reception.is_over(frames, &mut tally) {
            return Ok(Reported { what: vec![tally], usage: start_stop.usage(&meter) });
        }
        match manner.rx_mode {
            RxMode::Polling => backoff.note(frames),
            RxMode::Interrupt if frames == 0 => drop(ear.wait()?),
            RxMode::Interrupt => {}
        }
    }
}

pub(super) fn join(path: &Path) -> anyhow::Result<Station> {
    Ok(Station::join(Bus::open(path)?, StationOptions::new())?)
}

/// Who listens.
enum Ear {
    // Boxed: they are some hundred bytes.
    Station(Box<Station>),
    Tap(Box<Tap>),
}

impl Ear {
    fn listen(&mut self, burst: &mut Burst) -> usize {
        match self {
            Self::Station(station) => station.recv_burst(burst),
            Self::Tap(tap) => tap.recv_burst(burst),
        }
    }

    fn wait(&mut self) -> Result<bool, WaitError> {
        match self {
            Self::Station(station) => station.wait(Some(NAP)),
            Self::Tap(tap) => tap.wait(Some(NAP)),
        }
    }
}
