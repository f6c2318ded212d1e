//! Spaces frames at a fixed rate.

use std::time::{Duration, Instant};

/// The shortest wait. At more than 1,000 frames a second, frames go out in small bursts, each on
/// time.
const TICK: Duration = Duration::from_millis(1);
/// The longest delay that is made up for. Beyond it the schedule moves: sent all at once, the
/// delayed frames would overrun their receivers.
const MAX_DELAY: Duration = Duration::from_millis(50);

/// Tells when the next frames are due at a fixed rate.
///
/// It does not sleep and reads no clock: the caller passes the time and waits as it likes.
///
/// ```
/// use std::time::{Duration, Instant};
/// use capture::Pace;
///
/// let start = Instant::now();
/// let mut pace = Pace::new(100, start);
/// assert_eq!(pace.due(start), Ok(1));
/// pace.sent(1);
/// // The next frame is due after a hundredth of a second.
/// assert_eq!(pace.due(start), Err(Duration::from_millis(10)));
/// assert_eq!(pace.due(start + Duration::from_millis(10)), Ok(1));
/// ```
#[derive(Debug)]
pub struct Pace {
    pps: u64,
    /// When the first frame was due, moved by delays that are not made up for.
    begin: Instant,
    sent: u64,
}

impl Pace {
    /// Starts a schedule of `pps` frames a second. The first frame is due at `now`.
    ///
    /// # Panics
    /// When `pps` is 0.
    #[must_use]
    pub fn new(pps: u64, now: Instant) -> Self {
        assert!(pps > 0, "a pace of no frames a second");
        Self { pps, begin: now, sent: 0 }
    }

    /// Returns how many frames are due at `now`, at least one.
    ///
    /// A caller that is up to 50 ms late gets all frames that it missed. After a longer delay the
    /// rest of the schedule moves.
    ///
    /// # Errors
    /// How long to wait for the next frame, at least 1 ms, when none is due.
    pub fn due(&mut self, now: Instant) -> Result<usize, Duration> {
        let next = self.begin + self.time_of(self.sent);
        if let Some(late) = now.checked_duration_since(next + MAX_DELAY) {
            self.begin += late;
        }
        let elapsed = now.saturating_duration_since(self.begin);
        // The first frame is due at once, the second after one interval.
        let due = u128::from(self.pps) * elapsed.as_nanos() / 1_000_000_000 + 1;
        match u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(self.sent) {
            0 => Err(next.saturating_duration_since(now).max(TICK)),
            due => Ok(usize::try_from(due).unwrap_or(usize::MAX)),
        }
    }

    /// Records that `frames` more frames were sent.
    pub fn sent(&mut self, frames: usize) {
        self.sent += frames as u64;
    }

    /// Returns when frame number `frame`, counted from 0, is due after the start.
    fn time_of(&self, frame: u64) -> Duration {
        let nanos = u128::from(frame) * 1_000_000_000 / u128::from(self.pps);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_is_due_at_once_and_the_others_one_interval_apart() {
        let begin = Instant::now();
        let mut pace = Pace::new(10, begin);
        assert_eq!(pace.due(begin), Ok(1));
        pace.sent(1);
        assert_eq!(pace.due(begin), Err(SECOND / 10));
        assert_eq!(pace.due(begin + SECOND / 10), Ok(1));
    }

    #[test]
    fn at_a_high_rate_frames_go_out_in_bursts() {
        let begin = Instant::now();
        let mut pace = Pace::new(1_000_000, begin);
        pace.sent(1);
        assert_eq!(pace.due(begin), Err(TICK));
        assert_eq!(pace.due(begin + TICK), Ok(1000));
    }

    #[test]
    fn a_long_delay_is_not_made_up_for_all_at_once() {
        let begin = Instant::now();
        let mut pace = Pace::new(1000, begin);
        pace.sent(1);
        let late = begin + 100 * SECOND;
        let due = pace.due(late).unwrap();
        assert!(due <= 52, "{due}");
        pace.sent(due);
        assert!(pace.due(late).is_err());
        assert!(pace.due(late + SECOND / 10).is_ok());
    }

    #[test]
    fn a_long_replay_does_not_overflow() {
        let begin = Instant::now();
        let mut pace = Pace::new(u64::MAX, begin);
        assert!(pace.due(begin + SECOND / 100).is_ok());
        pace.sent(usize::MAX / 2);
        let _ = pace.due(begin + SECOND / 100);
        let mut pace = Pace::new(1, begin);
        pace.sent(usize::MAX / 2);
        assert!(pace.due(begin + SECOND).is_err());
    }
}
