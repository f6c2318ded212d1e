//! A sample of the frames on a bus, which shows whether frames go round.
//!
//! On a loop through a port, one frame comes from its peer again and again, and the same frame
//! comes from other stations, too: it goes round in both directions. A program that sends one frame
//! over and over is no loop, and neither are two that each send their own.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

/// The copies of one frame from each side that count as a loop.
const MIN_COPIES: u32 = 4;
/// The most frames of a sample.
const MAX_FRAMES: u32 = 1_024;

/// What a sample has shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// More frames are needed.
    Open,
    /// Frames do not go round.
    Clean,
    /// Frames seem to go round.
    Suspicious,
}

/// Where a frame came from, and a hash of its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    /// Whether it came from the port's own peer.
    pub(super) is_own: bool,
    pub(super) hash: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// How often each frame came from the port's own peer, and from other stations.
    copies: HashMap<u64, [u32; 2]>,
    frames: u32,
}

impl Sample {
    /// Forgets all frames.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds a frame.
    pub(super) fn add(&mut self, print: Print) -> Finding {
        self.frames += 1;
        let copies = self.copies.entry(print.hash).or_default();
        copies[usize::from(print.is_own)] += 1;
        if copies.iter().all(|count| *count >= MIN_COPIES) {
            Finding::Suspicious
        } else if self.frames >= MAX_FRAMES {
            Finding::Clean
        } else {
            Finding::Open
        }
    }
}

/// Makes the prints of frames. Each has its own secret, so that no station can make frames that look
/// alike.
#[derive(Debug, Default)]
pub(super) struct Printer(RandomState);

impl Printer {
    /// Returns the print of a frame that begins with these bytes.
    pub(super) fn print(&self, is_own: bool, bytes: &[u8]) -> Print {
        Print { is_own, hash: self.0.hash_one(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_COPIES_OF_A_GENERATOR: u32 = 500;

    #[test]
    fn only_a_frame_from_both_sides_is_suspicious() {
        let printer = Printer::default();
        let mut sample = Sample::default();
        for number in 0..MAX_COPIES_OF_A_GENERATOR {
            let print = printer.print(true, b"one and the same");
            assert_eq!(sample.add(print), Finding::Open, "{number}");
            let print = printer.print(false, b"that of another");
            assert_eq!(sample.add(print), Finding::Open, "{number}");
        }
        let again = printer.print(false, b"one and the same");
        let findings: Vec<Finding> = (0..MIN_COPIES).map(|_| sample.add(again)).collect();
        assert_eq!(findings.last(), Some(&Finding::Suspicious));
    }

    #[test]
    fn a_sample_ends() {
        let printer = Printer::default();
        let mut sample = Sample::default();
        let findings: Vec<Finding> = (0..MAX_FRAMES)
            .map(|number| sample.add(printer.print(number % 2 == 0, &number.to_ne_bytes())))
            .collect();
        let (last, rest) = findings.split_last().expect("some");
        assert!(*last == Finding::Clean && rest.iter().all(|finding| *finding == Finding::Open));
    }
}
