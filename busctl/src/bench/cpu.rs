//! The CPU of a measuring process: where its threads run, how they wait, and how much time they
//! use.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Empty polls before the CPU is yielded.
const SPINS: u32 = 100;

/// Pins this thread to the `index`-th CPU it may run on, counted modulo their number, so that two
/// processes that are measured do not share one by chance. Where that is not possible the thread
/// stays where it is: the measurement is only less steady.
pub(super) fn pin(index: usize) {
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return };
    let allowed: Vec<usize> =
        (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let mut set = CpuSet::new();
    if !allowed.is_empty() && set.set(allowed[index % allowed.len()]).is_ok() {
        let _ = sched_setaffinity(this, &set);
    }
}

/// Waits for the other process without keeping it from the CPU: spins first, then yields.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// Notes how many frames the last poll found. Waits a moment when several polls in a row were
    /// empty.
    #[inline]
    pub(super) fn note(&mut self, frames: usize) {
        if frames > 0 {
            self.0 = 0;
        } else if self.0 < SPINS {
            self.0 += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// Measures the time since it was started.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    begin: Instant,
    cpu: Duration,
}

/// Wall time, and the CPU time of all threads of the process in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
}

impl Meter {
    pub(super) fn start() -> anyhow::Result<Self> {
        let cpu = cpu_time().context("cannot read the CPU time")?;
        Ok(Self { begin: Instant::now(), cpu })
    }

    pub(super) fn read(&self) -> Usage {
        // It was readable at the start.
        let cpu = cpu_time().unwrap_or(self.cpu);
        Usage { wall: self.begin.elapsed(), cpu: cpu.saturating_sub(self.cpu) }
    }
}

fn cpu_time() -> nix::Result<Duration> {
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
        // Other tests of this process may run at the same time: the test can tell only that work
        // counts.
        while meter.read().cpu <= asleep.cpu {
            std::hint::black_box((0..10_000_u64).sum::<u64>());
        }
    }
}
