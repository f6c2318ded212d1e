//! Rings whose descriptors the caller takes and gives back in pieces, and holds in between for as long
//! as it likes: the manual counterparts of [`rx`](super::rx) and [`tx`](super::tx), where a burst ends
//! before the next.
//!
//! Descriptors are named by free-running 16-bit indexes. What the peer's descriptors say is read
//! once, checked, and kept in a table of this side's own: a peer that changes a descriptor later
//! changes nothing here.

mod rx;
mod rx_marks;
mod tx;

#[cfg(test)]
mod tests;

pub(crate) use rx::ManualRxRing;
pub(crate) use tx::ManualTxRing;
pub use tx::{Piece, Reserved};

/// The buffer of a slot, as this side knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SlotBuffer {
    pub(crate) region: u16,
    /// Where the buffer begins in its region, in bytes.
    pub(crate) offset: u32,
    /// Bytes in the buffer.
    pub(crate) size: u32,
}

impl SlotBuffer {
    /// Moves the buffer so that it holds the byte at `place` of its region, as a whole number of
    /// buffers from the beginning; returns how far into the buffer that is. The caller has checked
    /// that the region reaches so far.
    fn move_to(&mut self, place: u32) -> u32 {
        let start = place % self.size.max(1);
        self.offset = place - start;
        start
    }
}
