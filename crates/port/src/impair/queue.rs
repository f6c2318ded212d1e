//! Copies of frames that wait until they are due.
//!
//! No delayed frame is due before an earlier one, so two queues in order of their frames are
//! enough: one of the delayed frames, and one of those that are sent past them.

use std::collections::VecDeque;
use std::time::Instant;

/// The most bytes that wait in one direction.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// How many buffers of frames are kept for later frames.
const MAX_SPARE: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    prompt: VecDeque<Waiting>,
    delayed: VecDeque<Waiting>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Waiting {
    frame: Vec<u8>,
    due: Instant,
}

impl Queue {
    /// Returns how many frames wait.
    pub(super) fn len(&self) -> usize {
        self.prompt.len() + self.delayed.len()
    }

    /// Returns whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.prompt.is_empty() && self.delayed.is_empty()
    }

    /// Returns whether a frame of `len` bytes has room where at most `limit` frames wait.
    pub(super) fn has_room(&self, len: usize, limit: usize) -> bool {
        self.len() < limit && self.bytes + len <= MAX_BYTES
    }

    /// Copies a frame, which is due after all delayed ones unless it `is_prompt`. Returns the copy.
    pub(super) fn push(&mut self, bytes: &[u8], due: Instant, is_prompt: bool) -> &mut [u8] {
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.extend_from_slice(bytes);
        self.bytes += frame.len();
        let queue = if is_prompt { &mut self.prompt } else { &mut self.delayed };
        queue.push_back(Waiting { frame, due });
        queue.back_mut().map_or(&mut [], |waiting| &mut waiting.frame)
    }

    /// Returns when the next frame is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<Waiting>| queue.front().map(|waiting| waiting.due);
        [first(&self.prompt), first(&self.delayed)].into_iter().flatten().min()
    }

    /// Returns the frames that are due, in order.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &[u8]> + Clone {
        let is_due = move |waiting: &&Waiting| waiting.due <= now;
        let prompt = self.prompt.iter().take_while(is_due);
        prompt.chain(self.delayed.iter().take_while(is_due)).map(|waiting| &waiting.frame[..])
    }

    /// Removes the first `count` frames.
    pub(super) fn remove(&mut self, count: usize) {
        for _ in 0..count {
            let Some(waiting) = self.prompt.pop_front().or_else(|| self.delayed.pop_front()) else {
                return;
            };
            let mut frame = waiting.frame;
            self.bytes -= frame.len();
            if self.spare.len() < MAX_SPARE {
                frame.clear();
                self.spare.push(frame);
            }
        }
    }

    /// Removes all frames.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_leave_in_order_when_they_are_due() {
        let (mut queue, begin) = (Queue::default(), Instant::now());
        let at = |millis| begin + Duration::from_millis(millis);
        for number in 0..10 {
            queue.push(&[number; 60], at(u64::from(number)), false);
        }
        let due = |queue: &Queue, now| queue.due(now).map(|frame| frame[0]).collect::<Vec<u8>>();
        assert_eq!((queue.next_due(), due(&queue, at(2))), (Some(at(0)), vec![0, 1, 2]));
        queue.remove(2);
        queue.push(&[77; 60], at(1), true);
        assert_eq!((queue.next_due(), due(&queue, at(2))), (Some(at(1)), vec![77, 2]));
        queue.remove(2);
        assert_eq!((queue.len(), due(&queue, at(100))), (7, vec![3, 4, 5, 6, 7, 8, 9]));
        queue.remove(100);
        assert!(queue.is_empty() && queue.next_due().is_none() && queue.bytes == 0);
    }

    #[test]
    fn room_is_bounded_by_frames_and_by_bytes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        while queue.has_room(60, 1_000) {
            queue.push(&[0; 60], now, false);
        }
        assert_eq!(queue.len(), 1_000);
        queue.clear();
        let long = vec![0; 60_000];
        while queue.has_room(long.len(), usize::MAX) {
            queue.push(&long, now, false);
        }
        assert_eq!(queue.len(), MAX_BYTES / long.len());
        queue.remove(1);
        assert!(queue.has_room(long.len(), usize::MAX));
    }
}
