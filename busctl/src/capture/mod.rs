//! Capture files: frames that were written down, to be read and written by the verbs and ports that deal in them.
//!
//! [`CaptureReader`] reads pcap and pcapng, in either byte order; [`PcapWriter`] writes pcap, which every tool reads.

mod reader;
mod writer;

pub(crate) use reader::CaptureReader;
pub(crate) use writer::PcapWriter;
