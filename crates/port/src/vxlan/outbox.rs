//! Frames on their way to other ends: taken from the bus with their headers before them, as they lie
//! in datagrams, and kept until the kernel has taken them.
//!
//! Frames of one length that follow each other lie in one piece, so that one system call can send
//! many of them (`UDP_SEGMENT`).

use shmbus::{FrameSink, MAX_BIG_FRAME, RingFrame};

use super::header::{HEADER, header};

/// The room for datagrams in bytes: a burst of 256 usual ones.
const ROOM: usize = 400 << 10;
const _: () = assert!(ROOM > HEADER + MAX_BIG_FRAME);

/// How many source ports there are. The frames of a flow have one.
pub(super) const LANES: usize = 8;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To one remote.
    One(usize),
    /// To all.
    All,
}

/// A datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    begin: usize,
    len: usize,
    pub(super) target: Target,
    /// Which source port it leaves from.
    pub(super) lane: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    header: [u8; HEADER],
    bytes: Box<[u8]>,
    datagrams: Vec<Datagram>,
    /// How many of them are known to be whole, and how many have their target.
    whole: usize,
    targeted: usize,
}

impl Outbox {
    pub(super) fn new(vni: u32) -> Self {
        Self {
            header: header(vni),
            bytes: vec![0; ROOM].into_boxed_slice(),
            datagrams: Vec::new(),
            whole: 0,
            targeted: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Forgets all datagrams.
    pub(super) fn clear(&mut self) {
        self.datagrams.clear();
        (self.whole, self.targeted) = (0, 0);
    }

    pub(super) fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    /// Returns the bytes of the datagram.
    #[cfg(test)]
    pub(super) fn bytes_of(&self, datagram: &Datagram) -> &[u8] {
        &self.bytes[datagram.begin..datagram.begin + datagram.len]
    }

    /// Chooses target and lane of the frames that have none. Those without a choice are removed.
    pub(super) fn choose(&mut self, mut choose: impl FnMut(&[u8]) -> Option<(Target, usize)>) {
        let mut kept = self.targeted;
        for number in self.targeted..self.datagrams.len() {
            let Datagram { begin, len, .. } = self.datagrams[number];
            if let Some((target, lane)) = choose(&self.bytes[begin + HEADER..begin + len]) {
                self.datagrams[kept] = Datagram { begin, len, target, lane };
                kept += 1;
            }
        }
        self.datagrams.truncate(kept);
        (self.whole, self.targeted) = (kept, kept);
    }

    /// Returns how many datagrams from the one with this number on can be sent as one piece, at most
    /// `limit` and of at most `room` bytes: they have one target, lane and length. The last may be
    /// shorter.
    pub(super) fn run(&self, first: usize, limit: usize, room: usize) -> usize {
        let head = self.datagrams[first];
        let limit = limit.min(room / head.len).max(1);
        let (mut count, mut end) = (1, head.begin + head.len);
        for next in self.datagrams[first + 1..].iter().take(limit - 1) {
            let follows = next.begin == end && next.len <= head.len;
            if next.target != head.target || next.lane != head.lane || !follows {
                break;
            }
            (count, end) = (count + 1, end + next.len);
            if next.len < head.len {
                break;
            }
        }
        count
    }

    /// Returns the bytes of `count` datagrams from `first` on, which are one piece, and the length of
    /// the first.
    pub(super) fn piece(&self, first: usize, count: usize) -> (&[u8], usize) {
        let (head, last) = (self.datagrams[first], self.datagrams[first + count - 1]);
        (&self.bytes[head.begin..last.begin + last.len], head.len)
    }

    /// Puts in a frame whose target and lane are known, while all before have theirs. Returns `false`
    /// when there is no room.
    pub(super) fn push_to(&mut self, frame: &[u8], target: Target, lane: usize) -> bool {
        let pushed = self.push(frame);
        if let Some(last) = self.datagrams.last_mut().filter(|_| pushed) {
            (last.target, last.lane) = (target, lane);
        }
        self.targeted = self.datagrams.len();
        pushed
    }

    /// Puts in a frame that is not from the bus. Returns `false` when there is no room.
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        let pushed = self.put(frame.len(), |slot| slot.copy_from_slice(frame));
        self.whole = self.datagrams.len();
        pushed
    }

    #[inline]
    fn put(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> bool {
        let begin = self.datagrams.last().map_or(0, |last| last.begin + last.len);
        let len = HEADER + len;
        let Some(slot) = self.bytes.get_mut(begin..begin + len) else { return false };
        let (before, frame) = slot.split_at_mut(HEADER);
        before.copy_from_slice(&self.header);
        write(frame);
        self.datagrams.push(Datagram { begin, len, target: Target::All, lane: 0 });
        true
    }
}

impl FrameSink for Outbox {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        self.put(frame.len(), |slot| {
            frame.copy_to(slot);
        })
    }

    fn commit(&mut self) {
        self.whole = self.datagrams.len();
    }

    fn discard(&mut self) {
        self.datagrams.truncate(self.whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_one_length_are_one_piece() {
        let mut outbox = Outbox::new(42);
        for len in [100, 100, 100, 60, 100, 100, 200] {
            assert!(outbox.push(&vec![7; len]));
        }
        outbox.choose(|_| Some((Target::One(3), 1)));
        // The last may be shorter, and is the last then.
        assert_eq!(outbox.run(0, 64, 65_000), 4);
        assert_eq!(outbox.run(4, 64, 65_000), 2);
        assert_eq!(outbox.run(6, 64, 65_000), 1);
        assert_eq!(outbox.run(0, 2, 65_000), 2);
        assert_eq!(outbox.run(0, 64, 2 * 108 + 1), 2);
        let (piece, len) = outbox.piece(0, 4);
        assert_eq!((piece.len(), len), (3 * 108 + 68, 108));
        assert_eq!(piece[..8], header(42));
        assert_eq!(piece[108..116], header(42));
        assert_eq!(outbox.bytes_of(&outbox.datagrams()[3]), &piece[324..]);
    }

    #[test]
    fn a_piece_has_one_target_and_one_lane() {
        let mut outbox = Outbox::new(42);
        for number in 0..4 {
            assert!(outbox.push(&[number; 60]));
        }
        outbox.choose(|frame| match frame[0] {
            0 | 1 => Some((Target::All, 0)),
            2 => Some((Target::All, 1)),
            _ => Some((Target::One(0), 1)),
        });
        assert_eq!([0, 2, 3].map(|first| outbox.run(first, 64, 65_000)), [2, 1, 1]);
    }

    #[test]
    fn what_is_not_chosen_is_removed() {
        let mut outbox = Outbox::new(42);
        for number in 0..4 {
            assert!(outbox.push(&[number; 60]));
        }
        outbox.choose(|frame| (frame[0] != 1).then_some((Target::All, 0)));
        assert_eq!(outbox.datagrams().len(), 3);
        assert_eq!([0, 1].map(|first| outbox.run(first, 64, 65_000)), [1, 2]);
        assert_eq!(outbox.piece(1, 2).0.len(), 2 * 68);
    }

    #[test]
    fn torn_frames_are_removed_and_a_full_outbox_takes_no_more() {
        let mut outbox = Outbox::new(1);
        assert!(outbox.push(b"whole"));
        outbox.put(4, |slot| slot.copy_from_slice(b"torn"));
        outbox.discard();
        assert_eq!(outbox.datagrams().len(), 1);
        let taken = (0..1_000).take_while(|_| outbox.push(&[0; MAX_BIG_FRAME])).count();
        assert_eq!(taken, (ROOM - 13) / (HEADER + MAX_BIG_FRAME));
        outbox.clear();
        assert!(outbox.is_empty() && outbox.push(&[0; MAX_BIG_FRAME]));
    }
}
