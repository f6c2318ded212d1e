//! Sending to and receiving from a bus.

use std::path::Path;

use shmbus::{Burst, Bus, Interface, StationOptions};

use super::Load;
use super::frames::{Source, Tally};
use super::patience::Patience;
use super::worker::{Until, wait_for_go};
use crate::output::print_json;

pub(super) fn send(path: &Path, load: Load) -> anyhow::Result<()> {
    let mut station = Interface::join(Bus::open(path)?, StationOptions::new())?;
    wait_for_go()?;
    let mut source = Source::new(load);
    let mut patience = Patience::default();
    while let Some(burst) = source.next_burst() {
        let frames = burst.len();
        station.send_burst(burst)?;
        source.sent(frames);
        patience.note(frames);
    }
    Ok(print_json(&source.result())?)
}

pub(super) fn receive(path: &Path, load: Load) -> anyhow::Result<()> {
    let mut station = Interface::join(Bus::open(path)?, StationOptions::new())?;
    let mut burst = Burst::new(load.burst);
    let mut tally = Tally::default();
    wait_for_go()?;
    let mut until = Until::stdin_closes();
    let mut patience = Patience::default();
    loop {
        let frames = station.recv_burst(&mut burst);
        for frame in &burst {
            tally.count(frame.bytes);
        }
        patience.note(frames);
        if until.over(frames, &mut tally) {
            return Ok(print_json(&tally)?);
        }
    }
}
