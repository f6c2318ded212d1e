//! Why a capture cannot be read.

use std::io;

/// Why a capture cannot be read, or not beyond some frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The first four bytes are those of neither format.
    #[error("it is not a capture: it starts like neither pcap nor pcapng")]
    NotACapture,
    /// The header of the file, or of its first section, is damaged.
    #[error("its header is damaged: {0}")]
    BadHeader(&'static str),
    /// The capture holds only frames of other link layers. The number is that of the first, in the
    /// registry of link types.
    #[error("its frames are not Ethernet but of link type {0}")]
    LinkType(u16),
    /// The capture ends within this frame, or within a block after the frame before it.
    #[error("it is truncated at frame {0}")]
    Truncated(u64),
    /// This frame, or a block between it and the frame before it, is damaged.
    #[error("it is damaged at frame {frame}: {why}")]
    Damaged {
        /// The frame's number, from 1.
        frame: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The capture cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}
