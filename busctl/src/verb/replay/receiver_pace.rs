//! A pace that receivers keep up with.
//!
//! The bus does not wait for its readers, and does not know where they are: what a sender overwrites
//! before they read it is lost to them. A reader of ours that is awake reads faster than any sender
//! writes, but on a busy machine it waits for the processor some milliseconds, and it also does
//! something with the frames. So the ring is filled no faster than once in [`RING_TIME`].

use std::time::{Duration, Instant};

/// The shortest time in which the ring is filled once.
pub(super) const RING_TIME: Duration = Duration::from_millis(20);
/// The part of the ring that may be filled at once.
const BURST: u64 = 4;
/// How long to wait when there is no room: the time for a sixteenth of the ring.
const PAUSE: Duration = Duration::from_micros(1_250);
/// Bytes on the ring beside each frame.
const PACKET_HEADER: u64 = 24;

/// Returns the bytes that a frame takes on the ring.
pub(super) fn on_ring(frame: &[u8]) -> u64 {
    frame.len() as u64 + PACKET_HEADER
}

/// How many bytes may go onto the ring now: a token bucket.
#[derive(Debug)]
pub(super) struct ReceiverPace {
    room: u64,
    filled: Instant,
}

impl ReceiverPace {
    pub(super) fn new(now: Instant) -> Self {
        Self { room: u64::MAX, filled: now }
    }

    /// Returns how many of `frames` may be sent now on a ring of `ring` bytes, at least one.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub(super) fn due<'f>(
        &mut self,
        frames: impl Iterator<Item = &'f [u8]>,
        ring: u64,
        now: Instant,
    ) -> Result<usize, Duration> {
        let passed = now.saturating_duration_since(self.filled);
        let gained = u128::from(ring) * passed.as_nanos() / RING_TIME.as_nanos();
        let gained = u64::try_from(gained).unwrap_or(u64::MAX);
        self.room = self.room.saturating_add(gained).min(ring / BURST);
        self.filled = now;
        let mut left = self.room;
        let fits = |frame: &&[u8]| {
            let enough = left >= on_ring(frame);
            left = left.saturating_sub(on_ring(frame));
            enough
        };
        match frames.take_while(fits).count() {
            0 => Err(PAUSE),
            count => Ok(count),
        }
    }

    /// Records that so many bytes went onto the ring.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.room = self.room.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_filled_no_faster_than_receivers_read_it() {
        const RING: u64 = 1 << 20;
        let begin = Instant::now();
        let mut pace = ReceiverPace::new(begin);
        let frame = [0; 1000];
        let (mut now, mut bytes) = (begin, 0);
        while bytes < 10 * RING {
            match pace.due(std::iter::repeat_n(&frame[..], 256), RING, now) {
                Ok(count) => {
                    let sent = count as u64 * on_ring(&frame);
                    pace.sent(sent);
                    bytes += sent;
                }
                Err(pause) => now += pause,
            }
        }
        let took = now.duration_since(begin);
        assert!((9 * RING_TIME..11 * RING_TIME).contains(&took), "{took:?}");
    }

    #[test]
    fn the_longest_frame_fits_the_smallest_ring() {
        let begin = Instant::now();
        let frame = [0; shmbus::MAX_BIG_FRAME];
        let mut pace = ReceiverPace::new(begin);
        assert_eq!(pace.due([&frame[..]].into_iter(), shmbus::BUS_SIZE, begin), Ok(1));
    }
}
