//! Queues of single descriptors, for programs that hold buffers between calls: libmemif's API for C is
//! made of them.
//!
//! ```no_run
//! # fn example(link: memif::Link) -> Result<(), memif::LinkError> {
//! use memif::{Link, Piece};
//! let Link { mut rx, mut tx, .. } = link;
//! let (mut rx, mut tx) = (rx.remove(0).manual(), tx.remove(0).manual());
//! rx.refill(usize::MAX, 0, None).expect("the headroom fits");
//! let count = rx.available()?.min(tx.free()?);
//! let mut received = Vec::new();
//! rx.take(count, |buffer| received.push((buffer.index, buffer.bytes.len(), buffer.continues)))?;
//! for (index, ..) in &received {
//!     tx.enqueue(&mut rx, *index);
//! }
//! let mut pieces = received.iter().map(|&(_, length, continues)| {
//!     let length = u32::try_from(length).expect("a buffer is shorter");
//!     Piece { start: 0, length, continues }
//! });
//! tx.write(|_| pieces.next());
//! tx.publish();
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::link_state::LinkState;
use super::rx::RxQueue;
use super::tx::TxQueue;
use crate::error::{LinkError, ProtocolError};
use crate::format::ring::Descriptor;
use crate::mechanism::manual::{ManualRxRing, ManualTxRing, Piece, Reserved, SlotBuffer};
use crate::memory::region::{Region, Regions};
use crate::memory::ring::RingMemory;

/// A descriptor's buffer that the caller holds. The peer may change its bytes at any moment.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ManualBuffer<'a> {
    /// The descriptor's free-running index.
    pub index: u16,
    /// The region of the buffer.
    pub region: u16,
    /// Where `bytes` begins in the region.
    pub offset: u32,
    /// The packet's bytes in this buffer, or the room for them.
    pub bytes: &'a [AtomicU8],
    /// Whether the packet continues in the next descriptor.
    pub continues: bool,
}

/// A buffer could not be offered: the headroom leaves no room in it, or its place is outside its
/// region. Those before it are on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a buffer has no room behind its headroom, or lies outside its region")]
pub struct PlaceError;

/// A memory region of a link.
#[derive(Debug)]
#[non_exhaustive]
pub struct LinkRegion<'a> {
    /// Where it is mapped, for as long as a queue of the link exists.
    pub start: NonNull<AtomicU8>,
    /// Its size in bytes, as far as descriptors reach.
    pub size: u64,
    /// Its file: a client's always, a server's with
    /// [`SocketOptions::keep_files`](crate::SocketOptions::keep_files).
    pub file: Option<&'a OwnedFd>,
}

/// A ring's header as it stands: the peer writes one of the indexes, and it is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingState {
    /// Number of descriptors.
    pub size: usize,
    /// Bit 0: the receiver wants no interrupts.
    pub flags: u16,
    /// The client's index.
    pub head: u16,
    /// The server's index.
    pub tail: u16,
}

impl RingState {
    fn read(ring: &RingMemory) -> Self {
        let (size, header) = (ring.size(), ring.header());
        // Relaxed: the values are for people.
        let [flags, head, tail] =
            [&header.flags, &header.head, &header.tail].map(|word| word.load(Relaxed));
        Self { size, flags, head, tail }
    }
}

fn regions(regions: &Regions) -> Vec<LinkRegion<'_>> {
    fn view(region: &Region) -> LinkRegion<'_> {
        let file = region.file().map(AsRef::as_ref);
        LinkRegion { start: region.start(), size: region.len(), file }
    }
    regions.iter().map(view).collect()
}

/// Returns a checked descriptor as the caller sees it.
#[inline]
fn buffer(index: u16, descriptor: Descriptor, bytes: &[AtomicU8]) -> ManualBuffer<'_> {
    let Descriptor { region, offset, .. } = descriptor;
    ManualBuffer { index, region, offset, bytes, continues: descriptor.continues() }
}

/// A queue to receive on, of single descriptors: the caller gives back what it has taken, in
/// order, when it likes. What is in the ring can still be taken when the link has gone down.
pub struct ManualRx {
    queue: RxQueue,
    ring: ManualRxRing,
}

impl RxQueue {
    /// Turns a queue that has not been used into one of single descriptors. On a client, the options
    /// must have [`manual_refill`](crate::ClientOptions::manual_refill): what was offered otherwise
    /// is a violation of the protocol for the new queue.
    #[must_use]
    pub fn manual(self) -> ManualRx {
        ManualRx { ring: ManualRxRing::new(&self.ring), queue: self }
    }
}

impl TxQueue {
    /// Turns a queue that has not been used into one of single descriptors.
    #[must_use]
    pub fn manual(self) -> ManualTx {
        ManualTx { ring: ManualTxRing::new(&self.ring), queue: self }
    }
}

impl ManualRx {
    fn fails(&self, error: ProtocolError) -> LinkError {
        self.queue.link.fail(error)
    }

    /// Returns how many filled descriptors can be taken now.
    ///
    /// # Errors
    /// [`LinkError::Peer`] when the peer broke the protocol.
    #[inline]
    pub fn available(&mut self) -> Result<usize, LinkError> {
        match self.ring.available(&self.queue.ring) {
            Ok(count) => Ok(count.into()),
            Err(error) => Err(self.fails(error)),
        }
    }

    /// Takes up to `count` of the descriptors that [`available`](Self::available) has found, and
    /// calls `each` with every one in turn. Returns how many.
    ///
    /// # Errors
    /// As [`available`](Self::available). The caller holds those that `each` was called with.
    #[inline]
    pub fn take(
        &mut self,
        count: usize,
        mut each: impl FnMut(ManualBuffer<'_>),
    ) -> Result<usize, LinkError> {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let each = |index, descriptor, bytes: &[AtomicU8]| each(buffer(index, descriptor, bytes));
        match self.ring.take(&self.queue.ring, count, each) {
            Ok(count) => Ok(count.into()),
            Err(error) => Err(self.fails(error)),
        }
    }

    /// Gives up to `count` descriptors back, the oldest first, and returns how many the caller held.
    /// A client thereby offers their buffers to the server, all but `headroom` bytes at the
    /// beginning of each. With `place`, each is the buffer that holds a byte of the buffers' region:
    /// the function returns which one, and the server fills it from there on.
    ///
    /// # Errors
    /// [`PlaceError`] when a buffer could not be offered, with those before it given back.
    #[inline]
    pub fn refill(
        &mut self,
        count: usize,
        headroom: u32,
        place: Option<&mut dyn FnMut() -> u32>,
    ) -> Result<usize, PlaceError> {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let given = self.ring.refill(&self.queue.ring, count, headroom, place);
        given.map(usize::from).map_err(|_| PlaceError)
    }

    /// Asks the peer for interrupts or not; see [`RxQueue::set_mode`]. The eventfd keeps its count.
    pub fn request_interrupts(&self, wanted: bool) {
        self.queue.request(wanted);
    }

    /// Makes the eventfd unreadable until the peer writes it again. If descriptors can be taken, such
    /// as some that came meanwhile, it stays readable; returns how many.
    ///
    /// # Errors
    /// As [`available`](Self::available).
    pub fn drain(&mut self) -> Result<usize, LinkError> {
        self.queue.drain();
        let came = self.available()?;
        if came != 0 {
            self.queue.notify();
        }
        Ok(came)
    }

    /// Returns the ring's header.
    #[must_use]
    pub fn ring(&self) -> RingState {
        RingState::read(self.queue.ring.memory())
    }

    /// Returns the link's regions in the order of their indexes.
    #[must_use]
    pub fn regions(&self) -> Vec<LinkRegion<'_>> {
        regions(self.queue.ring.regions())
    }

    /// Exchanges the buffers of two descriptors that the caller holds; returns `false`, without a
    /// change, when it does not hold both, or on a server.
    pub fn exchange_own(&mut self, left: u16, right: u16) -> bool {
        self.ring.exchange(&self.queue.ring, left, right)
    }
}

/// A queue whose buffers are to be [exchanged](exchange).
#[derive(Debug)]
pub enum ManualQueue<'a> {
    /// One to receive on.
    Rx(&'a mut ManualRx),
    /// One to send on.
    Tx(&'a mut ManualTx),
}

impl ManualQueue<'_> {
    fn held(&mut self, index: u16) -> Option<&mut SlotBuffer> {
        match self {
            Self::Rx(rx) => rx.ring.held(&rx.queue.ring, index),
            Self::Tx(tx) => tx.ring.held(&tx.queue.ring, index),
        }
    }

    fn link(&self) -> &Arc<LinkState> {
        match self {
            Self::Rx(rx) => &rx.queue.link,
            Self::Tx(tx) => &tx.queue.link,
        }
    }
}

/// Exchanges the buffers of two descriptors of different queues of a link, each of which the caller
/// has taken, or reserved and not written. Returns `false`, without a change, when one is not so, or
/// on a server.
#[must_use]
pub fn exchange(
    (mut left, left_index): (ManualQueue<'_>, u16),
    (mut right, right_index): (ManualQueue<'_>, u16),
) -> bool {
    if !Arc::ptr_eq(left.link(), right.link()) {
        return false;
    }
    match (left.held(left_index), right.held(right_index)) {
        (Some(left), Some(right)) => {
            std::mem::swap(left, right);
            true
        }
        _ => false,
    }
}

/// The descriptor is the ring's eventfd: readable when the peer has announced packets, and when the
/// link goes down.
impl AsFd for ManualRx {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl fmt::Debug for ManualRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualRx").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// A queue to send on, of single descriptors: descriptors are reserved, then written in the same
/// order, then published.
pub struct ManualTx {
    queue: TxQueue,
    ring: ManualTxRing,
}

impl ManualTx {
    /// Returns the number of descriptors, a power of two.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        self.queue.ring.size()
    }

    /// Returns how many descriptors can be reserved now.
    ///
    /// # Errors
    /// [`LinkError::Peer`] when the peer broke the protocol.
    #[inline]
    pub fn free(&mut self) -> Result<usize, LinkError> {
        match self.ring.free(&self.queue.ring) {
            Ok(count) => Ok(count.into()),
            Err(error) => Err(self.queue.link.fail(error)),
        }
    }

    /// Reserves up to `packets` packets of `size` bytes, as far as there is room among the
    /// descriptors that [`free`](Self::free) has found. Calls `each` with every descriptor in turn:
    /// its bytes are those for the packet, which continues in the next one if it is longer than the
    /// buffer. On a client, `place` says which byte of the buffers' region a buffer's bytes begin
    /// at.
    ///
    /// A packet for which there is no room is not reserved: [`Reserved`] does not count the
    /// descriptors that `each` was called with for its beginning.
    ///
    /// # Errors
    /// As [`free`](Self::free). Nothing is reserved then.
    #[inline]
    pub fn reserve(
        &mut self,
        packets: usize,
        size: u32,
        place: Option<&mut dyn FnMut() -> u32>,
        mut each: impl FnMut(ManualBuffer<'_>),
    ) -> Result<Reserved, LinkError> {
        let packets = u16::try_from(packets).unwrap_or(u16::MAX);
        let each = |index, descriptor, bytes: &[AtomicU8]| each(buffer(index, descriptor, bytes));
        let reserved = self.ring.reserve(&self.queue.ring, packets, size, place, each);
        reserved.map_err(|error| self.queue.link.fail(error))
    }

    /// Reserves the next descriptor with the buffer of one that the caller has taken, which gets the
    /// empty buffer in exchange. Returns the descriptor's index, or `None` when that is not held,
    /// none is free, the queues are of different links, or on a server.
    pub fn enqueue(&mut self, from: &mut ManualRx, index: u16) -> Option<u16> {
        if !Arc::ptr_eq(&self.queue.link, &from.queue.link) {
            return None;
        }
        let buffer = from.ring.held(&from.queue.ring, index)?;
        self.ring.enqueue(&self.queue.ring, buffer)
    }

    /// Cancels the reservations from `index` on, so that it is reserved next. Returns `false`,
    /// without a change, when one of them was written, or it was not reserved.
    pub fn rewind(&mut self, index: u16) -> bool {
        self.ring.rewind(index)
    }

    /// Writes reserved descriptors, the oldest first: calls `piece` with each, whose bytes are those
    /// of its whole buffer, for what to send of them. Ends where `piece` returns `None`, or a piece
    /// that is empty or not all in the buffer. Returns how many were written.
    #[inline]
    pub fn write(&mut self, mut piece: impl FnMut(ManualBuffer<'_>) -> Option<Piece>) -> usize {
        let piece = |index, SlotBuffer { region, offset, .. }, bytes: &[AtomicU8]| {
            piece(ManualBuffer { index, region, offset, bytes, continues: false })
        };
        self.ring.write(&self.queue.ring, piece).into()
    }

    /// Hands the whole packets among what is written to the peer. A packet whose end is not written
    /// yet waits for it.
    #[inline]
    pub fn publish(&mut self) {
        if self.ring.publish(&self.queue.ring) {
            self.queue.notify();
        }
    }

    /// Returns the ring's header.
    #[must_use]
    pub fn ring(&self) -> RingState {
        RingState::read(self.queue.ring.memory())
    }

    /// Returns the link's regions in the order of their indexes.
    #[must_use]
    pub fn regions(&self) -> Vec<LinkRegion<'_>> {
        regions(self.queue.ring.regions())
    }

    /// Exchanges the buffers of two descriptors that are reserved and not written; returns `false`,
    /// without a change, when one is not, or on a server.
    pub fn exchange_own(&mut self, left: u16, right: u16) -> bool {
        self.ring.exchange(&self.queue.ring, left, right)
    }
}

impl fmt::Debug for ManualTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualTx").field("queue", &self.queue).finish_non_exhaustive()
    }
}
