//! Frames that have arrived and wait for the bus, in one buffer.

use std::ops::Range;

/// See the module.
#[derive(Debug)]
pub(super) struct Batch {
    /// The buffer. What is written to it where no frame lies is not looked at.
    pub(super) bytes: Box<[u8]>,
    frames: Vec<Range<usize>>,
    consumed: usize,
}

impl Batch {
    /// Makes a buffer of `size` bytes for `frames` frames.
    pub(super) fn new(size: usize, frames: usize) -> Self {
        Self {
            bytes: vec![0; size].into_boxed_slice(),
            frames: Vec::with_capacity(frames),
            consumed: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.consumed == self.frames.len()
    }

    /// Returns the number of frames, with those that are consumed.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns the frames that are not consumed, in order.
    pub(super) fn frames(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.frames[self.consumed..].iter().map(|range| &self.bytes[range.clone()])
    }

    /// Adds the frame in this part of the buffer.
    pub(super) fn push(&mut self, range: Range<usize>) {
        self.frames.push(range);
    }

    /// Consumes the first `count` frames.
    pub(super) fn consume(&mut self, count: usize) {
        self.consumed += count;
    }

    /// Removes all frames.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.consumed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_consumed_in_order() {
        let mut batch = Batch::new(6, 3);
        batch.bytes.copy_from_slice(b"abcdef");
        for range in [0..1, 1..3, 3..6] {
            batch.push(range);
        }
        batch.consume(1);
        assert!(batch.frames().eq([&b"bc"[..], b"def"]));
        batch.consume(2);
        assert!(batch.is_empty());
        assert_eq!(batch.len(), 3);
        batch.clear();
        assert_eq!(batch.len(), 0);
    }
}
