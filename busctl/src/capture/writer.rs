//! Writing pcap.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket};
use pcap_file::{Endianness, PcapError};

/// Writes frames as a pcap file with microsecond stamps.
pub(crate) struct PcapWriter<W: Write> {
    pcap: pcap_file::pcap::PcapWriter<Shared<W>>,
    file: Rc<RefCell<W>>,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the header.
    pub(crate) fn new(file: W) -> io::Result<Self> {
        let file = Rc::new(RefCell::new(file));
        // Ethernet frames, and up to 65,535 bytes of each, is what the default says.
        let header = PcapHeader { endianness: Endianness::native(), ..PcapHeader::default() };
        let pcap = pcap_file::pcap::PcapWriter::with_header(Shared(Rc::clone(&file)), header);
        Ok(Self { pcap: pcap.map_err(io_error)?, file })
    }

    /// Writes a frame. The time is since 1970; seconds that 32 bits do not hold are clamped.
    pub(crate) fn write(&mut self, time: Duration, frame: &[u8]) -> io::Result<()> {
        let time = time.min(Duration::from_secs(u32::MAX.into()));
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.pcap.write_packet(&PcapPacket::new(time, len, frame)).map(drop).map_err(io_error)
    }

    /// Hands on to the file what was kept back for the sake of larger writes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.borrow_mut().flush()
    }
}

/// The pcap crate's writer keeps its file to itself, and so has no way to flush it.
struct Shared<W>(Rc<RefCell<W>>);

impl<W: Write> Write for Shared<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::CaptureReader;

    #[test]
    fn what_is_written_reads_back() {
        let mut file = Vec::new();
        let mut writer = PcapWriter::new(&mut file).unwrap();
        writer.write(Duration::new(5, 7000), &[1; 14]).unwrap();
        writer.write(Duration::MAX, &[2; 1514]).unwrap();
        writer.flush().unwrap();
        drop(writer);
        assert_eq!(file[24..40], [[5, 0, 0, 0], [7, 0, 0, 0], [14, 0, 0, 0], [14, 0, 0, 0]].concat());
        let mut reader = CaptureReader::new(&file[..]).unwrap();
        assert_eq!(reader.next_frame().unwrap().unwrap().bytes, &[1; 14][..]);
        assert_eq!(reader.next_frame().unwrap().unwrap().bytes, &[2; 1514][..]);
        assert!(reader.next_frame().unwrap().is_none());
    }
}
