//! Reads pcap and pcapng.
//!
//! A capture may come from anywhere, so every field is checked before use. Errors name the frame by
//! its number, counted from 1 as the tools that show captures count.
//!
//! The reader is our own. The libraries for these formats parse every option, and then refuse a
//! file for an option that a reader of frames does not need; few of them can be asked again after
//! [`WouldBlock`](io::ErrorKind::WouldBlock).

use std::io::Read;
use std::time::Duration;

use crate::cooked;
use crate::error::CaptureError;
use crate::input::{Input, READ_AHEAD};
use crate::pcap::{self, Pcap};
use crate::pcapng::{self, Pcapng, Section};
use crate::step::{ETHERNET, Step, Why};

/// A frame as it was captured.
#[derive(Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// The frame's captured bytes, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// Whether the frame was longer on the wire than what was captured of it.
    pub cut: bool,
    /// Bytes of the frame on the wire.
    pub original_len: usize,
    /// When the frame was captured, since 1970; `None` where the capture does not say.
    pub time: Option<Duration>,
}

/// What a reader passed over, in frames unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Frames of other link types than Ethernet.
    pub other_link: u64,
    /// Frames of interfaces that the capture does not describe.
    pub no_interface: u64,
    /// Frames of more than 262,144 bytes.
    pub giant: u64,
    /// Bytes at the end that are too few for a frame.
    pub trailing: u64,
}

/// Reads a capture from front to back.
///
/// The first bytes tell the format. Link type, interfaces and lengths are what the reader needs:
/// nothing else in a capture makes it fail. Packets of Linux's interface `any` ("cooked", link
/// types 113 and 276) get an Ethernet header: the sender's address is in the capture, that of the
/// receiver is made of what is known, or zero. Frames of other link types are passed over and
/// [counted](Self::passed_over).
///
/// The reader has a buffer of its own, of 64 KiB or what the longest frame needs, so a [`BufReader`](std::io::BufReader) around a
/// file gains nothing. It returns a frame as soon as its last byte is read, and reads no further.
/// A source may be non-blocking: after [`WouldBlock`](std::io::ErrorKind::WouldBlock) the next call
/// continues where the last one stopped.
///
/// ```no_run
/// use std::fs::File;
/// use capture::{CaptureReader, Summary};
///
/// let mut reader = CaptureReader::new(File::open("lan.pcapng")?);
/// while let Some(frame) = reader.next_frame()? {
///     println!("{}", Summary(frame.bytes));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CaptureReader<R> {
    input: Input<R>,
    /// None before the header is read.
    format: Option<Format>,
    /// Frames so far, those that were passed over included.
    frames: u64,
    /// Whether one of them was returned.
    any: bool,
    /// The first link type that is not Ethernet.
    other_link: Option<u16>,
    passed_over: PassedOver,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

impl<R: Read> CaptureReader<R> {
    /// Makes a reader. It reads nothing yet.
    pub fn new(source: R) -> Self {
        Self::with_read_ahead(source, READ_AHEAD)
    }

    /// Makes a reader that reads about so many bytes at a time.
    pub(crate) fn with_read_ahead(source: R, read_ahead: usize) -> Self {
        Self {
            input: Input::new(source, read_ahead),
            format: None,
            frames: 0,
            any: false,
            other_link: None,
            passed_over: PassedOver::default(),
        }
    }

    /// Detects the format and reads the header, unless that is done.
    /// [`next_frame`](Self::next_frame) does this, too.
    ///
    /// # Errors
    /// When the source cannot be read, is not a capture, has a damaged header, or is a pcap of
    /// another link layer than Ethernet.
    pub fn read_header(&mut self) -> Result<(), CaptureError> {
        if self.format.is_none() {
            self.format = Some(detect(&mut self.input)?);
        }
        Ok(())
    }

    /// Reads the next frame and returns it, or `None` at the end.
    ///
    /// # Errors
    /// As [`read_header`](Self::read_header); when the capture ends within a frame or is damaged
    /// here; at the end, when it held frames and none was Ethernet.
    pub fn next_frame(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        loop {
            let number = self.frames + 1;
            let format = match &mut self.format {
                Some(format) => format,
                None => self.format.insert(detect(&mut self.input)?),
            };
            let step = match format {
                Format::Pcap(pcap) => pcap.next(&mut self.input, number)?,
                Format::Pcapng(pcapng) => pcapng.next(&mut self.input, number)?,
            };
            match step {
                Step::Frame { at, original, time, link } => {
                    self.frames = number;
                    let packet = &mut self.input.bytes_mut()[at.clone()];
                    let Some(begin) = ethernet_begin(link, packet, original) else {
                        self.count(Why::OtherLink(link));
                        continue;
                    };
                    self.any = true;
                    let bytes = &self.input.bytes()[at.start + begin..at.end];
                    // Some programs note no length on the wire.
                    let original_len = bytes.len().max((original as usize).saturating_sub(begin));
                    let cut = original_len > bytes.len();
                    return Ok(Some(Captured { bytes, cut, original_len, time }));
                }
                Step::Skipped(why) => {
                    self.frames = number;
                    self.count(why);
                }
                Step::End { trailing } => {
                    self.passed_over.trailing = trailing as u64;
                    return match self.other_link {
                        Some(link) if !self.any => Err(CaptureError::LinkType(link)),
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    fn count(&mut self, why: Why) {
        match why {
            Why::OtherLink(link) => {
                self.passed_over.other_link += 1;
                self.other_link.get_or_insert(link);
            }
            Why::NoInterface => self.passed_over.no_interface += 1,
            Why::Giant => self.passed_over.giant += 1,
        }
    }

    /// Returns what was passed over so far.
    pub fn passed_over(&self) -> PassedOver {
        self.passed_over
    }
}

/// Returns where in the packet an Ethernet frame begins, made if need be; `None` when it is none
/// and cannot be made one. The packet had `original` bytes on the wire.
fn ethernet_begin(link: u16, packet: &mut [u8], original: u32) -> Option<usize> {
    if link == ETHERNET { Some(0) } else { cooked::make_ethernet(link, packet, original) }
}

/// Detects the format and reads the header. After an error it can be called again.
fn detect<R: Read>(input: &mut Input<R>) -> Result<Format, CaptureError> {
    const TRUNCATED: CaptureError = CaptureError::BadHeader("it is truncated");
    if !input.fill(4)? {
        return Err(CaptureError::NotACapture);
    }
    let magic = &input.bytes()[..4];
    if magic == pcapng::SECTION {
        let mut pcapng = Pcapng::new();
        return match pcapng.begin_section(input)? {
            Section::Begun => Ok(Format::Pcapng(pcapng)),
            Section::Truncated => Err(TRUNCATED),
            Section::Damaged(why) => Err(CaptureError::BadHeader(why)),
        };
    }
    if !Pcap::is_magic(magic) {
        return Err(CaptureError::NotACapture);
    }
    if !input.fill(pcap::HEADER)? {
        return Err(TRUNCATED);
    }
    let pcap = Pcap::parse(input.bytes())?;
    Ok(Format::Pcap(pcap))
}

#[cfg(test)]
mod tests {
    use std::io;

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

    fn section() -> Vec<u8> {
        let body = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        block(0x0a0d_0d0a, &body)
    }

    fn interface(link: u8, snaplen: u8) -> Vec<u8> {
        block(1, &[link, 0, 0, 0, snaplen, 0, 0, 0])
    }

    fn enhanced(interface: u8, frame: &[u8], original: usize) -> Vec<u8> {
        let words = [interface.into(), 0, 0, frame.len(), original]
            .map(|word| u32::try_from(word).unwrap().to_le_bytes());
        block(6, &[&words.concat(), frame].concat())
    }

    fn simple(frame: &[u8], original: usize) -> Vec<u8> {
        let original = u32::try_from(original).unwrap().to_le_bytes();
        block(3, &[&original[..], frame].concat())
    }

    fn pcapng() -> Vec<u8> {
        let len = u32::try_from(FRAME.len()).unwrap().to_le_bytes();
        // Captured less than was on the wire.
        let old = [&[0; 12][..], &4_u32.to_le_bytes(), &len, &FRAME[..4]].concat();
        [
            section(),
            interface(1, 0),
            enhanced(0, FRAME, FRAME.len()),
            block(0x0bad, b"of no interest"),
            block(2, &old),
            simple(FRAME, FRAME.len()),
        ]
        .concat()
    }

    type Frames = Vec<(Vec<u8>, bool)>;

    fn read_all<R: Read>(reader: &mut CaptureReader<R>) -> Result<Frames, CaptureError> {
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            frames.push((frame.bytes.to_vec(), frame.cut));
        }
        Ok(frames)
    }

    fn read(file: &[u8]) -> Result<Frames, CaptureError> {
        read_all(&mut CaptureReader::new(file))
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
        assert!(matches!(read(&section()[..12]), Err(CaptureError::BadHeader(_))));
        assert!(matches!(read(&pcap(101, &[])), Err(CaptureError::LinkType(101))));
        let raw_ip = [section(), interface(101, 0), enhanced(0, FRAME, 17)].concat();
        assert!(matches!(read(&raw_ip), Err(CaptureError::LinkType(101))));
        // Without a frame, there is nothing wrong with it.
        assert_eq!(read(&[section(), interface(101, 0)].concat()).unwrap(), []);
    }

    #[test]
    fn the_bits_above_the_link_type_do_not_matter() {
        assert_eq!(read(&pcap(0x2400_0001, &[(FRAME, 17)])).unwrap().len(), 1);
    }

    #[test]
    fn cooked_packets_get_an_ethernet_header() {
        // To all, of an Ethernet device, with an address of 6 bytes.
        let cooked = [&[0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x88, 0xb5][..], b"odd"].concat();
        let netlink = [&[0, 0, 0x03, 0x38][..], &cooked[4..]].concat();
        let whole = (FRAME.to_vec(), false);
        assert_eq!(
            read(&pcap(113, &[(&cooked, 19), (&netlink, 19)])).unwrap(),
            std::slice::from_ref(&whole)
        );
        let mixed = [
            section(),
            interface(1, 0),
            interface(113, 0),
            enhanced(1, &cooked, 19),
            enhanced(0, FRAME, 17),
        ];
        assert_eq!(read(&mixed.concat()).unwrap(), [whole.clone(), whole]);
    }

    #[test]
    fn frames_have_the_times_of_the_capture() {
        let times = |file: &[u8]| {
            let mut reader = CaptureReader::new(file);
            let mut times = Vec::new();
            while let Some(frame) = reader.next_frame().unwrap() {
                times.push(frame.time);
            }
            times
        };
        let mut file = pcap(1, &[(FRAME, 17)]);
        file[24..32].copy_from_slice(&[0, 0, 0, 5, 0, 0, 0, 7]);
        assert_eq!(times(&file), [Some(Duration::new(5, 7_000))]);
        file[..4].copy_from_slice(&0xa1b2_3c4d_u32.to_be_bytes());
        assert_eq!(times(&file), [Some(Duration::new(5, 7))]);

        // The first interface counts in microseconds, the second in nanoseconds.
        let nanoseconds = block(1, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        let at = |interface, ticks: u8| {
            let mut block = enhanced(interface, FRAME, FRAME.len());
            block[16] = ticks;
            block
        };
        let file = [section(), interface(1, 0), nanoseconds, at(0, 3), at(1, 4), simple(FRAME, 17)];
        let expected = [Some(Duration::from_micros(3)), Some(Duration::from_nanos(4)), None];
        assert_eq!(times(&file.concat()), expected);
    }

    #[test]
    fn errors_name_the_damaged_frame() {
        let mut file = pcap(1, &[(FRAME, 17), (FRAME, 17)]);
        file.pop();
        assert!(matches!(read(&file), Err(CaptureError::Truncated(2))));
        let mut file = pcap(1, &[(FRAME, 17), (FRAME, 17)]);
        file[24 + 16 + FRAME.len() + 8] = 0xff;
        assert!(matches!(read(&file), Err(CaptureError::Damaged { frame: 2, .. })));
        let mut file = pcapng();
        // The captured length of the first frame.
        file[28 + 20 + 8 + 12] = 200;
        assert!(matches!(read(&file), Err(CaptureError::Damaged { frame: 1, .. })));
    }

    #[test]
    fn what_is_of_no_use_is_passed_over_and_counted() {
        let giant = vec![0xff; 300_000];
        let file = [
            section(),
            interface(1, 0),
            interface(0, 0),
            enhanced(1, b"loopback", 8),
            enhanced(0, FRAME, 17),
            enhanced(9, FRAME, 17),
            enhanced(0, &giant, giant.len()),
            enhanced(0, FRAME, 17),
            vec![1, 2, 3],
        ]
        .concat();
        let mut reader = CaptureReader::new(&file[..]);
        assert_eq!(read_all(&mut reader).unwrap().len(), 2);
        let expected = PassedOver { other_link: 1, no_interface: 1, giant: 1, trailing: 3 };
        assert_eq!(reader.passed_over(), expected);

        let pcap = pcap(1, &[(FRAME, 17), (&giant, 17), (FRAME, 17)]);
        let mut reader = CaptureReader::new(&pcap[..]);
        assert_eq!(read_all(&mut reader).unwrap().len(), 2);
        assert_eq!(reader.passed_over(), PassedOver { giant: 1, ..PassedOver::default() });
    }

    #[test]
    fn a_simple_packet_ends_at_the_limit_of_its_interface() {
        let cut = |snaplen, frame: &[u8], original| {
            let file = [section(), interface(1, snaplen), simple(frame, original)].concat();
            read(&file).unwrap()
        };
        assert_eq!(cut(0, FRAME, 17), [(FRAME.to_vec(), false)]);
        assert_eq!(cut(15, &FRAME[..15], 17), [(FRAME[..15].to_vec(), true)]);
        assert_eq!(cut(64, FRAME, 17), [(FRAME.to_vec(), false)]);
    }

    #[test]
    fn a_block_without_the_length_of_its_padding_is_dropped_as_it_lies() {
        let head = |length: u8| [6, 0, 0, 0, length, 0, 0, 0];
        let fields = [&[0; 12][..], &[17, 0, 0, 0, 17, 0, 0, 0], FRAME].concat();
        let length = 12 + 20 + 17_u8;
        let tail = [length, 0, 0, 0];
        let padded = [&head(length)[..], &fields, &[0; 3], &tail].concat();
        let unpadded = [&head(length)[..], &fields, &tail].concat();
        for odd in [padded, unpadded] {
            let file = [section(), interface(1, 0), odd, enhanced(0, FRAME, 17)].concat();
            assert_eq!(read(&file).unwrap(), [(FRAME.to_vec(), false), (FRAME.to_vec(), false)]);
        }
    }

    #[test]
    fn old_versions_have_the_lengths_the_other_way_round() {
        for (major, minor) in [(2, 2), (2, 3), (543, 0)] {
            let mut file = pcap(1, &[(FRAME, 17), (&FRAME[..14], 1514)]);
            file[4..8].copy_from_slice(
                &[major >> 8, major, 0, minor].map(|half: u16| u8::try_from(half & 0xff).unwrap()),
            );
            for at in [24, 24 + 16 + FRAME.len()] {
                file[at + 8..at + 16].rotate_left(4);
            }
            let cut = (FRAME[..14].to_vec(), true);
            assert_eq!(read(&file).unwrap(), [(FRAME.to_vec(), false), cut], "{major}.{minor}");
        }
    }

    /// Has one byte at a time, and none at every other call.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.read(&mut buffer[..1])
        }
    }

    #[test]
    fn a_source_that_drips_has_the_same_frames_each_as_soon_as_it_is_whole() {
        for file in [pcap(1, &[(FRAME, 17), (FRAME, 17)]), pcapng()] {
            let mut reader = CaptureReader::new(Drip(&file, false));
            let mut frames = Vec::new();
            loop {
                match reader.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => frames.push((frame.bytes.to_vec(), frame.cut)),
                    Err(CaptureError::Io(error)) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(frames, read(&file).unwrap());
        }
        let file = pcap(1, &[(FRAME, 17)]);
        let mut reader = CaptureReader::new((&file[..]).chain(Drip(b"", false)));
        assert_eq!(reader.next_frame().unwrap().unwrap().bytes, FRAME);
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
