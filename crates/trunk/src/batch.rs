//! Frames in one message of Zenoh.
//!
//! ```text
//!  0  version, 1          4  era, 8 bytes               20  frames: a length of 2 bytes, and the frame
//!  1  zero                12 number within the era, 8 bytes
//!  2  how many frames, 2 bytes
//! ```
//! Numbers have the most significant byte first.

use std::ops::Range;

const VERSION: u8 = 1;
/// The bytes before the frames.
const HEADER: usize = 20;
/// The bytes of an Ethernet header: no frame is shorter.
const MIN_FRAME: usize = 14;
/// The most bytes of a message.
pub(crate) const MAX_MESSAGE: usize = 128 << 10;

/// Where a message belongs in the order of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which stretch of time, between two changes of the way.
    pub(crate) era: u64,
    /// Which message of the era, from 1 on.
    pub(crate) number: u64,
}

/// Why a message holds no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Another program, or another version of this one, has made it.
    #[error("its version is not {VERSION}")]
    Version,
    /// It is cut, or longer than it says.
    #[error("its length is wrong")]
    Length,
    /// One of its frames has no Ethernet header.
    #[error("a frame is too short")]
    Short,
}

/// Frames that wait to be sent in one message.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    count: u16,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns how many frames there are.
    pub(crate) fn count(&self) -> usize {
        self.count.into()
    }

    /// Returns how many bytes the message has so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a frame. Returns `false` when it has no room in a message of up to `room` bytes.
    pub(crate) fn push(&mut self, frame: &[u8], room: usize) -> bool {
        let Ok(len) = u16::try_from(frame.len()) else { return false };
        let begin = self.bytes.len().max(HEADER);
        let fits = begin + 2 + frame.len() <= room.min(MAX_MESSAGE);
        if !fits || self.count == u16::MAX || frame.len() < MIN_FRAME {
            return false;
        }
        self.bytes.resize(begin, 0);
        self.bytes.extend_from_slice(&len.to_be_bytes());
        self.bytes.extend_from_slice(frame);
        self.count += 1;
        true
    }

    /// Returns the message, and is empty after that.
    pub(crate) fn finish(&mut self, place: Place) -> Vec<u8> {
        let room = self.bytes.len();
        let mut bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(room));
        bytes.resize(bytes.len().max(HEADER), 0);
        bytes[0] = VERSION;
        bytes[2..4].copy_from_slice(&self.count.to_be_bytes());
        bytes[4..12].copy_from_slice(&place.era.to_be_bytes());
        bytes[12..20].copy_from_slice(&place.number.to_be_bytes());
        self.count = 0;
        bytes
    }

    /// Passes each frame to `frame`, in order, and is empty after that.
    pub(crate) fn drain(&mut self, mut frame: impl FnMut(&[u8])) {
        let mut rest = self.bytes.get(HEADER..).unwrap_or_default();
        while let Some((len, more)) = rest.split_first_chunk::<2>() {
            let Some((bytes, after)) = more.split_at_checked(u16::from_be_bytes(*len).into())
            else {
                break;
            };
            frame(bytes);
            rest = after;
        }
        self.clear();
    }

    /// Drops all frames.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// Reads a message: where it belongs, and, into `frames`, where its frames are.
///
/// # Errors
/// [`Malformed`] when any part is wrong. There are no frames then.
pub(crate) fn read(message: &[u8], frames: &mut Vec<Range<usize>>) -> Result<Place, Malformed> {
    frames.clear();
    let result = read_into(message, frames);
    if result.is_err() {
        frames.clear();
    }
    result
}

fn read_into(message: &[u8], frames: &mut Vec<Range<usize>>) -> Result<Place, Malformed> {
    if message.len() > MAX_MESSAGE {
        return Err(Malformed::Length);
    }
    let (header, _) = message.split_first_chunk::<HEADER>().ok_or(Malformed::Length)?;
    if header[..2] != [VERSION, 0] {
        return Err(Malformed::Version);
    }
    let number =
        |at: usize| header[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let mut at = HEADER;
    for _ in 0..u16::from_be_bytes([header[2], header[3]]) {
        let len = message[at..].first_chunk().ok_or(Malformed::Length)?;
        let (begin, len) = (at + 2, usize::from(u16::from_be_bytes(*len)));
        at = begin + len;
        if at > message.len() {
            return Err(Malformed::Length);
        }
        if len < MIN_FRAME {
            return Err(Malformed::Short);
        }
        frames.push(begin..at);
    }
    if at < message.len() {
        return Err(Malformed::Length);
    }
    Ok(Place { era: number(4), number: number(12) })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place = Place { era: 7, number: 9 };

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(sent in vec(vec(any::<u8>(), 14..200), 0..100)) {
            let (mut batch, mut ranges) = (Batch::default(), Vec::new());
            for frame in &sent {
                prop_assert!(batch.push(frame, MAX_MESSAGE));
            }
            prop_assert_eq!(batch.count(), sent.len());
            let message = batch.finish(PLACE);
            prop_assert!(batch.is_empty());
            prop_assert_eq!(read(&message, &mut ranges), Ok(PLACE));
            let read: Vec<&[u8]> = ranges.into_iter().map(|range| &message[range]).collect();
            prop_assert_eq!(&read, &sent);
            for frame in &sent {
                prop_assert!(batch.push(frame, MAX_MESSAGE));
            }
            let mut drained = Vec::new();
            batch.drain(|frame| drained.push(frame.to_vec()));
            prop_assert_eq!(drained, sent);
            prop_assert!(batch.is_empty());
        }

        #[test]
        fn any_bytes_are_frames_or_refused(message in vec(any::<u8>(), 0..300), version: bool) {
            let (mut message, mut ranges) = (message, vec![3..5, 5..6]);
            if version && message.len() > 3 {
                message[..3].copy_from_slice(&[VERSION, 0, 0]);
                message[3] %= 4;
            }
            if read(&message, &mut ranges).is_ok() {
                let held: usize = ranges.iter().map(|range| 2 + range.len()).sum();
                prop_assert_eq!(HEADER + held, message.len());
            } else {
                prop_assert!(ranges.is_empty());
            }
        }
    }

    #[test]
    fn what_has_no_room_stays_out() {
        let mut batch = Batch::default();
        assert!(!batch.push(&[0; 13], MAX_MESSAGE));
        assert!(!batch.push(&vec![0; 1 << 16], MAX_MESSAGE));
        assert!(!batch.push(&[0; 100], HEADER + 101));
        assert!(batch.push(&[0; 100], HEADER + 102));
        assert!(!batch.push(&[0; 14], HEADER + 102));
        let message = batch.finish(PLACE);
        for cut in 0..message.len() {
            assert!(read(&message[..cut], &mut Vec::new()).is_err(), "{cut}");
        }
        let longer = [&message[..], &[0]].concat();
        assert_eq!(read(&longer, &mut Vec::new()), Err(Malformed::Length));
    }
}
