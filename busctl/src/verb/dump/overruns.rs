//! What a dump did not see, said while it goes on and at the end: a capture with holes must not look whole.

use std::time::{Duration, Instant};

use shmbus::Stats;

use crate::output;

/// How often, at most, it is said while the dump goes on.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps account of overruns.
pub(super) struct Missed {
    /// What to call the bus.
    bus: String,
    overruns: u64,
    bytes: u64,
    /// Overruns that were spoken of.
    said: u64,
    said_at: Option<Instant>,
}

impl Missed {
    pub(super) fn new(bus: String) -> Self {
        Self { bus, overruns: 0, bytes: 0, said: 0, said_at: None }
    }

    /// Bytes of the ring that were missed since the last look.
    pub(super) fn look(&mut self, stats: &Stats) -> u64 {
        let missed = stats.overrun_bytes - self.bytes;
        (self.overruns, self.bytes) = (stats.overruns, stats.overrun_bytes);
        missed
    }

    /// What there is to be said, if it is new and was not just said.
    pub(super) fn news(&mut self) -> Option<String> {
        if self.said_at.is_some_and(|at| at.elapsed() < INTERVAL) { None } else { self.say() }
    }

    /// What is still to be said.
    fn say(&mut self) -> Option<String> {
        if self.overruns == self.said {
            return None;
        }
        (self.said, self.said_at) = (self.overruns, Some(Instant::now()));
        self.overtaken().map(|overtaken| format!("{} was faster than this dump: {overtaken}", self.bus))
    }

    /// How often and by how much the bus was faster; nothing when it was not.
    pub(super) fn overtaken(&self) -> Option<String> {
        let Self { overruns, bytes, .. } = self;
        (*overruns > 0).then(|| format!("overtaken {overruns} times, {bytes} bytes of the ring missed"))
    }

    /// Says at the end what is still to be said.
    pub(super) fn say_rest(&mut self, stats: &Stats) {
        self.look(stats);
        self.say().iter().for_each(output::warn);
        if stats.corrupt > 0 {
            output::warn(format_args!("{} times something on {} was no packet", stats.corrupt, self.bus));
        }
    }
}
