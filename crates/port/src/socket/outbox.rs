//! Frames on their way to the peer: taken from the bus as they lie in the socket, and kept until
//! the socket has taken every byte.

use shmbus::{FrameSink, RingFrame};

use super::framing::{BUFFER, Framing, MAX_LEN};

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    framing: Framing,
    bytes: Box<[u8]>,
    /// How many bytes the socket has taken.
    sent: usize,
    /// What was put in, and the part of it that is known to be whole.
    filled: Filled,
    whole: Filled,
    /// Where each frame ends, and how many of them were sent.
    ends: Vec<usize>,
    frames_sent: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Filled {
    bytes: usize,
    frames: usize,
    /// Frames that are longer than the peer can take, and were left out.
    too_long: usize,
}

impl Outbox {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            framing,
            bytes: vec![0; BUFFER].into_boxed_slice(),
            sent: 0,
            filled: Filled::default(),
            whole: Filled::default(),
            ends: Vec::new(),
            frames_sent: 0,
        }
    }

    /// Returns whether the socket has taken everything.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.filled.bytes
    }

    /// Forgets what was sent. All must have been.
    pub(super) fn clear(&mut self) {
        (self.sent, self.frames_sent) = (0, 0);
        (self.filled, self.whole) = (Filled::default(), Filled::default());
        self.ends.clear();
    }

    /// Returns how many frames were taken from the bus since the last [`clear`](Self::clear), and
    /// how many were left out.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.filled.frames, self.filled.too_long)
    }

    /// Returns the bytes of a stream that the socket has not taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..self.filled.bytes]
    }

    /// Notes that the socket took the first `bytes` of the rest.
    pub(super) fn stream_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        let ended = self.ends[self.frames_sent..].partition_point(|end| *end <= self.sent);
        self.frames_sent += ended;
    }

    /// Returns how many frames the socket has not taken whole.
    pub(super) fn unsent(&self) -> usize {
        self.ends.len() - self.frames_sent
    }

    /// Returns the packets that the socket has not taken.
    pub(super) fn packets(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut begin = self.sent;
        self.ends[self.frames_sent..].iter().map(move |end| {
            let packet = &self.bytes[begin..*end];
            begin = *end;
            packet
        })
    }

    /// Notes that the socket took the first `count` packets.
    pub(super) fn packets_sent(&mut self, count: usize) {
        self.frames_sent += count;
        if let Some(last) = self.frames_sent.checked_sub(1) {
            self.sent = self.ends[last];
        }
    }

    /// Puts in a frame that is not from the bus. Returns `false` when there is no room.
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        let pushed = self.put(frame.len(), |slot| slot.copy_from_slice(frame));
        // No frame that can be torn is in between.
        self.whole = self.filled;
        pushed
    }

    #[inline]
    fn put(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> bool {
        let prefix = self.framing.prefix();
        let end = self.filled.bytes + prefix + len;
        let Some(slot) = self.bytes.get_mut(self.filled.bytes..end) else { return false };
        let (before, slot) = slot.split_at_mut(prefix);
        Framing::write_prefix(before, len);
        write(slot);
        self.filled.bytes = end;
        self.filled.frames += 1;
        self.ends.push(end);
        true
    }
}

/// The buffer takes more than the longest frame, so an empty one always has room.
const _: () = assert!(BUFFER > 2 * MAX_LEN);

impl FrameSink for Outbox {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        if frame.len() > self.framing.max_len() {
            self.filled.too_long += 1;
            return true;
        }
        self.put(frame.len(), |slot| {
            frame.copy_to(slot);
        })
    }

    fn commit(&mut self) {
        self.whole = self.filled;
    }

    fn discard(&mut self) {
        self.filled = self.whole;
        self.ends.truncate(self.ends.partition_point(|end| *end <= self.whole.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_sent_in_parts() {
        let mut outbox = Outbox::new(Framing::Vde);
        assert!(outbox.push(b"one") && outbox.push(b"three"));
        assert_eq!(outbox.rest(), b"\0\x03one\0\x05three");
        outbox.stream_sent(4);
        assert_eq!(outbox.rest(), b"e\0\x05three");
        assert_eq!(outbox.unsent(), 2, "neither is whole");
        outbox.stream_sent(2);
        assert_eq!(outbox.unsent(), 1);
        outbox.stream_sent(6);
        assert!(outbox.is_empty());
        assert_eq!(outbox.counts(), (2, 0));
        outbox.clear();
        assert_eq!(outbox.counts(), (0, 0));
    }

    #[test]
    fn packets_are_sent_one_after_another() {
        let mut outbox = Outbox::new(Framing::Packet);
        for packet in [&b"a"[..], b"bc", b"def"] {
            assert!(outbox.push(packet));
        }
        outbox.packets_sent(1);
        assert!(outbox.packets().eq([&b"bc"[..], b"def"]));
        outbox.packets_sent(2);
        assert!(outbox.is_empty());
    }

    #[test]
    fn torn_frames_are_removed() {
        let mut outbox = Outbox::new(Framing::Dgram);
        assert!(outbox.push(b"whole"));
        outbox.put(4, |slot| slot.copy_from_slice(b"torn"));
        outbox.discard();
        assert!(outbox.packets().eq([&b"whole"[..]]));
        assert_eq!(outbox.counts(), (1, 0));
    }

    #[test]
    fn a_full_buffer_takes_no_more() {
        let mut outbox = Outbox::new(Framing::Qemu);
        let frames = (0..100).take_while(|_| outbox.push(&vec![0; MAX_LEN])).count();
        assert_eq!(frames, BUFFER / (MAX_LEN + 4));
        assert!(outbox.push(&[0; 60]));
    }
}
