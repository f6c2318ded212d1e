//! Captures, in the formats every tool knows: [`CaptureReader`] takes pcap and pcapng, of either byte order;
//! [`CaptureWriter`] writes them.

mod reader;
mod writer;

pub(crate) use reader::CaptureReader;
pub(crate) use writer::{Account, CaptureWriter, Format, Interface};
