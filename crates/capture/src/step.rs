//! What a format finds when it reads on.

use std::ops::Range;

/// The number of Ethernet in the registry of link types.
pub(crate) const ETHERNET: u16 = 1;

/// A frame with more bytes than this is damage, as in Wireshark.
pub(crate) const MAX_PLAUSIBLE: u32 = 128 << 20;

/// Why a frame of [`MAX_PLAUSIBLE`] bytes is damage.
pub(crate) const IMPLAUSIBLE: &str = "its length is more than 128 MiB";

/// The next thing in a capture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame, at this place in the input. The next step drops it.
    Frame {
        at: Range<usize>,
        /// The frame's bytes on the wire, as the capture says.
        original: u32,
    },
    /// A frame that is of no use here.
    Skipped(Why),
    /// The end, with so many bytes behind the last frame, too few for another.
    End { trailing: usize },
}

/// Why a frame is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is of this link type.
    OtherLink(u16),
    /// The capture does not describe its interface.
    NoInterface,
    /// It is longer than the buffer.
    Giant,
}
