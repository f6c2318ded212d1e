//! Frames with sequence numbers, and a tally of those that arrive.

use std::time::{Duration, Instant};

use port::PROBE_ETHERTYPE;
use serde::{Deserialize, Serialize};

use super::Load;
use super::frame_pool::{FramePool, Frames};
use super::start_stop::StartStop;

/// Offset of the sequence number, behind the Ethernet header.
pub(super) const SEQUENCE: usize = 14;
/// Headers and sequence number.
pub(super) const MIN_FRAME: usize = SEQUENCE + 8;

/// Broadcast, from a local address, with the type that IEEE reserves for experiments.
pub(super) const HEADER: [u8; SEQUENCE] =
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];

/// Shorter pauses are polled: a sleep is not more exact.
const SHORT: Duration = Duration::from_micros(200);

/// How much longer than the sending time a peer may take to offer room for the first frame.
const FIRST_SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Generates bursts of numbered frames at a given rate.
#[derive(Debug)]
pub(super) struct Generator<'g> {
    load: Load,
    start_stop: &'g StartStop,
    burst: FramePool,
    /// The number of the next frame.
    next: u64,
    /// When the first frame was sent. A peer that has just connected may offer no room for a while.
    began: Option<Instant>,
    /// When the generator was made.
    created: Instant,
    polls: u32,
}

impl<'g> Generator<'g> {
    pub(super) fn new(load: Load, start_stop: &'g StartStop) -> Self {
        let mut frame = vec![0; load.frame];
        frame[..SEQUENCE].copy_from_slice(&HEADER);
        Self {
            load,
            start_stop,
            burst: FramePool::new(&frame, load.burst),
            next: 0,
            began: None,
            created: Instant::now(),
            polls: 0,
        }
    }

    /// Returns the frames to send next: an empty burst when none is due yet, `None` when all are
    /// sent.
    pub(super) fn next_burst(&mut self) -> Option<Frames<'_>> {
        // The clock costs as much as a frame: without a rate it is not read for every burst.
        self.polls = self.polls.wrapping_add(1);
        let mut due = self.load.burst;
        if self.load.pps.is_some() || self.polls.is_multiple_of(16) {
            let elapsed = self.elapsed();
            let no_peer = self.began.is_none()
                && self.created.elapsed() >= self.load.time + FIRST_SEND_TIMEOUT;
            let over = elapsed >= self.load.time || no_peer;
            if self.load.count.is_none() && over || self.start_stop.is_stopped() {
                return None;
            }
            if let Some(pps) = self.load.pps {
                // The first frame is due at once.
                let allowed = elapsed.as_nanos() * u128::from(pps) / 1_000_000_000 + 1;
                let allowed = allowed.saturating_sub(self.next.into());
                due = usize::try_from(allowed).unwrap_or(due).min(due);
            }
        }
        if let Some(count) = self.load.count {
            let left = count - self.next;
            if left == 0 {
                return None;
            }
            due = due.min(usize::try_from(left).unwrap_or(due));
        }
        for (frame, number) in self.burst.frames_mut(due).zip(self.next..) {
            frame[SEQUENCE..MIN_FRAME].copy_from_slice(&number.to_be_bytes());
        }
        Some(self.burst.frames(due))
    }

    /// Returns the time since the first frame was sent.
    fn elapsed(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// Sleeps until the next frame is due, unless the pause is too short for that.
    pub(super) fn rest(&self) {
        let Some(pps) = self.load.pps else { return };
        let due = Duration::from_nanos(self.next.saturating_mul(1_000_000_000) / pps);
        if let Some(pause) = due.checked_sub(self.elapsed()).filter(|pause| *pause >= SHORT) {
            std::thread::sleep(pause);
        }
    }

    /// Notes that the first `frames` of the latest burst were sent.
    pub(super) fn sent(&mut self, frames: usize) {
        if self.began.is_none() && frames > 0 {
            self.began = Some(Instant::now());
        }
        self.next += frames as u64;
    }

    pub(super) fn result(&self) -> Sent {
        Sent { frames: self.next, time: self.elapsed() }
    }
}

/// What a sender reports.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) frames: u64,
    /// The time since the first frame.
    pub(super) time: Duration,
}

/// What a receiver counts.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) received: u64,
    /// Sequence numbers that were skipped.
    pub(super) gaps: u64,
    pub(super) misordered: u64,
    /// Frames without a number, from other programs.
    pub(super) foreign: u64,
    /// The number that is expected next.
    pub(super) expected: u64,
    /// The time between the first and the last frame.
    pub(super) time: Duration,
    #[serde(skip)]
    first: Option<Instant>,
}

impl Tally {
    /// Counts a received frame, of which the first [`MIN_FRAME`] bytes are enough.
    #[inline]
    pub(super) fn count(&mut self, frame: &[u8]) {
        let number = match frame.split_first_chunk::<SEQUENCE>() {
            Some((&HEADER, rest)) => rest.first_chunk().map(|number| u64::from_be_bytes(*number)),
            _ => None,
        };
        let Some(number) = number else {
            // Nodes send probes for loops now and then, to all.
            if frame.get(12..14) != Some(&PROBE_ETHERTYPE) {
                self.foreign += 1;
            }
            return;
        };
        if number < self.expected {
            self.misordered += 1;
            return;
        }
        self.received += 1;
        self.gaps += number - self.expected;
        self.expected = number + 1;
    }

    /// Notes the time of the first frame.
    pub(super) fn begin(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    /// Returns the time since the first frame.
    pub(super) fn age(&self) -> Duration {
        self.first.map_or(Duration::ZERO, |first| first.elapsed())
    }

    /// Notes the time of the latest frame.
    pub(super) fn touch(&mut self) {
        self.time = self.age();
    }

    /// Returns how many of `sent` frames did not arrive.
    pub(super) fn lost(&self, sent: u64) -> u64 {
        self.gaps + sent.saturating_sub(self.expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(count: u64) -> Load {
        Load { frame: 64, burst: 4, time: Duration::from_secs(9), count: Some(count), pps: None }
    }

    #[test]
    fn what_is_sent_is_received_or_lost() {
        let start_stop = StartStop::of_parent();
        let mut generator = Generator::new(load(10), &start_stop);
        let mut tally = Tally::default();
        let mut number = 0;
        while let Some(burst) = generator.next_burst() {
            let frames = burst.len();
            for frame in burst {
                // Frames 0, 5 and 9 do not arrive.
                if ![0, 5, 9].contains(&number) {
                    tally.count(frame);
                }
                number += 1;
            }
            generator.sent(frames);
        }
        assert_eq!(generator.result().frames, 10);
        assert_eq!((tally.received, tally.misordered, tally.lost(10)), (7, 0, 3));
    }

    #[test]
    fn a_peer_that_never_has_room_is_given_up() {
        let start_stop = StartStop::of_parent();
        let mut generator = Generator::new(Load { count: None, ..load(0) }, &start_stop);
        assert!((0..16).all(|_| generator.next_burst().is_some()));
        generator.created = generator
            .created
            .checked_sub(Duration::from_secs(9) + FIRST_SEND_TIMEOUT)
            .expect("up for longer");
        assert!((0..16).any(|_| generator.next_burst().is_none()));
        assert_eq!(generator.result().frames, 0);
    }

    #[test]
    fn a_frame_that_comes_twice_is_no_new_one() {
        let start_stop = StartStop::of_parent();
        let mut generator = Generator::new(load(4), &start_stop);
        let frames: Vec<_> =
            generator.next_burst().expect("four frames").map(<[u8]>::to_vec).collect();
        let mut tally = Tally::default();
        for frame in [&frames[0], &frames[1], &frames[1], &frames[0], &frames[2]] {
            tally.count(frame);
        }
        tally.count(&[0; 60]);
        tally.count(&HEADER);
        let mut probe = [0; 60];
        probe[12..14].copy_from_slice(&PROBE_ETHERTYPE);
        tally.count(&probe);
        assert_eq!((tally.received, tally.misordered, tally.lost(4)), (3, 2, 1));
        assert_eq!(tally.foreign, 2);
    }
}
