//! The format pcap: a header, and frames with a header each.
//!
//! The link type, the layout of the frames' headers and the lengths in them are all that a reader
//! needs. The rest (versions, `snaplen`, times) has no wrong value.

use std::io::Read;

use crate::error::CaptureError;
use crate::input::{Input, MAX_CAPTURED, Order};
use crate::step::{ETHERNET, IMPLAUSIBLE, MAX_PLAUSIBLE, Step, Why};

/// Bytes of the file's header.
pub(crate) const HEADER: usize = 24;

/// The magic of files with times in microseconds, and in nanoseconds.
const MAGIC: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
/// The magic of files whose frames have 8 more bytes of header: interface, protocol, type.
const MODIFIED_MAGIC: u32 = 0xa1b2_cd34;

/// The major version that AIX writes.
const AIX: u16 = 543;

/// A capture whose header was read.
#[derive(Debug)]
pub(crate) struct Pcap {
    order: Order,
    /// Bytes of a frame's header.
    record: usize,
    lengths: Lengths,
    /// Bytes to drop before the next frame.
    left: u64,
}

/// Which of the two lengths of a frame comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    /// Old programs and AIX wrote the length on the wire first.
    OriginalFirst,
    /// Files of version 2.3 have either order: a frame is captured no longer than it was.
    SmallerIsCaptured,
}

impl Pcap {
    /// Returns whether a file that begins with these 4 bytes is a pcap.
    pub(crate) fn is_magic(magic: &[u8]) -> bool {
        Self::record_of(magic).is_some()
    }

    /// Returns the byte order, and the size of a frame's header, that the magic stands for.
    fn record_of(magic: &[u8]) -> Option<(Order, usize)> {
        [Order::Little, Order::Big].into_iter().find_map(|order| match order.u32(magic, 0) {
            MODIFIED_MAGIC => Some((order, 24)),
            number => MAGIC.contains(&number).then_some((order, 16)),
        })
    }

    /// Reads the header of a file, of [`HEADER`] bytes.
    ///
    /// # Errors
    /// When the magic is none, and when the frames are not Ethernet.
    pub(crate) fn parse(header: &[u8]) -> Result<Self, CaptureError> {
        let (order, record) = Self::record_of(header).ok_or(CaptureError::NotACapture)?;
        let lengths = match (order.u16(header, 4), order.u16(header, 6)) {
            (2, 3) => Lengths::SmallerIsCaptured,
            (2, ..3) | (AIX, _) => Lengths::OriginalFirst,
            _ => Lengths::CapturedFirst,
        };
        // The upper half has the length of check sequences, and bits without a meaning.
        let [.., high, low] = order.u32(header, 20).to_be_bytes();
        match u16::from_be_bytes([high, low]) {
            ETHERNET => Ok(Self { order, record, lengths, left: HEADER as u64 }),
            link => Err(CaptureError::LinkType(link)),
        }
    }

    /// Finds the next frame, which has this number.
    pub(crate) fn next<R: Read>(
        &mut self,
        input: &mut Input<R>,
        number: u64,
    ) -> Result<Step, CaptureError> {
        if !input.skip(&mut self.left)? {
            return Err(CaptureError::Truncated(number));
        }
        let record = self.record;
        if !input.fill(record)? {
            return Ok(Step::End { trailing: input.bytes().len() });
        }
        let lengths = [8, 12].map(|at| self.order.u32(input.bytes(), at));
        let [captured, original] = match (self.lengths, lengths) {
            (Lengths::CapturedFirst, lengths) => lengths,
            (Lengths::OriginalFirst, [original, captured]) => [captured, original],
            (Lengths::SmallerIsCaptured, [one, two]) => [one.min(two), one.max(two)],
        };
        if captured > MAX_PLAUSIBLE {
            return Err(CaptureError::Damaged { frame: number, why: IMPLAUSIBLE });
        }
        let whole = record + captured as usize;
        if captured as usize > MAX_CAPTURED {
            self.left = whole as u64;
            return Ok(Step::Skipped(Why::Giant));
        }
        if !input.fill(whole)? {
            return Err(CaptureError::Truncated(number));
        }
        self.left = whole as u64;
        Ok(Step::Frame { at: record..whole, original })
    }
}
