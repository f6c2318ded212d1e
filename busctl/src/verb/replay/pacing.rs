//! When the frames of a capture are sent.

use std::time::{Duration, Instant};

use capture::Pace;

use super::batch::Batch;
use super::receiver_pace::ReceiverPace;
use super::timetable::Timetable;

/// What the user asks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speed {
    /// So many frames a second.
    Frames(u64),
    /// So many bits a second.
    Bits(f64),
    /// So many times as fast as they were recorded.
    Recorded(f64),
    /// As fast as receivers keep up.
    Receivers,
    /// As fast as the bus takes them.
    Top,
}

/// Tells when the next frames are due.
pub(super) enum Pacing {
    Frames(Pace),
    Bits {
        table: Timetable,
        rate: f64,
        /// Bits that were sent.
        sent: u64,
    },
    Recorded {
        table: Timetable,
        factor: f64,
    },
    Receivers(ReceiverPace),
    Top,
}

impl Pacing {
    /// Begins with the first frame at `now`, or when it is asked for.
    pub(super) fn new(speed: Speed, now: Instant) -> Self {
        match speed {
            Speed::Frames(pps) => Self::Frames(Pace::new(pps, now)),
            Speed::Bits(rate) => Self::Bits { table: Timetable::steady(), rate, sent: 0 },
            Speed::Recorded(factor) => Self::Recorded { table: Timetable::exact(), factor },
            Speed::Receivers => Self::Receivers(ReceiverPace::new(now)),
            Speed::Top => Self::Top,
        }
    }

    /// Returns how many frames of a batch that is not empty may be sent now, at least one, on a
    /// ring of `ring` bytes.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub(super) fn due(
        &mut self,
        batch: &Batch,
        ring: u64,
        now: Instant,
    ) -> Result<usize, Duration> {
        match self {
            Self::Frames(pace) => pace.due(now),
            Self::Bits { table, rate, sent } => {
                let times = batch.frames().scan(*sent, |bits, frame| {
                    let time = seconds(*bits as f64 / *rate);
                    *bits += frame.len() as u64 * 8;
                    Some(time)
                });
                table.due(times, now)
            }
            Self::Recorded { table, factor } => {
                table.due(batch.offsets().map(|time| seconds(time.as_secs_f64() / *factor)), now)
            }
            Self::Receivers(pace) => pace.due(batch.frames(), ring, now),
            Self::Top => Ok(usize::MAX),
        }
    }

    /// Records frames that were sent, their bytes, and those that they take on the ring.
    pub(super) fn sent(&mut self, frames: usize, bytes: u64, on_ring: u64) {
        match self {
            Self::Frames(pace) => pace.sent(frames),
            Self::Bits { sent, .. } => *sent += bytes * 8,
            Self::Receivers(pace) => pace.sent(on_ring),
            Self::Recorded { .. } | Self::Top => {}
        }
    }
}

/// Returns a time that may be longer than there is.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_recorded_times_tell_how_many_frames_are_due() {
        let mut batch = Batch::default();
        for offset in [0, 10, 20, 20] {
            batch.push(&[0; 125], Duration::from_millis(offset));
        }
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        // A frame of 1,000 bits each 2 ms.
        let mut pacing = Pacing::new(Speed::Bits(500_000.0), begin);
        assert_eq!(pacing.due(&batch, 1 << 20, begin), Ok(1));
        assert_eq!(pacing.due(&batch, 1 << 20, at(4)), Ok(3));
        pacing.sent(2, 250, 300);
        assert_eq!(pacing.due(&batch, 1 << 20, at(3)), Err(Duration::from_millis(1)));

        let mut twice = Pacing::new(Speed::Recorded(2.0), begin);
        assert_eq!(twice.due(&batch, 1 << 20, begin), Ok(1));
        assert_eq!(twice.due(&batch, 1 << 20, at(5)), Ok(2));
        assert_eq!(twice.due(&batch, 1 << 20, at(10)), Ok(4));
        let mut never = Pacing::new(Speed::Recorded(f64::MIN_POSITIVE), begin);
        assert_eq!(never.due(&batch, 1 << 20, at(10)), Ok(1));
    }
}
