//! Where on the time line of a recording a frame is.

use std::time::Duration;

/// A longer step back is a clock that was set, and no disorder of frames.
const DISORDER: Duration = Duration::from_secs(1);

/// Places frames on one time line, by the times of the capture.
///
/// Captures of several interfaces have frames out of order by a little: such a frame is placed where
/// the one before it is. When the clock was set back, the time line continues from there.
#[derive(Debug, Default)]
pub(super) struct Recording {
    /// The place of the latest frame.
    offset: Duration,
    /// The capture's time of that place; none before the first frame of a round.
    time: Option<Duration>,
}

impl Recording {
    /// Returns the place of the next frame. A frame without a time is where the one before it is.
    pub(super) fn place(&mut self, time: Option<Duration>) -> Duration {
        let Some(time) = time else { return self.offset };
        let before = *self.time.get_or_insert(time);
        if time >= before || before.abs_diff(time) > DISORDER {
            self.offset = self.offset.saturating_add(time.saturating_sub(before));
            self.time = Some(time);
        }
        self.offset
    }

    /// Has the next frame be where the latest one is: another round begins.
    pub(super) fn begin_again(&mut self) {
        self.time = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(times: &[u64]) -> Vec<u64> {
        let mut recording = Recording::default();
        let millis = |time: &u64| recording.place(Some(Duration::from_millis(*time))).as_millis();
        times.iter().map(millis).map(|place| u64::try_from(place).unwrap()).collect()
    }

    #[test]
    fn the_first_frame_is_at_the_begin_and_gaps_are_kept() {
        assert_eq!(places(&[5000, 5000, 5010, 9000]), [0, 0, 10, 4000]);
    }

    #[test]
    fn a_little_disorder_moves_nothing_and_a_set_clock_costs_nothing() {
        assert_eq!(places(&[10, 20, 15, 30]), [0, 10, 10, 20]);
        assert_eq!(places(&[5000, 6000, 100, 200]), [0, 1000, 1000, 1100]);
    }

    #[test]
    fn rounds_follow_each_other() {
        let mut recording = Recording::default();
        let ms = Duration::from_millis;
        assert_eq!([7, 9].map(|time| recording.place(Some(ms(time)))), [ms(0), ms(2)]);
        recording.begin_again();
        assert_eq!([7, 9].map(|time| recording.place(Some(ms(time)))), [ms(2), ms(4)]);
        assert_eq!(recording.place(None), ms(4));
        assert_eq!(recording.place(Some(Duration::MAX)), Duration::MAX.saturating_sub(ms(5)));
        assert_eq!(recording.place(Some(ms(0))), Duration::MAX.saturating_sub(ms(5)));
    }
}
