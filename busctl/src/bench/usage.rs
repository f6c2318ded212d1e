//! How much processor time a process takes for what it does.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

/// The time since a moment.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    begin: Instant,
    cpu: Duration,
}

/// A time, and how much of it all threads of the process were on a processor, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
}

impl Meter {
    pub(super) fn start() -> anyhow::Result<Self> {
        let cpu = cpu().context("cannot ask for the processor time")?;
        Ok(Self { begin: Instant::now(), cpu })
    }

    pub(super) fn read(&self) -> Usage {
        // It was to be had before.
        let cpu = cpu().unwrap_or(self.cpu);
        Usage { wall: self.begin.elapsed(), cpu: cpu.saturating_sub(self.cpu) }
    }
}

fn cpu() -> nix::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_sleep_is_not() {
        let meter = Meter::start().expect("a meter");
        std::thread::sleep(Duration::from_millis(20));
        let asleep = meter.read();
        assert!(asleep.wall >= Duration::from_millis(20), "{asleep:?}");
        // Other tests of this process may be at work meanwhile: only that work counts can be told.
        while meter.read().cpu <= asleep.cpu {
            std::hint::black_box((0..10_000_u64).sum::<u64>());
        }
    }
}
