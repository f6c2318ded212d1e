//! How long to poll before a sleep.

use std::time::Duration;

/// What [`Station::wait`](crate::Station::wait) and [`Tap::wait`](crate::Tap::wait) do while there
/// is nothing to read.
///
/// A sleep costs no CPU time, and a wake-up takes some microseconds. Polling keeps a CPU busy, and
/// finds frames within a fraction of a microsecond; it yields the CPU now and then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitMode {
    /// Sleeps at once.
    #[default]
    Sleep,
    /// Polls for this long, then sleeps. With [`Duration::MAX`] it never sleeps.
    Poll(Duration),
    /// Polls for this long at most: only for as long as that paid off lately. When frames come at
    /// shorter intervals than this, it soon polls until they do; when they do not, it soon sleeps
    /// at once.
    Adaptive(Duration),
}

/// A reader's wait mode, and what it has learned.
#[derive(Debug, Default)]
pub(crate) struct BusyPoll {
    mode: WaitMode,
    /// How long to poll in adaptive mode.
    learned: Duration,
}

/// The first time that is worth polling for: about what a sleep costs.
const FIRST: Duration = Duration::from_micros(8);

impl BusyPoll {
    pub(crate) fn new(mode: WaitMode) -> Self {
        Self { mode, learned: Duration::ZERO }
    }

    /// How long to poll before the next sleep.
    pub(crate) fn time(&self) -> Duration {
        match self.mode {
            WaitMode::Sleep => Duration::ZERO,
            WaitMode::Poll(time) => time,
            WaitMode::Adaptive(_) => self.learned,
        }
    }

    /// Learns from how long a wait took.
    pub(crate) fn learn(&mut self, waited: Duration) {
        let WaitMode::Adaptive(most) = self.mode else { return };
        if waited > most {
            // It polled in vain.
            self.learned = if self.learned <= FIRST { Duration::ZERO } else { self.learned / 2 };
        } else if waited > self.learned {
            // It slept, and polling a little longer would have done.
            self.learned = (self.learned * 2).max(FIRST).min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(100);

    fn after(waits: &[(usize, Duration)]) -> Duration {
        let mut busy_poll = BusyPoll::new(WaitMode::Adaptive(MOST));
        for (times, waited) in waits {
            for _ in 0..*times {
                busy_poll.learn(*waited);
                assert!(busy_poll.time() <= MOST);
            }
        }
        busy_poll.time()
    }

    #[test]
    fn short_waits_are_polled_and_long_ones_slept() {
        let (short, long) = (Duration::from_micros(30), Duration::from_millis(1));
        assert_eq!(after(&[]), Duration::ZERO);
        assert!(after(&[(3, short)]) >= short);
        assert!(after(&[(100, short)]) < MOST, "no longer than is needed");
        assert_eq!(after(&[(100, MOST)]), MOST);
        assert_eq!(after(&[(100, MOST), (5, long)]), Duration::ZERO);
        assert_eq!(after(&[(100, long)]), Duration::ZERO);
        // One long wait among short ones does not make it forget.
        assert!(after(&[(10, short), (1, long), (1, short)]) >= short);
    }

    #[test]
    fn the_other_modes_do_not_learn() {
        for mode in [WaitMode::Sleep, WaitMode::Poll(MOST)] {
            let mut busy_poll = BusyPoll::new(mode);
            let before = busy_poll.time();
            busy_poll.learn(Duration::from_micros(1));
            busy_poll.learn(Duration::from_secs(1));
            assert_eq!(busy_poll.time(), before);
        }
    }
}
