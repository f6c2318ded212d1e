//! Writes pcap and pcapng.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcap::PcapHeader;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{Endianness, PcapError};

use crate::link_type::LinkType;

/// The resolution of timestamps, 10^-9 s, as the negated exponent that pcapng writes.
const NANOSECONDS: u8 = 9;

/// The format of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One interface, timestamps in microseconds. Every tool reads it.
    Pcap,
    /// Any number of interfaces, timestamps in nanoseconds, comments.
    Pcapng,
}

/// An interface that frames are captured on, as the capture describes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CapturedInterface {
    /// The interface's name.
    pub name: String,
    /// The length of the longest frame that the interface can carry, in bytes (pcap's `snaplen`).
    pub longest: u32,
    /// What its frames begin with.
    pub link: LinkType,
}

impl CapturedInterface {
    /// Describes an interface whose longest frame has `longest` bytes. Its frames are those of Ethernet.
    #[must_use]
    pub fn new(name: impl Into<String>, longest: u32) -> Self {
        Self { name: name.into(), longest, link: LinkType::Ethernet }
    }

    /// Sets what its frames begin with.
    #[must_use]
    pub fn link(self, link: LinkType) -> Self {
        Self { link, ..self }
    }
}

/// The statistics of one interface at the end of a capture.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// How many frames were captured.
    pub frames: u64,
    /// When the latest of them was sent, since 1970.
    pub latest: Duration,
    /// What went wrong, if anything: frames that were missed, say.
    pub comment: Option<String>,
}

/// Writes frames as a capture.
///
/// Every call writes through to the underlying [`Write`], so wrap a file in a
/// [`BufWriter`](io::BufWriter) and flush it by [`file_mut`](Self::file_mut).
///
/// ```
/// use std::time::{SystemTime, UNIX_EPOCH};
/// use capture::{CaptureWriter, CapturedInterface, Format};
///
/// let lan = CapturedInterface::new("lan", 1_514);
/// let mut writer = CaptureWriter::new(Format::Pcap, vec![lan], Vec::new())?;
/// let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
/// writer.frame(0, now, 0, &[0xff; 60])?;
/// assert_eq!(writer.file_mut().len(), 24 + 16 + 60);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CaptureWriter<W: Write> {
    encoder: Encoder<W>,
    interfaces: Vec<CapturedInterface>,
    /// The name of the program that captures; empty for none.
    program: String,
    /// The comment on the latest frame with a sender, and that sender. Most frames have the same
    /// sender as the one before.
    comment: String,
    commented: u64,
}

enum Encoder<W: Write> {
    /// The library's writer of pcap gives no access to its file, which then could not be flushed.
    /// What it would do is little: it writes 16 bytes before each frame.
    Pcap(W),
    Pcapng(PcapNgWriter<W>),
}

impl<W: Write> CaptureWriter<W> {
    /// Starts a capture on `file`: writes the header and describes `interfaces`.
    ///
    /// A pcap describes one interface only; of several it keeps the greatest `longest`, and the link
    /// type of the first.
    ///
    /// # Errors
    /// When `file` cannot be written.
    pub fn new(format: Format, interfaces: Vec<CapturedInterface>, file: W) -> io::Result<Self> {
        Self::with_program(format, "", interfaces, file)
    }

    /// Starts a capture as [`new`](Self::new) does. A pcapng also records the name of the program
    /// that captures, unless it is empty.
    ///
    /// # Errors
    /// When `file` cannot be written.
    pub fn with_program(
        format: Format,
        program: impl Into<String>,
        interfaces: Vec<CapturedInterface>,
        mut file: W,
    ) -> io::Result<Self> {
        let program = program.into();
        let encoder = match format {
            Format::Pcap => {
                pcap_header(&interfaces).write_to(&mut file).map_err(io_error)?;
                Encoder::Pcap(file)
            }
            Format::Pcapng => {
                let header = section(&program);
                let mut pcapng =
                    PcapNgWriter::with_section_header(file, header).map_err(io_error)?;
                describe(&interfaces, &mut pcapng)?;
                Encoder::Pcapng(pcapng)
            }
        };
        Ok(Self { encoder, interfaces, program, comment: String::new(), commented: 0 })
    }

    /// Writes the header once more, for a caller that continues in another file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin_again(&mut self) -> io::Result<()> {
        match &mut self.encoder {
            Encoder::Pcap(file) => {
                pcap_header(&self.interfaces).write_to(file).map(drop).map_err(io_error)
            }
            Encoder::Pcapng(pcapng) => {
                pcapng.write_pcapng_block(section(&self.program)).map_err(io_error)?;
                describe(&self.interfaces, pcapng)
            }
        }
    }

    /// Writes a frame.
    ///
    /// `interface` is an index into the interfaces given at the start. `time` is since 1970; a pcap
    /// has 32 bits for the seconds, and later times are clamped. A pcapng notes `sender`, which
    /// identifies the station that sent the frame, in a comment; 0 is no sender.
    ///
    /// # Errors
    /// When the file cannot be written, or a pcapng has no such interface.
    pub fn frame(
        &mut self,
        interface: u32,
        time: Duration,
        sender: u64,
        frame: &[u8],
    ) -> io::Result<()> {
        self.cut_frame(interface, time, sender, frame, frame.len())
    }

    /// Writes the beginning of a frame that had `original_len` bytes on the wire, as
    /// [`frame`](Self::frame) writes a whole one.
    ///
    /// # Errors
    /// As [`frame`](Self::frame).
    pub fn cut_frame(
        &mut self,
        interface: u32,
        time: Duration,
        sender: u64,
        frame: &[u8],
        original_len: usize,
    ) -> io::Result<()> {
        let [len, original_len] =
            [frame.len(), original_len].map(|len| u32::try_from(len).unwrap_or(u32::MAX));
        match &mut self.encoder {
            Encoder::Pcap(file) => {
                let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
                for word in [seconds, time.subsec_micros(), len, original_len] {
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
                    original_len,
                    data: Cow::Borrowed(frame),
                    options: if sender == 0 { Vec::new() } else { vec![comment] },
                };
                pcapng.write_pcapng_block(block).map(drop).map_err(io_error)
            }
        }
    }

    /// Writes the statistics of an interface. A pcap has no place for them, and the call does
    /// nothing.
    ///
    /// # Errors
    /// When the file cannot be written, or a pcapng has no such interface.
    pub fn account(&mut self, interface: u32, account: &Account) -> io::Result<()> {
        let Encoder::Pcapng(pcapng) = &mut self.encoder else { return Ok(()) };
        let mut options = vec![InterfaceStatisticsOption::IsbIfRecv(account.frames)];
        if let Some(comment) = &account.comment {
            options.push(InterfaceStatisticsOption::Comment(Cow::Borrowed(comment)));
        }
        let block = InterfaceStatisticsBlock {
            interface_id: interface,
            timestamp: halves(account.latest),
            options,
        };
        pcapng.write_pcapng_block(block).map(drop).map_err(io_error)
    }

    /// Returns what the capture is written to.
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
        datalink: interfaces.first().map_or(LinkType::Ethernet, |first| first.link).data_link(),
        snaplen: longest.unwrap_or(u32::MAX),
        ..PcapHeader::default()
    }
}

fn section(program: &str) -> SectionHeaderBlock<'static> {
    let name = (!program.is_empty()).then(|| Cow::Owned(program.to_owned()));
    SectionHeaderBlock {
        endianness: Endianness::native(),
        options: name.into_iter().map(SectionHeaderOption::UserApplication).collect(),
        ..SectionHeaderBlock::default()
    }
}

fn describe<W: Write>(
    interfaces: &[CapturedInterface],
    pcapng: &mut PcapNgWriter<W>,
) -> io::Result<()> {
    for interface in interfaces {
        let block = InterfaceDescriptionBlock {
            linktype: interface.link.data_link(),
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

/// Returns a time as the library takes it for statistics. The format has two numbers there, the
/// upper half first, but the library writes a single one.
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
    use pcap_file::DataLink;
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::reader::CaptureReader;

    fn interface(name: &str) -> CapturedInterface {
        CapturedInterface::new(name, 1514)
    }

    #[test]
    fn a_pcap_reads_back() {
        let mut file = Vec::new();
        let mut writer =
            CaptureWriter::new(Format::Pcap, vec![interface("lan")], &mut file).unwrap();
        writer.frame(0, Duration::new(5, 7000), 9, &[1; 14]).unwrap();
        writer.frame(0, Duration::MAX, 9, &[2; 1514]).unwrap();
        writer.account(0, &Account::default()).unwrap();
        drop(writer);
        assert_eq!(file[16..24], [1514_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
        let words = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
        assert_eq!(file[24..40], words([5, 7, 14, 14]));
        let mut reader = CaptureReader::new(&file[..]);
        assert_eq!(reader.next_frame().unwrap().unwrap().bytes, &[1; 14][..]);
        assert_eq!(reader.next_frame().unwrap().unwrap().bytes, &[2; 1514][..]);
        assert!(reader.next_frame().unwrap().is_none());
    }

    #[test]
    fn a_capture_says_what_its_frames_begin_with() {
        for (link, number) in [(LinkType::Ethernet, 1_u32), (LinkType::Ip, 101)] {
            let interfaces = vec![interface("lan").link(link)];
            let mut file = Vec::new();
            CaptureWriter::new(Format::Pcap, interfaces.clone(), &mut file).unwrap();
            assert_eq!(file[20..24], number.to_ne_bytes());
            let mut file = Vec::new();
            CaptureWriter::new(Format::Pcapng, interfaces, &mut file).unwrap();
            let mut reader = PcapNgReader::new(&file[..]).unwrap();
            let Some(Ok(Block::InterfaceDescription(described))) = reader.next_block() else {
                panic!("no interface");
            };
            assert_eq!(described.linktype, DataLink::from(number));
        }
    }

    #[test]
    fn a_pcapng_names_interfaces_senders_and_statistics() {
        let mut file = Vec::new();
        let interfaces = vec![interface("one"), interface("two")];
        let mut writer =
            CaptureWriter::with_program(Format::Pcapng, "tester 1.0", interfaces, &mut file)
                .unwrap();
        writer.frame(1, Duration::new(5, 7000), 0xabc, &[1; 14]).unwrap();
        writer.frame(0, Duration::new(6, 0), 0, &[2; 60]).unwrap();
        let account = Account {
            frames: 1,
            latest: Duration::new(5, 7000),
            comment: Some("holes".to_owned()),
        };
        writer.account(1, &account).unwrap();
        drop(writer);

        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        let options = &reader.section().options;
        assert_eq!(options, &[SectionHeaderOption::UserApplication("tester 1.0".into())]);
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
        assert_eq!(
            first.options,
            [EnhancedPacketOption::Comment("sender 0000000000000abc".into())]
        );
        assert_eq!((second.interface_id, &second.options[..]), (0, &[][..]));
        assert_eq!(statistics.options.len(), 2);
        // The upper half lies first, whatever the byte order.
        let time = 5_000_007_000_u64;
        let halves = [time >> 32, time & 0xffff_ffff]
            .map(|half| u32::try_from(half).unwrap().to_ne_bytes())
            .concat();
        assert!(file.windows(8).any(|bytes| bytes == halves), "{file:02x?}");
        assert_eq!(statistics.timestamp, super::halves(Duration::from_nanos(time)));
    }
}
