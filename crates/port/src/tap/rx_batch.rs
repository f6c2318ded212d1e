//! A batch of frames that the kernel sends, in a buffer of our own on their way to the ring.

use std::io::{ErrorKind, Read as _};
use std::ops::Range;

use nix::libc;
use shmbus::MIN_FRAME;
use shmbus::offload::{Checksum, Offload, TxRequest};
use tapdev::header::{self, Header};
use tapdev::{Form, TapDevice};

use crate::port::fits_untagged;

/// The most frames in a batch.
const MAX_FRAMES: usize = 256;
/// About the most bytes in a batch: two super-frames. With more at once, readers that are slow at
/// the moment would lose more.
const MAX_BYTES: usize = 128 << 10;
/// The buffer for one read in bytes: the longest packet, its Ethernet header and tag, and a
/// virtio-net header.
const READ_SIZE: usize = (64 << 10) + 64;

/// Frames that were read and cannot be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unusable {
    /// Longer than the bus carries.
    pub(super) too_long: usize,
    /// Those of them that would not be without their VLAN tag.
    pub(super) tagged: usize,
    /// Too short, damaged, or of an unknown kind.
    pub(super) others: usize,
}

impl Unusable {
    /// Returns the sum of both.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            too_long: self.too_long + other.too_long,
            tagged: self.tagged + other.tagged,
            others: self.others + other.others,
        }
    }

    fn add(&mut self, reason: Refused) {
        match reason {
            Refused::TooLong { tagged } => {
                self.too_long += 1;
                self.tagged += usize::from(tagged);
            }
            Refused::Other => self.others += 1,
        }
    }
}

/// Why a frame cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    TooLong { tagged: bool },
    Other,
}

/// Frames that were read from the kernel.
pub(super) struct RxBatch {
    header_len: usize,
    bytes: Box<[u8]>,
    frames: Vec<Frame>,
}

struct Frame {
    /// Where the frame lies in the buffer.
    range: Range<usize>,
    /// What the kernel left to the station.
    offload: Offload,
}

impl RxBatch {
    pub(super) fn new(form: Form) -> Self {
        Self {
            header_len: if form == Form::Virtio { header::LEN } else { 0 },
            bytes: vec![0; MAX_BYTES + READ_SIZE].into_boxed_slice(),
            frames: Vec::with_capacity(MAX_FRAMES),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Reads what the kernel has to send, in place of the last batch. Returns how many frames were
    /// left out: longer than `longest`, or of an unknown kind.
    pub(super) fn fill(&mut self, tap: &TapDevice, longest: usize) -> Unusable {
        self.frames.clear();
        let (mut filled, mut unusable) = (0, Unusable::default());
        for _ in 0..MAX_FRAMES {
            if filled > MAX_BYTES {
                break;
            }
            let buffer = &mut self.bytes[filled..filled + READ_SIZE];
            match read(tap, buffer) {
                Ok(len) => match prepare(&mut buffer[..len], self.header_len, longest) {
                    Ok(offload) => {
                        let range = filled + self.header_len..filled + len;
                        self.frames.push(Frame { range, offload });
                        filled += len;
                    }
                    Err(reason) => unusable.add(reason),
                },
                Err(NoFrame::Empty) => break,
                Err(NoFrame::Lost) => unusable.add(Refused::Other),
            }
        }
        unusable
    }

    /// Returns the frames, for the station to finish and send.
    pub(super) fn requests(&self) -> impl Iterator<Item = TxRequest<'_>> + Clone {
        self.frames
            .iter()
            .map(|frame| TxRequest::new(&self.bytes[frame.range.clone()], frame.offload))
    }

    /// Discards the frames that the kernel has queued.
    pub(super) fn drain(&mut self, tap: &TapDevice) {
        self.frames.clear();
        // Bounded by a queue longer than is ever configured. While the interface is down, the
        // kernel adds none.
        for _ in 0..1 << 16 {
            if let Err(NoFrame::Empty) = read(tap, &mut self.bytes[..READ_SIZE]) {
                return;
            }
        }
    }
}

/// Why no frame was read.
enum NoFrame {
    /// The kernel has none.
    Empty,
    /// There was one, and it is lost.
    Lost,
}

fn read(mut tap: &TapDevice, buffer: &mut [u8]) -> Result<usize, NoFrame> {
    tap.read(buffer).map_err(|error| {
        // Longer than the buffer, or of a kind that was not asked for.
        if matches!(error.raw_os_error(), Some(libc::EFAULT | libc::EINVAL)) {
            return NoFrame::Lost;
        }
        if error.kind() != ErrorKind::WouldBlock {
            tracing::debug!(%error, "cannot read from a TAP interface");
        }
        NoFrame::Empty
    })
}

/// Prepares a frame that was read, behind a virtio-net header of `header_len` bytes (0: none).
/// Returns the offload that is left to the station.
///
/// # Errors
/// Why the frame cannot be sent.
fn prepare(read: &mut [u8], header_len: usize, longest: usize) -> Result<Offload, Refused> {
    let (before, frame) = read.split_at_mut_checked(header_len).ok_or(Refused::Other)?;
    let header = <[u8; header::LEN]>::try_from(&*before)
        .map_or_else(|_| Header::default(), Header::from_bytes);
    let Header { flags, gso_type, gso_size, csum_start, csum_offset, .. } = header;
    if frame.len() < MIN_FRAME {
        return Err(Refused::Other);
    }
    match gso_type & !header::GSO_ECN {
        header::GSO_NONE if frame.len() > longest => {
            Err(Refused::TooLong { tagged: fits_untagged(frame, frame.len(), longest) })
        }
        header::GSO_NONE => {
            if flags & header::NEEDS_CSUM != 0 {
                finish_checksum(frame, csum_start.into(), csum_offset.into())
                    .ok_or(Refused::Other)?;
            }
            Ok(Offload::new())
        }
        header::GSO_TCPV4 | header::GSO_TCPV6 => {
            Ok(Offload::new().partial(csum_start, csum_offset).segments(gso_size))
        }
        _ => Err(Refused::Other),
    }
}

/// Finishes a partial checksum in place. The kernel names only the position of the checksum, which
/// may be one that a station does not finish: a station knows TCP and UDP, and not what is inside a
/// tunnel.
fn finish_checksum(frame: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let range = start + offset..start + offset + 2;
    if start > frame.len() || range.end > frame.len() {
        return None;
    }
    let sum = match Checksum::new().with(&frame[start..]).value() {
        // Equal in one's complement; in UDP, 0 means that there is no checksum.
        0 => 0xffff,
        sum => sum,
    };
    frame[range].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(header: Header, frame: &[u8]) -> Vec<u8> {
        [&header.to_bytes()[..], frame].concat()
    }

    #[test]
    fn a_partial_checksum_is_finished_at_any_position() {
        // The sum of 0x1234 and the field's own 0x0001 is 0x1235; bytes before the start do not
        // count.
        let mut frame = [0xff; 40];
        frame[34..].copy_from_slice(&[0, 1, 0x12, 0x34, 0, 0]);
        let header = Header { flags: header::NEEDS_CSUM, csum_start: 34, ..Header::default() };
        let mut read = with_header(header, &frame);
        assert_eq!(prepare(&mut read, header::LEN, 1_514), Ok(Offload::new()));
        assert_eq!(read[header::LEN + 34..], [0xed, 0xca, 0x12, 0x34, 0, 0]);
    }

    #[test]
    fn a_checksum_outside_the_frame_is_refused() {
        for (csum_start, csum_offset) in [(39, 0), (40, 0), (0, 39), (u16::MAX, u16::MAX)] {
            let header =
                Header { flags: header::NEEDS_CSUM, csum_start, csum_offset, ..Header::default() };
            let prepared = prepare(&mut with_header(header, &[0; 40]), header::LEN, 1_514);
            assert_eq!(prepared, Err(Refused::Other));
        }
    }

    #[test]
    fn super_frames_may_be_long_and_plain_ones_may_not() {
        let header = Header {
            gso_type: header::GSO_TCPV4 | header::GSO_ECN,
            gso_size: 1_448,
            ..Header::default()
        };
        let offload = prepare(&mut with_header(header, &vec![0; 60_000]), header::LEN, 1_514);
        assert_eq!(offload, Ok(Offload::new().partial(0, 0).segments(1_448)));
        assert_eq!(prepare(&mut [0; 1_515], 0, 1_514), Err(Refused::TooLong { tagged: false }));
        assert_eq!(prepare(&mut [0; 1_514], 0, 1_514), Ok(Offload::new()));
    }

    #[test]
    fn short_frames_and_unknown_kinds_are_refused() {
        assert_eq!(prepare(&mut [0; 5], header::LEN, 1_514), Err(Refused::Other));
        assert_eq!(prepare(&mut [0; 13], 0, 1_514), Err(Refused::Other));
        let udp = Header { gso_type: 5, ..Header::default() };
        assert_eq!(
            prepare(&mut with_header(udp, &[0; 60]), header::LEN, 1_514),
            Err(Refused::Other)
        );
    }
}
