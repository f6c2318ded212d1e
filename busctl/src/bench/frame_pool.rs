//! The memory of the frames that a bench sends, or receives into.
//!
//! An allocator places buffers by their size and by what the process did before. Then the same
//! measurement is faster or slower for reasons that have nothing to do with what it measures:
//!
//! - Half of the wide moves from or to a buffer that is aligned to 16 bytes cross a cache line.
//!   Copying a frame of 1,500 bytes out of a ring takes a fifth more time then.
//! - A load that agrees with an earlier store in the low 12 bits of its address looks as if it
//!   depended on it, and waits for the store. When the frames are as far apart as the buffers of
//!   the ring, modulo 4 KiB, each copy meets the same delay, or none does.
//!
//! So all frames lie in one block that begins on a page, each on a cache line of its own, an even
//! number of lines apart. The buffers of a memif ring are an odd number of lines apart, so from
//! frame to frame the distance of source and destination changes by an odd number of lines: it takes
//! each of the 64 values that it can have modulo 4 KiB equally often. What the processor loses by
//! such delays is the same for every size and in every process.

use std::slice::Chunks;

/// Bytes of a page, within which the processor compares the addresses of loads and stores.
const PAGE: usize = 4_096;
/// The distance between two frames is a multiple of this many bytes: two cache lines.
const STRIDE: usize = 128;

/// A number of frames of one length.
#[derive(Debug)]
pub(super) struct FramePool {
    bytes: Vec<u8>,
    /// Where the first frame begins: on a page.
    first: usize,
    stride: usize,
    len: usize,
}

impl FramePool {
    /// Makes `count` copies of a frame.
    pub(super) fn new(frame: &[u8], count: usize) -> Self {
        let len = frame.len();
        let stride = len.next_multiple_of(STRIDE).max(STRIDE);
        let bytes = vec![0; stride * count + PAGE];
        let first = bytes.as_ptr().addr().wrapping_neg() % PAGE;
        let mut pool = Self { bytes, first, stride, len };
        for copy in pool.frames_mut(count) {
            copy.copy_from_slice(frame);
        }
        pool
    }

    /// Returns the first `count` frames.
    pub(super) fn frames(&self, count: usize) -> Frames<'_> {
        let bytes = &self.bytes[self.first..][..count * self.stride];
        Frames { chunks: bytes.chunks(self.stride), len: self.len }
    }

    /// Returns the first `count` frames, to change them.
    pub(super) fn frames_mut(&mut self, count: usize) -> impl Iterator<Item = &mut [u8]> {
        let bytes = &mut self.bytes[self.first..][..count * self.stride];
        bytes.chunks_mut(self.stride).map(|chunk| &mut chunk[..self.len])
    }
}

/// The first frames of a pool.
#[derive(Clone, Debug)]
pub(super) struct Frames<'p> {
    chunks: Chunks<'p, u8>,
    len: usize,
}

impl<'p> Iterator for Frames<'p> {
    type Item = &'p [u8];

    #[inline]
    fn next(&mut self) -> Option<&'p [u8]> {
        self.chunks.next().map(|chunk| &chunk[..self.len])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.chunks.size_hint()
    }
}

impl ExactSizeIterator for Frames<'_> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn frames_are_copies_on_lines_of_their_own() {
        for len in [0, 22, 64, 127, 128, 129, 1_514] {
            let frame: Vec<u8> = (0..len).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
            let pool = FramePool::new(&frame, 3);
            assert_eq!((pool.frames(3).len(), pool.frames(2).count()), (3, 2));
            assert!(pool.frames(3).all(|copy| copy == frame));
            assert!(pool.frames(3).all(|copy| copy.as_ptr().addr() % STRIDE == 0));
        }
    }

    #[test]
    fn source_and_destination_meet_at_each_distance_equally_often() {
        const LINE: usize = 64;
        for len in [60, 64, 1_460, 1_500, 1_514, 1_600] {
            let pool = FramePool::new(&vec![0; len], 32);
            for ring_stride in [2_112, 1_600, 4_160] {
                let distances: BTreeSet<_> = (0..2)
                    .flat_map(|_| pool.frames(32))
                    .enumerate()
                    .map(|(slot, frame)| {
                        (slot * ring_stride).wrapping_sub(frame.as_ptr().addr()) % PAGE / LINE
                    })
                    .collect();
                assert_eq!(distances.len(), PAGE / LINE, "{len} bytes");
            }
        }
    }
}
