//! Writing pcap and pcapng.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcap::PcapHeader;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};

/// 10^-9 s, as pcapng writes it.
const NANOSECONDS: u8 = 9;

/// The form of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One interface, microseconds; every tool reads it
    Pcap,
    /// Any number of interfaces, nanoseconds, comments
    Pcapng,
}

/// What frames were captured from, as the capture describes it.
#[derive(Debug, Clone)]
pub struct CapturedInterface {
    /// What to call it.
    pub name: String,
    /// Bytes of the longest frame there can be.
    pub longest: u32,
}

/// How a capture of an interface went.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Frames captured.
    pub frames: u64,
    /// When the latest of them was sent.
    pub latest: Duration,
    /// What went wrong.
    pub comment: Option<String>,
}

/// Writes frames as a capture.
pub struct CaptureWriter<W: Write> {
    encoder: Encoder<W>,
    interfaces: Vec<CapturedInterface>,
    /// The comment on the latest frame, and for which sender it was made: most frames have the same as the one before.
    comment: String,
    commented: u64,
}

enum Encoder<W: Write> {
    /// The crate's own writer keeps its file to itself, and so could not be flushed. It would be used for little: 16 bytes
    /// before each frame.
    Pcap(W),
    Pcapng(PcapNgWriter<W>),
}

impl<W: Write> CaptureWriter<W> {
    /// Writes the header. A pcap knows only one interface.
    pub fn new(format: Format, interfaces: Vec<CapturedInterface>, mut file: W) -> io::Result<Self> {
        let encoder = match format {
            Format::Pcap => {
                pcap_header(&interfaces).write_to(&mut file).map_err(io_error)?;
                Encoder::Pcap(file)
            }
            Format::Pcapng => {
                let mut pcapng = PcapNgWriter::with_section_header(file, section()).map_err(io_error)?;
                describe(&interfaces, &mut pcapng)?;
                Encoder::Pcapng(pcapng)
            }
        };
        Ok(Self { encoder, interfaces, comment: String::new(), commented: 0 })
    }

    /// Writes the header once more, at the beginning of another file.
    pub fn begin_again(&mut self) -> io::Result<()> {
        match &mut self.encoder {
            Encoder::Pcap(file) => pcap_header(&self.interfaces).write_to(file).map(drop).map_err(io_error),
            Encoder::Pcapng(pcapng) => {
                pcapng.write_pcapng_block(section()).map_err(io_error)?;
                describe(&self.interfaces, pcapng)
            }
        }
    }

    /// Writes a frame of the interface in place `interface`. The time is since 1970; in a pcap, seconds that 32 bits do not
    /// hold are clamped. A sender of 0 is none.
    pub fn frame(&mut self, interface: u32, time: Duration, sender: u64, frame: &[u8]) -> io::Result<()> {
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        match &mut self.encoder {
            Encoder::Pcap(file) => {
                let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
                for word in [seconds, time.subsec_micros(), len, len] {
                    file.write_all(&word.to_ne_bytes())?;
                }
                file.write_all(frame)
            }
            Encoder::Pcapng(pcapng) => {
                if self.commented != sender {
                    self.comment = format!("sender {sender:016x}");
                    self.commented = sender;
                }
                let comment = EnhancedPacketOption::Comment(Cow::Borrowed(&self.comment));
                let block = EnhancedPacketBlock {
                    interface_id: interface,
                    timestamp: time,
                    original_len: len,
                    data: Cow::Borrowed(frame),
                    options: if sender == 0 { Vec::new() } else { vec![comment] },
                };
                pcapng.write_pcapng_block(block).map(drop).map_err(io_error)
            }
        }
    }

    /// Writes how the capture of an interface went, where the format has a place for it.
    pub fn account(&mut self, interface: u32, account: &Account) -> io::Result<()> {
        let Encoder::Pcapng(pcapng) = &mut self.encoder else { return Ok(()) };
        let mut options = vec![InterfaceStatisticsOption::IsbIfRecv(account.frames)];
        if let Some(comment) = &account.comment {
            options.push(InterfaceStatisticsOption::Comment(Cow::Borrowed(comment)));
        }
        let block =
            InterfaceStatisticsBlock { interface_id: interface, timestamp: halves(account.latest), options };
        pcapng.write_pcapng_block(block).map(drop).map_err(io_error)
    }

    /// What it writes to.
    pub fn file_mut(&mut self) -> &mut W {
        match &mut self.encoder {
            Encoder::Pcap(file) => file,
            Encoder::Pcapng(pcapng) => pcapng.get_mut(),
        }
    }
}

fn pcap_header(interfaces: &[CapturedInterface]) -> PcapHeader {
    let longest = interfaces.iter().map(|interface| interface.longest).max();
    PcapHeader {
        endianness: Endianness::native(),
        datalink: DataLink::ETHERNET,
        snaplen: longest.unwrap_or(u32::MAX),
        ..PcapHeader::default()
    }
}

fn section() -> SectionHeaderBlock<'static> {
    let program = concat!("busctl ", env!("CARGO_PKG_VERSION"));
    SectionHeaderBlock {
        endianness: Endianness::native(),
        options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(program))],
        ..SectionHeaderBlock::default()
    }
}

fn describe<W: Write>(interfaces: &[CapturedInterface], pcapng: &mut PcapNgWriter<W>) -> io::Result<()> {
    for interface in interfaces {
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: interface.longest,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(&interface.name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        pcapng.write_pcapng_block(block).map_err(io_error)?;
    }
    Ok(())
}

/// A time as the crate has to be given it for statistics, which it writes as one number where the format has two, the upper
/// half first.
fn halves(time: Duration) -> u64 {
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    if Endianness::native().is_little() { nanoseconds.rotate_left(32) } else { nanoseconds }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::reader::CaptureReader;

    fn interface(name: &str) -> CapturedInterface {
        CapturedInterface { name: name.to_owned(), longest: 1514 }
    }

    #[test]
    fn a_pcap_reads_back() {
        let mut file = Vec::new();
        let mut writer = CaptureWriter::new(Format::Pcap, vec![interface("lan")], &mut file).unwrap();
        writer.frame(0, Duration::new(5, 7000), 9, &[1; 14]).unwrap();
        writer.frame(0, Duration::MAX, 9, &[2; 1514]).unwrap();
        writer.account(0, &Account::default()).unwrap();
        drop(writer);
        assert_eq!(file[16..24], [1514_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
        let words = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
        assert_eq!(file[24..40], words([5, 7, 14, 14]));
        let mut reader = CaptureReader::new(&file[..]).unwrap();
        assert_eq!(reader.next_frame().unwrap().unwrap().bytes, &[1; 14][..]);
        assert_eq!(reader.next_frame().unwrap().unwrap().bytes, &[2; 1514][..]);
        assert!(reader.next_frame().unwrap().is_none());
    }

    #[test]
    fn a_pcapng_says_whose_frames_they_are() {
        let mut file = Vec::new();
        let interfaces = vec![interface("one"), interface("two")];
        let mut writer = CaptureWriter::new(Format::Pcapng, interfaces, &mut file).unwrap();
        writer.frame(1, Duration::new(5, 7000), 0xabc, &[1; 14]).unwrap();
        writer.frame(0, Duration::new(6, 0), 0, &[2; 60]).unwrap();
        let account =
            Account { frames: 1, latest: Duration::new(5, 7000), comment: Some("holes".to_owned()) };
        writer.account(1, &account).unwrap();
        drop(writer);

        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block() {
            blocks.push(block.unwrap().into_owned());
        }
        let [
            Block::InterfaceDescription(_),
            Block::InterfaceDescription(two),
            Block::EnhancedPacket(first),
            Block::EnhancedPacket(second),
            Block::InterfaceStatistics(statistics),
        ] = &blocks[..]
        else {
            panic!("{blocks:?}")
        };
        assert_eq!((two.snaplen, two.linktype), (1514, DataLink::ETHERNET));
        assert!(two.options.contains(&InterfaceDescriptionOption::IfName("two".into())));
        assert_eq!((first.interface_id, first.timestamp), (1, Duration::new(5, 7000)));
        assert_eq!(first.options, [EnhancedPacketOption::Comment("sender 0000000000000abc".into())]);
        assert_eq!((second.interface_id, &second.options[..]), (0, &[][..]));
        assert_eq!(statistics.options.len(), 2);
        // The upper half lies first, whatever the order of bytes.
        let time = 5_000_007_000_u64;
        let halves =
            [time >> 32, time & 0xffff_ffff].map(|half| u32::try_from(half).unwrap().to_ne_bytes()).concat();
        assert!(file.windows(8).any(|bytes| bytes == halves), "{file:02x?}");
        assert_eq!(statistics.timestamp, super::halves(Duration::from_nanos(time)));
    }
}
