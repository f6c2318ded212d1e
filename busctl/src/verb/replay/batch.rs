//! Frames on their way from the file to the bus, in batches without an allocation for each frame.

use std::ops::Range;
use std::time::Duration;

/// Frames in a full batch. The bus is locked for a part of it at a time.
const FRAMES: usize = 256;

/// Frames to be sent, in order.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Placed>,
    /// How many of the frames were sent.
    sent: usize,
}

struct Placed {
    /// Where the batch has it.
    at: Range<usize>,
    offset: Duration,
}

impl Batch {
    /// Returns the frames that are not sent yet.
    pub(super) fn frames(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.frames[self.sent..].iter().map(|frame| &self.bytes[frame.at.clone()])
    }

    /// Returns when these frames were recorded, from the begin of the recording.
    pub(super) fn offsets(&self) -> impl Iterator<Item = Duration> {
        self.frames[self.sent..].iter().map(|frame| frame.offset)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.frames.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() == FRAMES
    }

    /// Removes the first `count` frames, which were sent.
    pub(super) fn take(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.frames.len());
        if self.is_empty() {
            self.bytes.clear();
            self.frames.clear();
            self.sent = 0;
        }
    }

    /// Appends a frame, to a batch that is not full.
    pub(super) fn push(&mut self, frame: &[u8], offset: Duration) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.frames.push(Placed { at: start..self.bytes.len(), offset });
    }
}
