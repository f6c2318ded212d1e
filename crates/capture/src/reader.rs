//! Reads pcap and pcapng.
//!
//! A capture may come from anywhere, so every field is checked before use. Errors name the frame by
//! its number, counted from 1 as the tools that show captures count.

use std::io::{self, Cursor, Read};

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{PcapNgReader, RawBlock};
use pcap_file::{DataLink, Endianness, PcapError};

const ENHANCED_PACKET: u32 = 6;
const SIMPLE_PACKET: u32 = 3;
/// The older form of the enhanced packet.
const PACKET: u32 = 2;

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
    /// The capture holds frames of another link layer, with this number in the registry of link
    /// types.
    #[error("its frames are not Ethernet but of link type {0}")]
    LinkType(u32),
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
    Io(io::Error),
}

/// A frame as it was captured.
#[derive(Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// The frame's captured bytes, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// Whether the frame was longer on the wire than what was captured of it.
    pub cut: bool,
}

/// Reads a capture from front to back.
///
/// The first bytes tell the format. The reader has a buffer of its own, of 8 MB, so a
/// [`BufReader`](io::BufReader) around a file gains nothing.
///
/// ```no_run
/// use std::fs::File;
/// use capture::{CaptureReader, Summary};
///
/// let mut reader = CaptureReader::new(File::open("lan.pcapng")?)?;
/// while let Some(frame) = reader.next_frame()? {
///     println!("{}", Summary(frame.bytes));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CaptureReader<R: Read> {
    format: Format<R>,
    /// The latest frame.
    bytes: Vec<u8>,
    /// Frames read so far.
    frames: u64,
}

/// The capture: the bytes that were read to detect the format, and the rest.
type Source<R> = io::Chain<Cursor<[u8; 4]>, R>;

enum Format<R: Read> {
    Pcap(Box<PcapReader<Source<R>>>),
    PcapNg(Box<PcapNgReader<Source<R>>>),
}

impl<R: Read> CaptureReader<R> {
    /// Detects the format and reads the header.
    ///
    /// # Errors
    /// When `file` cannot be read, is not a capture, has a damaged header, or is a pcap of another
    /// link layer than Ethernet.
    pub fn new(mut file: R) -> Result<Self, CaptureError> {
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CaptureError::NotACapture,
            _ => CaptureError::Io(error),
        })?;
        let source = Cursor::new(magic).chain(file);
        let format = match magic {
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                Format::PcapNg(Box::new(PcapNgReader::new(source).map_err(in_header)?))
            }
            [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x4d, 0x3c, 0xb2, 0xa1] => {
                let pcap = PcapReader::new(source).map_err(in_header)?;
                check_link_type(pcap.header().datalink)?;
                Format::Pcap(Box::new(pcap))
            }
            _ => return Err(CaptureError::NotACapture),
        };
        Ok(Self { format, bytes: Vec::new(), frames: 0 })
    }

    /// Reads the next frame and returns it, or `None` at the end.
    ///
    /// # Errors
    /// When the capture cannot be read further, ends within a frame, is damaged here, or (pcapng)
    /// continues with frames of another link layer than Ethernet.
    pub fn next_frame(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        let number = self.frames + 1;
        self.bytes.clear();
        let cut = match &mut self.format {
            Format::Pcap(pcap) => match pcap.next_raw_packet() {
                None => None,
                Some(Ok(packet)) => {
                    self.bytes.extend_from_slice(&packet.data);
                    Some(packet.orig_len > packet.incl_len)
                }
                Some(Err(error)) => return Err(in_frame(number, error)),
            },
            Format::PcapNg(pcapng) => next_in_pcapng(pcapng, number, &mut self.bytes)?,
        };
        self.frames += u64::from(cut.is_some());
        Ok(cut.map(|cut| Captured { bytes: &self.bytes, cut }))
    }
}

/// Appends the next frame to `bytes` and returns whether it was cut, or `None` at the end. Skips
/// the blocks that hold no frame.
///
/// The blocks that do are parsed here and not by the library: only three of their fields matter,
/// and a damaged comment on a frame is no reason to give up.
fn next_in_pcapng<R: Read>(
    pcapng: &mut PcapNgReader<R>,
    number: u64,
    bytes: &mut Vec<u8>,
) -> Result<Option<bool>, CaptureError> {
    let damaged = |why| CaptureError::Damaged { frame: number, why };
    loop {
        let endianness = pcapng.section().endianness;
        let (interface, cut) = match pcapng.next_raw_block() {
            None => return Ok(None),
            Some(Err(error)) => return Err(in_frame(number, error)),
            Some(Ok(block)) => match frame_of(&block, endianness) {
                None => continue,
                Some(Err(why)) => return Err(damaged(why)),
                Some(Ok((interface, frame, original))) => {
                    bytes.extend_from_slice(frame);
                    (interface, original as usize > frame.len())
                }
            },
        };
        let interface = pcapng.interfaces().get(interface as usize);
        let interface =
            interface.ok_or(damaged("it belongs to an interface that is not described"))?;
        check_link_type(interface.linktype)?;
        return Ok(Some(cut));
    }
}

/// Interface number, captured bytes and original length of a frame.
type Parts<'a> = (u32, &'a [u8], u32);

/// Returns the frame in a block, or `None` for a block of another kind.
fn frame_of<'a>(
    block: &'a RawBlock<'_>,
    endianness: Endianness,
) -> Option<Result<Parts<'a>, &'static str>> {
    let body: &[u8] = &block.body;
    let word = |at: usize| {
        let bytes = body.get(at..at + 4)?.try_into().ok()?;
        Some(if endianness.is_big() {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    };
    let parts =
        |interface: Option<u32>, captured: Option<u32>, original_at: usize, data_at: usize| {
            let original = word(original_at)?;
            // No field of a simple packet tells where its data ends and its padding begins.
            let captured = captured.map_or(original as usize, |captured| captured as usize);
            let data = body.get(data_at..)?;
            Some((interface?, data.get(..captured)?, original))
        };
    let parts = match block.type_ {
        ENHANCED_PACKET => parts(word(0), word(12), 16, 20),
        // The first two bytes are the interface's number, the next two count drops.
        PACKET => {
            let interface =
                word(0).map(|both| if endianness.is_big() { both >> 16 } else { both & 0xffff });
            parts(interface, word(12), 16, 20)
        }
        SIMPLE_PACKET => {
            let room = u32::try_from(body.len().saturating_sub(4)).unwrap_or(u32::MAX);
            parts(Some(0), word(0).map(|original| original.min(room)), 0, 4)
        }
        _ => return None,
    };
    Some(parts.ok_or("the frame is longer than its block"))
}

fn check_link_type(link: DataLink) -> Result<(), CaptureError> {
    if link == DataLink::ETHERNET { Ok(()) } else { Err(CaptureError::LinkType(link.into())) }
}

fn in_header(error: PcapError) -> CaptureError {
    match error {
        PcapError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            CaptureError::BadHeader("it is truncated")
        }
        PcapError::IoError(error) => CaptureError::Io(error),
        error => CaptureError::BadHeader(describe(&error)),
    }
}

fn in_frame(frame: u64, error: PcapError) -> CaptureError {
    match error {
        // The library also reports a block that is longer than its buffer this way.
        PcapError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            CaptureError::Truncated(frame)
        }
        PcapError::IoError(error) => CaptureError::Io(error),
        error => CaptureError::Damaged { frame, why: describe(&error) },
    }
}

fn describe(error: &PcapError) -> &'static str {
    match error {
        PcapError::InvalidField(why) => why,
        PcapError::Utf8Error(_) | PcapError::FromUtf8Error(_) => "a text in it is not UTF-8",
        PcapError::InvalidInterfaceId(_) => "it names an interface that is not described",
        PcapError::IncompleteBuffer | PcapError::IoError(_) => "something is missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5odd";

    fn pcap(link: u32, frames: &[(&[u8], u32)]) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(0xa1b2_c3d4_u32.to_be_bytes());
        file.extend([0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64]);
        file.extend(link.to_be_bytes());
        for (frame, original) in frames {
            file.extend([0; 8]);
            file.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
            file.extend(original.to_be_bytes());
            file.extend(*frame);
        }
        file
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut padded = body.to_vec();
        padded.resize(body.len().next_multiple_of(4), 0);
        let len = u32::try_from(padded.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &padded, &len].concat()
    }

    fn pcapng() -> Vec<u8> {
        let len = u32::try_from(FRAME.len()).unwrap().to_le_bytes();
        let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let interface = [1, 0, 0, 0, 0, 0, 0, 0];
        let enhanced = [&[0; 12][..], &len, &len, FRAME].concat();
        // Captured less than was on the wire.
        let old = [&[0; 12][..], &4_u32.to_le_bytes(), &len, &FRAME[..4]].concat();
        let simple = [&len[..], FRAME].concat();
        [
            block(0x0a0d_0d0a, &section),
            block(1, &interface),
            block(ENHANCED_PACKET, &enhanced),
            block(0x0bad, b"of no interest"),
            block(PACKET, &old),
            block(SIMPLE_PACKET, &simple),
        ]
        .concat()
    }

    fn read(file: &[u8]) -> Result<Vec<(Vec<u8>, bool)>, CaptureError> {
        let mut reader = CaptureReader::new(file)?;
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            frames.push((frame.bytes.to_vec(), frame.cut));
        }
        Ok(frames)
    }

    #[test]
    fn a_pcap_is_read_and_cut_frames_are_marked() {
        // Longer on the wire than the capture's limit of 64: common, and no error.
        let file = pcap(1, &[(FRAME, 17), (&FRAME[..14], 1514)]);
        assert_eq!(read(&file).unwrap(), [(FRAME.to_vec(), false), (FRAME[..14].to_vec(), true)]);
    }

    #[test]
    fn a_pcapng_is_read_with_all_three_kinds_of_packet_block() {
        let whole = (FRAME.to_vec(), false);
        assert_eq!(read(&pcapng()).unwrap(), [whole.clone(), (FRAME[..4].to_vec(), true), whole]);
    }

    #[test]
    fn other_files_and_other_link_types_are_refused() {
        assert!(matches!(read(b""), Err(CaptureError::NotACapture)));
        assert!(matches!(read(b"These are my notes"), Err(CaptureError::NotACapture)));
        assert!(matches!(read(&pcap(1, &[])[..20]), Err(CaptureError::BadHeader(_))));
        assert!(matches!(read(&pcap(101, &[])), Err(CaptureError::LinkType(101))));
    }

    #[test]
    fn errors_name_the_damaged_frame() {
        let mut file = pcap(1, &[(FRAME, 17), (FRAME, 17)]);
        file.pop();
        assert!(matches!(read(&file), Err(CaptureError::Truncated(2))));
        let mut file = pcapng();
        // The captured length of the first frame.
        file[28 + 20 + 8 + 12] = 200;
        assert!(matches!(read(&file), Err(CaptureError::Damaged { frame: 1, .. })));
    }

    #[test]
    fn no_damage_makes_the_reader_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for whole in [pcap(1, &[(FRAME, 17), (FRAME, 17)]), pcapng()] {
            for _ in 0..2000 {
                let mut file = whole.clone();
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..file.len());
                    file[at] = if random.bool() {
                        random.u8(..)
                    } else {
                        [0, 0xff, 0x7f, 1][random.usize(..4)]
                    };
                }
                file.truncate(random.usize(..=file.len()));
                let _ = read(&file);
            }
        }
    }
}
