//! What a dump did not see, said while it goes on and at the end: a capture with holes must not look whole.

use std::time::{Duration, Instant};

use shmbus::Stats;

use crate::output;

/// How often, at most, it is said while the dump goes on.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps account of overruns.
#[derive(Default)]
pub(super) struct Missed {
    overruns: u64,
    bytes: u64,
    /// Overruns that were spoken of.
    said: u64,
    said_at: Option<Instant>,
}

impl Missed {
    /// Bytes of the ring that were missed since the last look.
    pub(super) fn look(&mut self, stats: &Stats) -> u64 {
        let missed = stats.overrun_bytes - self.bytes;
        (self.overruns, self.bytes) = (stats.overruns, stats.overrun_bytes);
        missed
    }

    /// Says it if there is something new, unless it was just said.
    pub(super) fn say_now_and_then(&mut self) {
        if self.said_at.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.say_news();
        }
    }

    /// Says at the end what is still to be said.
    pub(super) fn say(&mut self, stats: &Stats) {
        self.look(stats);
        self.say_news();
        if stats.corrupt > 0 {
            output::warn(format_args!("{} times something on the bus was no packet", stats.corrupt));
        }
    }

    fn say_news(&mut self) {
        if self.overruns > self.said {
            output::warn(format_args!(
                "the bus was faster than this dump: overtaken {} times, {} bytes of the ring missed",
                self.overruns, self.bytes
            ));
            (self.said, self.said_at) = (self.overruns, Some(Instant::now()));
        }
    }
}
