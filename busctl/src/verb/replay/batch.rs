//! Frames on their way from the file to the bus, in batches without an allocation for each frame.

use shmbus::MAX_FRAME;

/// Frames in a full batch. The bus is locked for a part of it at a time.
const FRAMES: usize = 256;

/// A frame that fits the bus.
#[derive(Clone)]
pub(super) struct Frame {
    bytes: [u8; MAX_FRAME],
    len: usize,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Frames to be sent, in order.
pub(super) struct Batch {
    slots: Box<[Frame]>,
    taken: usize,
    filled: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let slots = vec![Frame { bytes: [0; MAX_FRAME], len: 0 }; FRAMES].into_boxed_slice();
        Self { slots, taken: 0, filled: 0 }
    }

    /// Returns the frames that are not sent yet.
    pub(super) fn frames(&self) -> &[Frame] {
        &self.slots[self.taken..self.filled]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.filled
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == self.slots.len()
    }

    /// Removes the first `count` frames, which were sent.
    pub(super) fn take(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.filled);
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
    }

    /// Appends a frame, to a batch that is not full, of at most [`MAX_FRAME`] bytes.
    pub(super) fn push(&mut self, frame: &[u8]) {
        let slot = &mut self.slots[self.filled];
        slot.bytes[..frame.len()].copy_from_slice(frame);
        slot.len = frame.len();
        self.filled += 1;
    }
}
