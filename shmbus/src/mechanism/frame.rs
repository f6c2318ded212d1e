//! Frames on their way onto and off the ring, without a buffer in between.
//!
//! A program whose frames lie in memory of a special kind (a packet pool, another shared ring)
//! implements [`FrameSource`] to send them and [`FrameSink`] to receive them; each byte is then
//! copied once. Byte slices are sources already, and [`Burst`](crate::Burst) is a sink for all
//! other programs.

use std::sync::atomic::AtomicU8;

use crate::mechanism::ring::Ring;
use crate::mechanism::ring::cursor::RingPacket;
use crate::mechanism::ring::position::Position;
use crate::memory::Mapping;

/// A frame that can be put on a bus.
///
/// ```
/// use shmbus::{FrameSlot, FrameSource};
///
/// /// A header and a payload that lie apart.
/// struct Parts<'a>([&'a [u8]; 2]);
///
/// impl FrameSource for Parts<'_> {
///     fn frame_len(&self) -> usize {
///         self.0.iter().map(|part| part.len()).sum()
///     }
///
///     fn write_to(&self, slot: &mut FrameSlot<'_>) {
///         self.0.iter().for_each(|part| slot.write(part));
///     }
/// }
/// ```
pub trait FrameSource {
    /// Returns the length in bytes. A send asks once for it, before it asks for the bytes.
    fn frame_len(&self) -> usize;

    /// Writes the frame's bytes, in order, to its slot on the ring. The bus is locked meanwhile: do
    /// nothing else here.
    fn write_to(&self, slot: &mut FrameSlot<'_>);
}

impl<T: AsRef<[u8]>> FrameSource for T {
    fn frame_len(&self) -> usize {
        self.as_ref().len()
    }

    #[inline]
    fn write_to(&self, slot: &mut FrameSlot<'_>) {
        slot.write(self.as_ref());
    }
}

/// A frame's place on the ring, filled from front to back.
///
/// It takes exactly as many bytes as the frame has. Bytes beyond that are ignored, and bytes that
/// are not written are sent as zeros.
#[derive(Debug)]
pub struct FrameSlot<'r> {
    ring: &'r Ring<Mapping>,
    at: u32,
    room: usize,
}

impl<'r> FrameSlot<'r> {
    /// `at` lies on the ring, and `room` bytes from there on may be written.
    #[inline]
    pub(crate) fn new(ring: &'r Ring<Mapping>, at: u32, room: usize) -> Self {
        Self { ring, at, room }
    }

    /// Appends bytes.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.room)];
        self.ring.copy_in(self.at, bytes);
        self.filled(bytes.len());
    }

    /// Appends bytes from memory that another thread or process may be writing at the same time.
    #[inline]
    pub fn write_shared(&mut self, bytes: &[AtomicU8]) {
        let bytes = &bytes[..bytes.len().min(self.room)];
        let (head, tail) = bytes.split_at(self.ring.before_end(self.at, bytes.len()));
        self.ring.memory().copy_in_shared(self.at, head);
        if !tail.is_empty() {
            self.ring.memory().copy_in_shared(0, tail);
        }
        self.filled(bytes.len());
    }

    /// Fills the rest with zeros.
    #[inline]
    pub(crate) fn finish(mut self) {
        while self.room > 0 {
            self.write(&[0; 64]);
        }
    }

    #[inline]
    fn filled(&mut self, bytes: usize) {
        self.at = self.ring.offset(self.at, bytes);
        self.room -= bytes;
    }
}

/// Where received frames go.
///
/// A station offers frames one by one; other stations may overwrite them while they are copied.
/// After a burst, the station calls [`commit`](Self::commit) if all frames taken since the last
/// call are whole, and [`discard`](Self::discard) otherwise.
pub trait FrameSink {
    /// Copies a frame. Returns `false` when there is no room for it: the burst ends, and the next
    /// one begins with this frame.
    fn take(&mut self, frame: &RingFrame<'_>) -> bool;

    /// Keeps the frames taken since the last `commit` or `discard`: they are whole.
    fn commit(&mut self);

    /// Removes the frames taken since the last `commit` or `discard`: they may be torn.
    fn discard(&mut self);
}

/// A frame on the ring, to be copied. Draw no conclusion from its bytes before they are known to be
/// whole.
#[derive(Debug)]
pub struct RingFrame<'r> {
    ring: &'r Ring<Mapping>,
    packet: RingPacket,
}

#[expect(clippy::len_without_is_empty, reason = "a frame has at least an Ethernet header")]
impl<'r> RingFrame<'r> {
    #[inline]
    pub(crate) fn new(ring: &'r Ring<Mapping>, packet: RingPacket) -> Self {
        Self { ring, packet }
    }

    /// Returns the length in bytes: from [`MIN_FRAME`](crate::MIN_FRAME) (less only from
    /// [`Tap::with_runts`](crate::Tap::with_runts)) to [`Bus::max_frame`](crate::Bus::max_frame).
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.packet.header.len as usize
    }

    /// Returns what the packet's header says.
    #[must_use]
    #[inline]
    pub fn info(&self) -> FrameInfo {
        FrameInfo {
            seconds: self.packet.header.sec,
            microseconds: self.packet.header.usec,
            sender: self.packet.header.sender,
            offset: self.packet.offset,
        }
    }

    /// Returns the destination address. A frame has at least an Ethernet header.
    #[inline]
    pub(crate) fn destination(&self) -> [u8; 6] {
        let [word] = self.ring.load_words(self.packet.offset);
        let [address @ .., _, _] = word.to_ne_bytes();
        address
    }

    /// Returns where its packet lies.
    #[inline]
    pub(crate) fn position(&self) -> Position {
        self.packet.at
    }

    /// Copies the frame, or as much of it as fits; returns how many bytes it copied.
    #[inline]
    pub fn copy_to(&self, into: &mut [u8]) -> usize {
        let len = self.len().min(into.len());
        self.ring.copy_out(self.packet.offset, &mut into[..len]);
        len
    }

    /// Copies bytes from byte `from` of the frame on into memory that another thread or process may
    /// be using at the same time: as many as fit there and the frame has. Returns how many.
    #[inline]
    pub fn copy_to_shared(&self, from: usize, into: &[AtomicU8]) -> usize {
        let ring = self.ring;
        let Some(left) = self.len().checked_sub(from) else { return 0 };
        let len = left.min(into.len());
        let at = ring.offset(self.packet.offset, from);
        let (head, tail) = into[..len].split_at(ring.before_end(at, len));
        ring.memory().copy_out_shared(at, head);
        if !tail.is_empty() {
            ring.memory().copy_out_shared(0, tail);
        }
        len
    }
}

/// What is known of a frame besides its bytes. The sender wrote all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameInfo {
    /// The sender's clock, in seconds: wall time from stations of this kind, uptime from rump
    /// kernels.
    pub seconds: u32,
    /// The sender's clock, in microseconds. On a damaged bus it may be a million or more.
    pub microseconds: u32,
    /// Random identity of the sending station.
    pub sender: u64,
    /// Ring offset of the frame's first byte.
    pub offset: u32,
}
