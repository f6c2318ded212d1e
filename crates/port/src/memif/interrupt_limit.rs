//! Limits the wake-ups that bring no packet.
//!
//! A peer shares the eventfds of its link and can keep them readable for ever: with a count that
//! reads take down by 1 only (`EFD_SEMAPHORE`), or by writing over and over. A port that sleeps on
//! them would wake for nothing all the time. So after some such wake-ups within a second it does
//! not watch them for the next second, and polls instead.

use std::time::{Duration, Instant};

/// Wake-ups without a packet within a [`PERIOD`] that are put up with. An honest peer causes one now
/// and then, when a packet was found before its interrupt.
const MAX_USELESS: u32 = 64;
/// How long wake-ups are counted, and how long the eventfds are not watched then.
const PERIOD: Duration = Duration::from_secs(1);

/// Whether the eventfds of a link are worth watching.
#[derive(Debug)]
pub(super) struct InterruptLimit {
    /// Useless wake-ups in this period.
    useless: u32,
    /// When this period began.
    since: Instant,
    /// Whether the eventfds are ignored in this period.
    ignored: bool,
}

impl InterruptLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self { useless: 0, since: now, ignored: false }
    }

    /// Counts a wake-up that brought no packet.
    pub(super) fn note_useless(&mut self, now: Instant) {
        if self.ignored {
            return;
        }
        if now.saturating_duration_since(self.since) >= PERIOD {
            (self.useless, self.since) = (0, now);
        }
        self.useless += 1;
        if self.useless >= MAX_USELESS {
            (self.ignored, self.since) = (true, now);
        }
    }

    /// Returns whether there is something to decide. Without a hostile peer there is not.
    pub(super) fn is_limited(&self) -> bool {
        self.ignored
    }

    /// Returns whether the eventfds should be watched at `now`.
    pub(super) fn may_watch(&self, now: Instant) -> bool {
        !self.ignored || now.saturating_duration_since(self.since) >= PERIOD
    }

    /// Begins to count anew, when the eventfds are watched again.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self::new(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_wakes_for_nothing_is_ignored_every_other_second() {
        let start = Instant::now();
        let mut limit = InterruptLimit::new(start);
        let (mut woken, mut watched) = (0, true);
        for micros in (0..10_000_000).step_by(100) {
            let now = start + Duration::from_micros(micros);
            if !watched && limit.may_watch(now) {
                limit.restart(now);
            }
            watched = limit.may_watch(now);
            if watched {
                woken += 1;
                limit.note_useless(now);
            }
        }
        assert!((64 * 9..=64 * 10).contains(&woken), "{woken} wake-ups in 10 s");
    }

    #[test]
    fn rare_ones_are_put_up_with() {
        let start = Instant::now();
        let mut limit = InterruptLimit::new(start);
        for millis in (0..60_000).step_by(20) {
            let now = start + Duration::from_millis(millis);
            limit.note_useless(now);
            assert!(limit.may_watch(now));
        }
    }
}
