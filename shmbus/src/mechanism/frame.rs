//! Frames on their way onto and off the ring, without a buffer in between.
//!
//! A program whose frames lie in memory of a special kind (a packet pool, another shared ring)
//! implements [`FrameSource`] to send them and [`FrameSink`] to receive them; each byte is then
//! copied once. Byte slices are sources already, and [`Burst`](crate::Burst) is a sink for all
//! other programs.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::format::MAX_BIG_FRAME;
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::cursor::RingPacket;
use crate::mechanism::ring::position::Position;
use crate::mechanism::vlan::{self, Edit, HEAD, TAG_AT, Vlan};
use crate::memory::{Mapping, copy_shared};

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
    place: Place<'r>,
    room: usize,
}

/// Where the bytes of a slot go.
#[derive(Debug)]
enum Place<'r> {
    Ring {
        ring: &'r Ring<Mapping>,
        at: u32,
    },
    /// The end of a buffer, where a frame waits that has yet to be looked at.
    Stage(&'r mut Vec<u8>),
}

impl<'r> FrameSlot<'r> {
    /// `at` lies on the ring, and `room` bytes from there on may be written.
    #[inline]
    pub(crate) fn new(ring: &'r Ring<Mapping>, at: u32, room: usize) -> Self {
        Self { place: Place::Ring { ring, at }, room }
    }

    /// Makes a slot of `room` bytes at the end of `stage`.
    pub(crate) fn staged(stage: &'r mut Vec<u8>, room: usize) -> Self {
        Self { place: Place::Stage(stage), room }
    }

    /// Appends bytes.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.room)];
        match &mut self.place {
            Place::Ring { ring, at } => {
                ring.copy_in(*at, bytes);
                *at = ring.offset(*at, bytes.len());
            }
            Place::Stage(stage) => stage.extend_from_slice(bytes),
        }
        self.room -= bytes.len();
    }

    /// Appends bytes from memory that another thread or process may be writing at the same time.
    #[inline]
    pub fn write_shared(&mut self, bytes: &[AtomicU8]) {
        let bytes = &bytes[..bytes.len().min(self.room)];
        match &mut self.place {
            Place::Ring { ring, at } => {
                let (head, tail) = bytes.split_at(ring.before_end(*at, bytes.len()));
                ring.memory().copy_in_shared(*at, head);
                if !tail.is_empty() {
                    ring.memory().copy_in_shared(0, tail);
                }
                *at = ring.offset(*at, bytes.len());
            }
            Place::Stage(stage) => {
                let start = stage.len();
                stage.resize(start + bytes.len(), 0);
                copy_shared(bytes, &mut stage[start..]);
            }
        }
        self.room -= bytes.len();
    }

    /// Fills the rest with zeros.
    #[inline]
    pub(crate) fn finish(mut self) {
        while self.room > 0 {
            self.write(&[0; 64]);
        }
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
    edit: Edit,
}

#[expect(clippy::len_without_is_empty, reason = "a frame has at least an Ethernet header")]
impl<'r> RingFrame<'r> {
    #[inline]
    pub(crate) fn new(ring: &'r Ring<Mapping>, packet: RingPacket) -> Self {
        Self { ring, packet, edit: Edit::KEEP }
    }

    /// Returns the frame as the user of a station in `vlan` receives it; `None`: not at all. For
    /// frames of a [`Tap`](crate::Tap): a [`Station`](crate::Station) hands up no other ones.
    #[must_use]
    #[inline]
    pub fn in_vlan(&self, vlan: &Vlan) -> Option<Self> {
        let mut head = [0; HEAD];
        self.copy_to(&mut head);
        let edit = vlan.to_user(head, self.len())?;
        // A user is ready for a frame as long as a bus carries, and for no longer one.
        let edited = Self { edit, ..*self };
        (edited.len() <= MAX_BIG_FRAME).then_some(edited)
    }

    /// Returns the length in bytes: from [`MIN_FRAME`](crate::MIN_FRAME) (less only from
    /// [`Tap::with_runts`](crate::Tap::with_runts)) to [`Bus::max_frame`](crate::Bus::max_frame).
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.edit.len(self.packet.header.len as usize)
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
        if self.edit != Edit::KEEP {
            return self.copy_edited(into);
        }
        let len = self.len().min(into.len());
        self.ring.copy_out(self.packet.offset, &mut into[..len]);
        len
    }

    #[cold]
    fn copy_edited(&self, into: &mut [u8]) -> usize {
        let len = self.len().min(into.len());
        let (addresses, rest) = into[..len].split_at_mut(TAG_AT.min(len));
        self.ring.copy_out(self.packet.offset, addresses);
        let (tag, rest) = rest.split_at_mut(self.edit.gained().min(rest.len()));
        if let Some(inserted) = &self.edit.insert {
            tag.copy_from_slice(&inserted[..tag.len()]);
        }
        self.ring.copy_out(self.behind_tag(0), rest);
        len
    }

    /// Returns where the byte number `from` behind the tag lies on the ring.
    fn behind_tag(&self, from: usize) -> u32 {
        self.ring.offset(self.packet.offset, TAG_AT + self.edit.lost() + from)
    }

    /// Copies bytes from byte `from` of the frame on into memory that another thread or process may
    /// be using at the same time: as many as fit there and the frame has. Returns how many.
    #[inline]
    pub fn copy_to_shared(&self, from: usize, into: &[AtomicU8]) -> usize {
        let Some(left) = self.len().checked_sub(from) else { return 0 };
        let into = &into[..left.min(into.len())];
        if self.edit == Edit::KEEP {
            self.copy_out_shared(self.ring.offset(self.packet.offset, from), into);
        } else {
            self.copy_edited_shared(from, into);
        }
        into.len()
    }

    /// Copies bytes at `at` on the ring.
    #[inline]
    fn copy_out_shared(&self, at: u32, into: &[AtomicU8]) {
        let (head, tail) = into.split_at(self.ring.before_end(at, into.len()));
        self.ring.memory().copy_out_shared(at, head);
        if !tail.is_empty() {
            self.ring.memory().copy_out_shared(0, tail);
        }
    }

    #[cold]
    fn copy_edited_shared(&self, from: usize, into: &[AtomicU8]) {
        let (gained, at) = (self.edit.gained(), self.packet.offset);
        let before = TAG_AT.saturating_sub(from).min(into.len());
        let (addresses, rest) = into.split_at(before);
        if !addresses.is_empty() {
            self.copy_out_shared(self.ring.offset(at, from), addresses);
        }
        let done = from.saturating_sub(TAG_AT);
        let (tag, rest) = rest.split_at(gained.saturating_sub(done).min(rest.len()));
        for (byte, inserted) in tag.iter().zip(self.edit.insert.iter().flatten().skip(done)) {
            // Relaxed: as the racing copies, whose order the caller's fences decide.
            byte.store(*inserted, Ordering::Relaxed);
        }
        self.copy_out_shared(self.behind_tag(done.saturating_sub(gained)), rest);
    }
}

/// Passes frames to a sink as the user of a station in a VLAN receives them.
pub(crate) struct InVlan<'s, S> {
    pub(crate) vlan: &'s Vlan,
    pub(crate) sink: &'s mut S,
}

impl<S: FrameSink> FrameSink for InVlan<'_, S> {
    #[inline]
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        // One that is overwritten since it was chosen may not be in the VLAN; it is discarded.
        frame.in_vlan(self.vlan).is_none_or(|frame| self.sink.take(&frame))
    }

    fn commit(&mut self) {
        self.sink.commit();
    }

    fn discard(&mut self) {
        self.sink.discard();
    }
}

/// A burst on its way to the bus of a station in a VLAN. The tag of a frame decides its length
/// there, so a copy is made before a place on the ring is reserved; what the bytes are cannot change
/// afterwards.
#[derive(Debug, Default)]
pub(crate) struct VlanStage {
    frames: Vec<Vec<u8>>,
    /// How many of the buffers hold a frame.
    filled: usize,
    /// For each frame that is dropped, how many are staged before it.
    refused: Vec<usize>,
}

impl VlanStage {
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
        self.refused.clear();
    }

    /// Returns how many frames are dropped before the staged frame number `staged`.
    pub(crate) fn refused_before(&self, staged: usize) -> usize {
        self.refused.iter().filter(|before| **before <= staged).count()
    }

    /// Adds a frame of `len` bytes, as it looks on the bus. Returns by how many bytes it is longer
    /// there; `None` when it is dropped.
    pub(crate) fn add(
        &mut self,
        vlan: &Vlan,
        frame: &impl FrameSource,
        len: usize,
    ) -> Option<isize> {
        if self.filled == self.frames.len() {
            self.frames.push(Vec::new());
        }
        let bytes = &mut self.frames[self.filled];
        bytes.clear();
        let mut slot = FrameSlot::staged(bytes, len);
        frame.write_to(&mut slot);
        slot.finish();
        let Some(edit) = vlan.to_bus(vlan::head(bytes), len) else {
            self.refused.push(self.filled);
            return None;
        };
        vlan::apply(edit, bytes);
        self.filled += 1;
        Some(edit.gained().cast_signed() - edit.lost().cast_signed())
    }

    /// Returns the frames.
    pub(crate) fn frames(&self) -> &[Vec<u8>] {
        &self.frames[..self.filled]
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
