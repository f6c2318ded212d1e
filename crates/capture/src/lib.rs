//! Packet captures in the formats that every tool reads.
//!
//! - [`CaptureReader`] reads pcap and pcapng, of either byte order.
//! - [`CaptureWriter`] writes them.
//! - [`Pace`] spaces frames that are replayed at a fixed rate.
//! - [`Decompressed`] reads what gzip and zstd have compressed.
//! - [`Filter`] chooses frames in the language of `tcpdump`.
//! - [`Summary`] displays a frame in one line, as `tcpdump` does.
//!
//! The crate works on anything that is [`Read`](std::io::Read) or [`Write`](std::io::Write): files,
//! pipes, buffers. It reads untrusted input, checks it, and does not panic on it.
//!
//! ```
//! use std::time::Duration;
//! use capture::{CaptureReader, CaptureWriter, CapturedInterface, Format};
//!
//! let frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5hello";
//! let lan = CapturedInterface::new("lan", 1_514);
//! let mut file = Vec::new();
//! let mut writer = CaptureWriter::new(Format::Pcapng, vec![lan], &mut file)?;
//! writer.frame(0, Duration::from_secs(1), 7, frame)?;
//!
//! let mut reader = CaptureReader::new(&file[..]);
//! let captured = reader.next_frame()?.expect("one frame was written");
//! assert_eq!(captured.bytes, frame);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Only `filter/libpcap.rs`, the border to a C library, has any.
#![deny(unsafe_code)]

mod compressed;
mod cooked;
mod error;
mod filter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod input;
mod link_type;
mod pace;
mod pcap;
mod pcapng;
mod reader;
#[cfg(test)]
mod specimens;
mod step;
mod summary;
mod timestamp;
mod writer;

pub use compressed::{Compression, Compressor, Decompressed};
pub use error::CaptureError;
pub use filter::{Filter, FilterError};
pub use link_type::{LinkDetails, LinkSummary, LinkType};
pub use pace::Pace;
pub use reader::{CaptureReader, Captured, PassedOver};
pub use summary::{Details, PacketDetails, PacketSummary, Summary};
pub use writer::{Account, CaptureWriter, CapturedInterface, Format};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
