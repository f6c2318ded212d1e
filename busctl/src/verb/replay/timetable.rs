//! Frames that are due at times of a table.

use std::time::{Duration, Instant};

/// Tells how many of the next frames are due. The table has no end and no drift: each frame's time
/// counts from the first frame's.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    /// When the first frame was due; none before it.
    begin: Option<Instant>,
    /// The shortest wait.
    tick: Duration,
    /// The longest delay that is made up for; none for any. After a longer one all later frames
    /// are put off.
    max_delay: Option<Duration>,
}

impl Timetable {
    /// Makes a table by which frames go out on time each, and late ones at once.
    pub(super) fn exact() -> Self {
        Self::default()
    }

    /// Makes a table by which frames go out in small bursts, a millisecond apart. A delay of more
    /// than 50 ms is not made up for: sent all at once, the late frames would overrun receivers.
    pub(super) fn steady() -> Self {
        Self {
            begin: None,
            tick: Duration::from_millis(1),
            max_delay: Some(Duration::from_millis(50)),
        }
    }

    /// Returns how many of the next frames, of which these are the times, are due: at least one.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub(super) fn due(
        &mut self,
        mut times: impl Iterator<Item = Duration>,
        now: Instant,
    ) -> Result<usize, Duration> {
        let Some(first) = times.next() else { return Ok(0) };
        let begin = *self.begin.get_or_insert(now);
        let elapsed = now.saturating_duration_since(begin);
        if first > elapsed {
            return Err(first.saturating_sub(elapsed).max(self.tick));
        }
        let late = elapsed.saturating_sub(first);
        if let Some(delay) = self.max_delay.and_then(|max| late.checked_sub(max)) {
            self.begin = Some(begin + delay);
        }
        let elapsed = elapsed.min(self.max_delay.map_or(elapsed, |max| first.saturating_add(max)));
        Ok(1 + times.take_while(|time| *time <= elapsed).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn due(table: &mut Timetable, times: &[u64], now: Instant) -> Result<usize, Duration> {
        table.due(times.iter().map(|time| ms(*time)), now)
    }

    #[test]
    fn frames_are_due_at_their_times_however_late_the_last_one_was() {
        let begin = Instant::now();
        let mut table = Timetable::exact();
        assert_eq!(due(&mut table, &[0, 0, 10], begin), Ok(2));
        assert_eq!(due(&mut table, &[10, 20], begin + ms(4)), Err(ms(6)));
        assert_eq!(due(&mut table, &[10, 20], begin + ms(13)), Ok(1));
        assert_eq!(due(&mut table, &[20, 500, 900, 1001], begin + ms(1000)), Ok(3));
        assert_eq!(due(&mut table, &[1001], begin + ms(1000)), Err(ms(1)));
        assert_eq!(due(&mut table, &[], begin), Ok(0));
    }

    #[test]
    fn a_steady_table_is_put_off_by_a_long_delay() {
        let begin = Instant::now();
        let mut table = Timetable::steady();
        assert_eq!(due(&mut table, &[0, 1, 2], begin), Ok(1));
        assert_eq!(due(&mut table, &[1, 2], begin + Duration::from_micros(900)), Err(ms(1)));
        assert_eq!(due(&mut table, &[1, 51, 52], begin + ms(1000)), Ok(2));
        // 949 ms are lost.
        assert_eq!(due(&mut table, &[52], begin + ms(1000)), Err(ms(1)));
        assert_eq!(due(&mut table, &[52], begin + ms(1001)), Ok(1));
    }
}
