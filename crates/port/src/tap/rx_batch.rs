//! A burst of what the kernel sends, in memory of our own on its way to the ring.

use std::io::{ErrorKind, Read as _};
use std::ops::Range;

use nix::libc;
use shmbus::MIN_FRAME;
use shmbus::offload::{Checksum, Offload, TxRequest};
use tapdev::header::{self, Header};
use tapdev::{Form, TapDevice};

/// The most frames that are taken at once.
const FRAMES: usize = 256;
/// The most bytes, about: two super-frames. More would only be more to lose for readers that are slow at the moment.
const BYTES: usize = 128 << 10;
/// Room for one read: the longest packet, its Ethernet header and tag, and a virtio-net header.
const ROOM: usize = (64 << 10) + 64;

/// Frames that were read.
pub(super) struct RxBatch {
    header_len: usize,
    bytes: Box<[u8]>,
    frames: Vec<Frame>,
}

struct Frame {
    place: Range<usize>,
    undone: Offload,
}

impl RxBatch {
    pub(super) fn new(form: Form) -> Self {
        Self {
            header_len: if form == Form::Virtio { header::LEN } else { 0 },
            bytes: vec![0; BYTES + ROOM].into_boxed_slice(),
            frames: Vec::with_capacity(FRAMES),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes what the kernel has to send, in place of what was taken before. Returns how many frames were left out: those
    /// that are longer than `longest` or that nobody understands.
    pub(super) fn fill(&mut self, tap: &TapDevice, longest: usize) -> usize {
        self.frames.clear();
        let (mut filled, mut unusable) = (0, 0);
        for _ in 0..FRAMES {
            if filled > BYTES {
                break;
            }
            let room = &mut self.bytes[filled..filled + ROOM];
            match read(tap, room) {
                Ok(len) => match prepare(&mut room[..len], self.header_len, longest) {
                    Some(undone) => {
                        let place = filled + self.header_len..filled + len;
                        self.frames.push(Frame { place, undone });
                        filled += len;
                    }
                    None => unusable += 1,
                },
                Err(Nothing::Now) => break,
                Err(Nothing::ThisTime) => unusable += 1,
            }
        }
        unusable
    }

    /// What was taken, for the station to finish and send.
    pub(super) fn requests(&self) -> impl Iterator<Item = TxRequest<'_>> + Clone {
        self.frames.iter().map(|frame| TxRequest::new(&self.bytes[frame.place.clone()], frame.undone))
    }

    /// Throws away what the kernel has to send, as far as it is there already.
    pub(super) fn drain(&mut self, tap: &TapDevice) {
        self.frames.clear();
        // As many as the longest queue that anybody sets; the kernel adds none meanwhile.
        for _ in 0..1 << 16 {
            if let Err(Nothing::Now) = read(tap, &mut self.bytes[..ROOM]) {
                return;
            }
        }
    }
}

/// Why no frame was read.
enum Nothing {
    /// There is none.
    Now,
    /// There was one, and it is lost.
    ThisTime,
}

fn read(mut tap: &TapDevice, room: &mut [u8]) -> Result<usize, Nothing> {
    tap.read(room).map_err(|error| {
        // Longer than the room for it, or of a kind that was not asked for.
        if matches!(error.raw_os_error(), Some(libc::EFAULT | libc::EINVAL)) {
            return Nothing::ThisTime;
        }
        if error.kind() != ErrorKind::WouldBlock {
            tracing::debug!(%error, "cannot read from a TAP interface");
        }
        Nothing::Now
    })
}

/// Looks at what was read, with a virtio-net header of `header_len` bytes or none before it: what is left for the
/// station to do, or `None` if the frame cannot be sent.
fn prepare(read: &mut [u8], header_len: usize, longest: usize) -> Option<Offload> {
    let (before, frame) = read.split_at_mut_checked(header_len)?;
    let header =
        <[u8; header::LEN]>::try_from(&*before).map_or_else(|_| Header::default(), Header::from_bytes);
    let Header { flags, gso_type, gso_size, csum_start, csum_offset, .. } = header;
    if frame.len() < MIN_FRAME {
        return None;
    }
    match gso_type & !header::GSO_ECN {
        header::GSO_NONE if frame.len() > longest => None,
        header::GSO_NONE => {
            if flags & header::NEEDS_CSUM != 0 {
                fill_sum(frame, csum_start.into(), csum_offset.into())?;
            }
            Some(Offload::new())
        }
        header::GSO_TCPV4 | header::GSO_TCPV6 => {
            Some(Offload::new().partial(csum_start, csum_offset).segments(gso_size))
        }
        _ => None,
    }
}

/// Finishes a partial checksum. The kernel asks for this by place alone, and for more than the TCP and UDP that a station
/// finishes: for what is inside a tunnel, too. The frame is ours, so it is done in place.
fn fill_sum(frame: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let place = start + offset..start + offset + 2;
    if start > frame.len() || place.end > frame.len() {
        return None;
    }
    let sum = match Checksum::new().with(&frame[start..]).value() {
        // The same number to who adds it up; UDP takes 0 for "none".
        0 => 0xffff,
        sum => sum,
    };
    frame[place].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(header: Header, frame: &[u8]) -> Vec<u8> {
        [&header.to_bytes()[..], frame].concat()
    }

    #[test]
    fn a_partial_sum_is_finished_wherever_it_is() {
        // The sum of 0x1234 and the field's own 0x0001 is 0x1235; what is before the start is of no account.
        let mut frame = [0xff; 40];
        frame[34..].copy_from_slice(&[0, 1, 0x12, 0x34, 0, 0]);
        let header = Header { flags: header::NEEDS_CSUM, csum_start: 34, ..Header::default() };
        let mut read = with_header(header, &frame);
        assert_eq!(prepare(&mut read, header::LEN, 1_514), Some(Offload::new()));
        assert_eq!(read[header::LEN + 34..], [0xed, 0xca, 0x12, 0x34, 0, 0]);
    }

    #[test]
    fn a_sum_outside_the_frame_is_refused() {
        for (csum_start, csum_offset) in [(39, 0), (40, 0), (0, 39), (u16::MAX, u16::MAX)] {
            let header = Header { flags: header::NEEDS_CSUM, csum_start, csum_offset, ..Header::default() };
            assert_eq!(prepare(&mut with_header(header, &[0; 40]), header::LEN, 1_514), None);
        }
    }

    #[test]
    fn super_frames_may_be_long_and_plain_ones_may_not() {
        let header =
            Header { gso_type: header::GSO_TCPV4 | header::GSO_ECN, gso_size: 1_448, ..Header::default() };
        let undone = prepare(&mut with_header(header, &vec![0; 60_000]), header::LEN, 1_514);
        assert_eq!(undone, Some(Offload::new().partial(0, 0).segments(1_448)));
        assert_eq!(prepare(&mut [0; 1_515], 0, 1_514), None);
        assert_eq!(prepare(&mut [0; 1_514], 0, 1_514), Some(Offload::new()));
    }

    #[test]
    fn what_is_no_frame_or_of_an_unknown_kind_is_refused() {
        assert_eq!(prepare(&mut [0; 5], header::LEN, 1_514), None);
        assert_eq!(prepare(&mut [0; 13], 0, 1_514), None);
        let udp = Header { gso_type: 5, ..Header::default() };
        assert_eq!(prepare(&mut with_header(udp, &[0; 60]), header::LEN, 1_514), None);
    }
}
