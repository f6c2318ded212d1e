//! The end of a reception: when a receiver has everything.

use std::time::{Duration, Instant};

use super::frames::Tally;
use super::start_stop::StartStop;

/// How long a stopped receiver waits for frames on their way.
const QUIET: Duration = Duration::from_millis(200);
/// Polls between two readings of the clock while frames come: the clock costs as much as a frame.
const POLLS_PER_CLOCK: u32 = 64;

/// The state of receiving on one queue.
#[derive(Debug)]
pub(super) struct Reception<'g> {
    start_stop: &'g StartStop,
    flowing: bool,
    polls: u32,
    quiet_since: Option<Instant>,
}

impl<'g> Reception<'g> {
    pub(super) fn new(start_stop: &'g StartStop) -> Self {
        Self { start_stop, flowing: false, polls: 0, quiet_since: None }
    }

    /// Takes the number of frames that a poll found, and returns whether the reception is over. The
    /// clock is read when the flow begins and when it stops, not for every burst.
    #[inline]
    pub(super) fn is_over(&mut self, frames: usize, tally: &mut Tally) -> bool {
        if frames > 0 {
            if !self.flowing {
                self.flowing = true;
                self.quiet_since = None;
                tally.begin();
            }
            self.polls = self.polls.wrapping_add(1);
            if !self.polls.is_multiple_of(POLLS_PER_CLOCK) {
                return false;
            }
            let over = self.is_time_over(tally);
            if over {
                tally.touch();
            }
            return over;
        }
        if self.flowing {
            self.flowing = false;
            tally.touch();
        }
        match self.start_stop {
            StartStop::User { .. } => self.is_time_over(tally),
            StartStop::Parent { .. } => {
                self.start_stop.is_stopped()
                    && self.quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET
            }
        }
    }

    fn is_time_over(&self, tally: &Tally) -> bool {
        self.start_stop
            .time()
            .is_some_and(|time| self.start_stop.is_stopped() || tally.age() >= time)
    }
}
