//! So many frames a second.

use std::time::{Duration, Instant};

/// The shortest pause: at a higher pace frames go out in small bursts, each on time.
const TICK: Duration = Duration::from_millis(1);
/// How far the replay may be behind and still catch up. Beyond, what was held up goes out late instead of all at once, which
/// those who receive it could not take.
const MAX_DELAY: Duration = Duration::from_millis(50);

/// Keeps a pace.
pub struct Pace {
    pps: u64,
    /// When the frames that are counted began.
    begin: Instant,
    sent: u64,
}

impl Pace {
    pub fn new(pps: u64, now: Instant) -> Self {
        Self { pps, begin: now, sent: 0 }
    }

    /// How many frames are due, at least one; or how long to wait for the next.
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

    /// So many were sent.
    pub fn sent(&mut self, frames: usize) {
        self.sent += frames as u64;
    }

    /// When frame number `frame` is due, after the beginning.
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
    fn the_first_goes_at_once_and_the_others_one_interval_apart() {
        let begin = Instant::now();
        let mut pace = Pace::new(10, begin);
        assert_eq!(pace.due(begin), Ok(1));
        pace.sent(1);
        assert_eq!(pace.due(begin), Err(SECOND / 10));
        assert_eq!(pace.due(begin + SECOND / 10), Ok(1));
    }

    #[test]
    fn at_a_high_pace_they_go_in_bursts() {
        let begin = Instant::now();
        let mut pace = Pace::new(1_000_000, begin);
        pace.sent(1);
        assert_eq!(pace.due(begin), Err(TICK));
        assert_eq!(pace.due(begin + TICK), Ok(1000));
    }

    #[test]
    fn what_was_held_up_for_long_does_not_go_all_at_once() {
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
