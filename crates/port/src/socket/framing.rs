//! Where frames begin and end on a stream: a length before each, as QEMU and VDE write it.
//!
//! No I/O happens here: a [`Deframer`] gets the bytes of the stream in pieces of any length, and
//! gives out whole frames.

use std::ops::Range;

use super::batch::Batch;
use crate::port::BURST;

/// The longest frame on a socket in bytes: the longest packet with its headers and a tag. A greater
/// length is no frame's, so the stream has another framing.
pub(super) const MAX_LEN: usize = 65_535 + 18;
/// The size of the buffer of a stream in bytes: several of the longest frames, and yet so few bytes
/// that they stay in the cache of a processor.
pub(super) const BUFFER: usize = 1 << 18;

/// How frames are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A stream with a length of four bytes in network order before each frame: QEMU's, passt's.
    Qemu,
    /// One frame is one packet of a socket with connections (`SOCK_SEQPACKET`).
    Packet,
    /// One frame is one datagram.
    Dgram,
    /// A stream with a length of two bytes in network order before each frame: `vde_plug`'s.
    Vde,
}

impl Framing {
    /// Returns whether frames lie in a stream of bytes.
    #[must_use]
    pub fn is_stream(self) -> bool {
        self.prefix() > 0
    }

    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Packet => "packet",
            Self::Dgram => "dgram",
            Self::Vde => "vde",
        }
    }

    /// Returns the size in bytes of the length before each frame; 0 where there is none.
    pub(super) fn prefix(self) -> usize {
        match self {
            Self::Qemu => 4,
            Self::Vde => 2,
            Self::Packet | Self::Dgram => 0,
        }
    }

    /// Returns the longest frame in bytes.
    pub(super) fn max_len(self) -> usize {
        match self {
            Self::Vde => usize::from(u16::MAX),
            Self::Qemu | Self::Packet | Self::Dgram => MAX_LEN,
        }
    }

    /// Writes the length of a frame to `prefix`, which has the right size. A frame is not longer
    /// than [`max_len`](Self::max_len).
    pub(super) fn write_prefix(prefix: &mut [u8], len: usize) {
        let bytes = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        let skipped = bytes.len() - prefix.len();
        prefix.copy_from_slice(&bytes[skipped..]);
    }
}

/// The stream names a length that no frame has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer announces a frame of {0} bytes, and the longest has {MAX_LEN}: it has another framing"
)]
pub(super) struct WrongLength(pub(super) u32);

/// Finds whole frames in a stream.
#[derive(Debug)]
pub(super) struct Deframer {
    prefix: usize,
    /// The frames that were found.
    batch: Batch,
    /// The bytes that were read and are in no frame yet.
    unparsed: Range<usize>,
    wrong: Option<WrongLength>,
}

impl Deframer {
    /// Begins a stream with `framing`, which [is one](Framing::is_stream).
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            prefix: framing.prefix(),
            batch: Batch::new(BUFFER, BURST),
            unparsed: 0..0,
            wrong: None,
        }
    }

    pub(super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    /// Finds more frames in what was read, when all are consumed. Returns whether there are frames.
    ///
    /// # Errors
    /// [`WrongLength`], once all frames before it are consumed.
    #[inline]
    pub(super) fn parse(&mut self) -> Result<bool, WrongLength> {
        if !self.batch.is_empty() {
            return Ok(true);
        }
        self.batch.clear();
        while self.wrong.is_none() && self.batch.len() < BURST {
            let unparsed = &self.batch.bytes[self.unparsed.clone()];
            let Some((prefix, rest)) = unparsed.split_at_checked(self.prefix) else { break };
            let len = prefix.iter().fold(0, |len, byte| len << 8 | u32::from(*byte));
            let frame = len as usize;
            if frame > MAX_LEN {
                self.wrong = Some(WrongLength(len));
            } else if frame > rest.len() {
                break;
            } else {
                let begin = self.unparsed.start + self.prefix;
                self.batch.push(begin..begin + frame);
                self.unparsed.start = begin + frame;
            }
        }
        match self.wrong {
            Some(wrong) if self.batch.is_empty() => Err(wrong),
            _ => Ok(!self.batch.is_empty()),
        }
    }

    /// Returns where to read the next bytes of the stream to. All frames must be consumed, and
    /// [`parse`](Self::parse) must have found no more.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.batch.clear();
        self.batch.bytes.copy_within(self.unparsed.clone(), 0);
        self.unparsed = 0..self.unparsed.len();
        &mut self.batch.bytes[self.unparsed.end..]
    }

    /// Adds the first `count` bytes of the [room](Self::room) to what was read.
    pub(super) fn filled(&mut self, count: usize) {
        self.unparsed.end += count;
    }

    /// Returns whether a frame has begun and is not whole.
    pub(super) fn is_inside_frame(&self) -> bool {
        !self.unparsed.is_empty()
    }
}

#[cfg(any(test, fuzzing))]
pub(super) mod model {
    use super::*;

    /// Finds the frames of a whole stream in the plainest way: the frames, and whether a wrong
    /// length follows them.
    pub(crate) fn frames(prefix: usize, mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let mut frames = Vec::new();
        while stream.len() >= prefix {
            let mut len = 0;
            for byte in &stream[..prefix] {
                len = len * 256 + usize::from(*byte);
            }
            if len > MAX_LEN {
                return (frames, true);
            }
            let Some(frame) = stream[prefix..].get(..len) else { break };
            frames.push(frame.to_vec());
            stream = &stream[prefix + len..];
        }
        (frames, false)
    }

    /// Passes a stream through a deframer in pieces of the lengths `pieces`, over and over, and
    /// compares.
    ///
    /// # Panics
    /// When the frames are others than those of the model.
    pub(crate) fn check(framing: Framing, stream: &[u8], pieces: &[usize]) {
        let mut deframer = Deframer::new(framing);
        let (mut found, mut wrong, mut rest) = (Vec::new(), false, stream);
        let mut pieces = pieces.iter().cycle();
        loop {
            match deframer.parse() {
                Ok(true) => {
                    // Not always all at once.
                    let some = deframer.batch().frames().count().div_ceil(2);
                    found.extend(deframer.batch().frames().take(some).map(<[u8]>::to_vec));
                    deframer.batch().consume(some);
                    continue;
                }
                Ok(false) => {}
                Err(_) => {
                    wrong = true;
                    break;
                }
            }
            if rest.is_empty() {
                break;
            }
            let room = deframer.room();
            let count =
                pieces.next().map_or(1, |piece| (*piece).clamp(1, room.len())).min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            deframer.filled(count);
            rest = &rest[count..];
        }
        let expected = frames(framing.prefix(), stream);
        assert_eq!((found, wrong), expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(framing: Framing, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            let mut prefix = vec![0; framing.prefix()];
            Framing::write_prefix(&mut prefix, frame.len());
            stream.extend(prefix);
            stream.extend(frame);
        }
        stream
    }

    /// Streams of frames of all lengths, cut anywhere, with and without a wrong length.
    #[test]
    fn frames_are_those_of_the_model() {
        let mut random = fastrand::Rng::with_seed(13);
        for round in 0..300 {
            let framing = if round % 2 == 0 { Framing::Qemu } else { Framing::Vde };
            let longest = [20, 200, 2_000, framing.max_len()][random.usize(..4)];
            let frames: Vec<Vec<u8>> = (0..random.usize(..40))
                .map(|_| {
                    let len = random.usize(..=longest);
                    vec![random.u8(..); if random.bool() { longest } else { len }]
                })
                .collect();
            let mut stream = stream(framing, &frames);
            match random.u8(..4) {
                0 => stream.truncate(random.usize(..=stream.len())),
                1 => stream.extend([0, 1, 0, 18 + random.u8(..100), 1, 2, 3]),
                2 => stream.extend((0..random.usize(..100)).map(|_| random.u8(..))),
                _ => {}
            }
            let mut piece = || {
                let limit = 1 << random.usize(..17);
                random.usize(1..=limit)
            };
            let pieces: Vec<usize> = (0..10).map(|_| piece()).collect();
            model::check(framing, &stream, &pieces);
        }
    }

    #[test]
    fn a_length_that_no_frame_has_ends_the_stream() {
        let mut deframer = Deframer::new(Framing::Qemu);
        let stream = [&[0, 0, 0, 1, 7][..], &[0, 1, 0, 18]].concat();
        deframer.room()[..stream.len()].copy_from_slice(&stream);
        deframer.filled(stream.len());
        assert_eq!(deframer.parse(), Ok(true));
        assert!(deframer.batch().frames().eq([[7]]));
        deframer.batch().consume(1);
        assert_eq!(deframer.parse(), Err(WrongLength(65_554)));
        assert_eq!(deframer.parse(), Err(WrongLength(65_554)));
    }

    #[test]
    fn the_longest_frame_always_has_room() {
        let mut deframer = Deframer::new(Framing::Qemu);
        for _ in 0..20 {
            let frames = [vec![1; 60_000], vec![2; MAX_LEN]];
            let stream = stream(Framing::Qemu, &frames);
            let mut found = 0;
            for piece in stream.chunks(50_000) {
                while deframer.parse().expect("right lengths") {
                    found += 1;
                    deframer.batch().consume(1);
                }
                deframer.room()[..piece.len()].copy_from_slice(piece);
                deframer.filled(piece.len());
            }
            while deframer.parse().expect("right lengths") {
                found += 1;
                deframer.batch().consume(1);
            }
            assert_eq!(found, 2);
            assert!(!deframer.is_inside_frame());
        }
    }
}
