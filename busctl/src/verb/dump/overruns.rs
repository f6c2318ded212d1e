//! What a dump did not read before the bus overwrote it. It is reported during the dump and at the
//! end: a capture with holes must not look whole.

use std::time::{Duration, Instant};

use shmbus::Stats;

use crate::output;
use crate::quantity::counted;

/// How often, at most, overruns are reported during a dump.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts the overruns of one bus, and what was reported of them.
pub(super) struct Overruns {
    /// The name of the bus for people.
    bus: String,
    count: u64,
    bytes: u64,
    /// An estimate.
    frames: u64,
    /// Overruns that were reported.
    reported: u64,
    reported_at: Option<Instant>,
}

impl Overruns {
    pub(super) fn new(bus: String) -> Self {
        Self { bus, count: 0, bytes: 0, frames: 0, reported: 0, reported_at: None }
    }

    /// Takes the tap's counters, and returns how many bytes of the ring were missed since the last
    /// call.
    pub(super) fn update(&mut self, stats: &Stats) -> u64 {
        let missed = stats.overrun_bytes - self.bytes;
        (self.count, self.bytes, self.frames) =
            (stats.overruns, stats.overrun_bytes, stats.overrun_frames);
        missed
    }

    /// Returns a warning about new overruns, at most once a second.
    pub(super) fn warning(&mut self) -> Option<String> {
        if self.reported_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            None
        } else {
            self.unreported()
        }
    }

    fn unreported(&mut self) -> Option<String> {
        if self.count == self.reported {
            return None;
        }
        (self.reported, self.reported_at) = (self.count, Some(Instant::now()));
        self.summary().map(|summary| format!("{} was faster than this dump: {summary}", self.bus))
    }

    /// Returns how often and by how much the bus was faster; none when it was not.
    pub(super) fn summary(&self) -> Option<String> {
        let Self { count, bytes, frames, .. } = self;
        (*count > 0).then(|| {
            format!(
                "overtaken {count} times, an estimate of {}, {} of the ring missed",
                counted(*frames, "frame"),
                counted(*bytes, "byte")
            )
        })
    }

    /// Reports at the end what was not reported before.
    pub(super) fn report_rest(&mut self, stats: &Stats) {
        self.update(stats);
        self.unreported().iter().for_each(output::warn);
        if stats.corrupt > 0 {
            output::warn(format_args!(
                "{} times something on {} was no packet",
                stats.corrupt, self.bus
            ));
        }
    }
}
