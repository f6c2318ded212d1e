//! Memory of the caller's own that packets are in: for sending without a copy, and for handing packets on.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use crate::error::MemoryError;
use crate::format::ring::Descriptor;
use crate::mechanism::layout::carve;
use crate::memory::copy;
use crate::memory::pool::{Held, Pool};
use crate::system::memfd;

/// A memory file full of packet buffers, which clients use ([`Options::memory`](crate::Options::memory)) instead of making
/// buffers of their own. Several clients with the same memory can hand packets on to each other without copying
/// ([`TxBurst::forward`](crate::TxBurst::forward)).
///
/// Clones are the same memory. Every buffer is at one place at a time: free here, in a ring, or a [`Buffer`] in the
/// caller's hands. Buffers of a ring are free again when its queue is dropped and the link is over: until then the peer uses them.
///
/// The servers of all links that use it may read and write all of it, whenever they like: share memory only between
/// links whose peers may see each other's packets.
#[derive(Clone)]
pub struct BufferPool(Arc<Pool>);

impl BufferPool {
    /// Makes memory for `buffers` buffers of `buffer_size` bytes (64 to 65,535), sealed and reserved.
    ///
    /// # Errors
    /// [`BufferPoolError`] when it would be larger than 4 GiB, which is what descriptors reach, or is not to be had.
    pub fn new(buffers: usize, buffer_size: u32) -> Result<Self, MemoryError> {
        check(buffer_size)?;
        let bytes = carve_size(buffers, buffer_size);
        if bytes > u64::from(u32::MAX) || buffers == 0 {
            return Err(MemoryError::Size { bytes });
        }
        let (file, region) = memfd::create(bytes).map_err(MemoryError::System)?;
        Ok(Self(Pool::new(Arc::new(region), file, buffer_size, carve(bytes, buffer_size))))
    }

    /// Takes a memory file of the caller's, all of it, such as one with huge pages: a memfd, or a file on tmpfs or
    /// hugetlbfs. It must not shrink while it is in use.
    ///
    /// # Errors
    /// [`BufferPoolError`] when it is no memory, holds not one buffer, or cannot be mapped.
    pub fn from_file(file: OwnedFd, buffer_size: u32) -> Result<Self, MemoryError> {
        check(buffer_size)?;
        let size = memfd::size(&file).map_err(MemoryError::System)?;
        let (region, reach) = memfd::map(0, file.as_fd(), size, memfd::MAX_MAPPED, true)?;
        let free = carve(reach, buffer_size);
        if free.is_empty() {
            return Err(MemoryError::Size { bytes: size });
        }
        Ok(Self(Pool::new(Arc::new(region), file, buffer_size, free)))
    }

    /// Takes a free buffer; nothing when there is none. Dropping it makes it free again.
    #[must_use]
    pub fn buffer(&self) -> Option<Buffer> {
        self.0.take().map(Buffer::empty)
    }

    /// How many buffers are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.free()
    }

    /// Bytes in each buffer.
    #[must_use]
    pub fn buffer_size(&self) -> u32 {
        self.0.buffer_size()
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.0
    }
}

fn check(buffer_size: u32) -> Result<(), MemoryError> {
    if (64..=65_535).contains(&buffer_size) { Ok(()) } else { Err(MemoryError::BufferSize(buffer_size)) }
}

/// Bytes that hold so many buffers.
fn carve_size(buffers: usize, buffer_size: u32) -> u64 {
    // The distance from one to the next, as they are carved.
    let stride = carve(1 << 20, buffer_size).get(1).map_or(0, |second| u64::from(*second));
    stride.saturating_mul(buffers as u64)
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("buffer_size", &self.buffer_size())
            .field("free", &self.free())
            .finish_non_exhaustive()
    }
}

/// A packet buffer in the caller's hands, with a packet in it or none. It is given away by exchanging it for another
/// ([`TxBurst::enqueue`](crate::TxBurst::enqueue), [`RxBurst::take`](crate::RxBurst::take)), so nobody can go on using a buffer
/// that a peer was given.
///
/// Its bytes are atomics: peers can reach all of the [`BufferPool`], even if honest ones leave alone what they were not given.
pub struct Buffer {
    held: Held,
    /// Where the packet begins in the buffer.
    start: u32,
    len: u32,
    continues: bool,
    metadata: u32,
}

impl Buffer {
    fn empty(held: Held) -> Self {
        Self { held, start: 0, len: 0, continues: false, metadata: 0 }
    }

    /// Bytes of the packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no packet in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the packet goes on in the next buffer it was taken with.
    #[must_use]
    pub fn continues(&self) -> bool {
        self.continues
    }

    /// The descriptor's metadata, as a peer has set it or [`set_metadata`](Self::set_metadata); the protocol gives it no
    /// meaning. 0 in an empty buffer.
    #[must_use]
    pub fn metadata(&self) -> u32 {
        self.metadata
    }

    /// Sets the metadata that goes with the packet.
    pub fn set_metadata(&mut self, metadata: u32) {
        self.metadata = metadata;
    }

    /// Bytes that can be put in front of the packet.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Bytes that can be put behind the packet.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        (self.held.size() - self.start - self.len) as usize
    }

    /// The packet's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[AtomicU8] {
        self.held.bytes(self.start, self.len).unwrap_or(&[])
    }

    /// Makes the buffer empty, with `headroom` bytes in front of the packet to come, or as many as there are.
    pub fn clear(&mut self, headroom: usize) {
        let most = self.held.size();
        self.start = u32::try_from(headroom).map_or(most, |headroom| headroom.min(most));
        (self.len, self.continues, self.metadata) = (0, false, 0);
    }

    /// Puts bytes behind the packet; `false` when they do not all fit, and then none are.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        self.append_with(bytes.len(), |to| copy::write(bytes, to))
    }

    /// As [`append`](Self::append), from memory that others may write to at the same time.
    pub fn append_shared(&mut self, bytes: &[AtomicU8]) -> bool {
        self.append_with(bytes.len(), |to| copy::relay(bytes, to))
    }

    fn append_with(&mut self, len: usize, copy: impl FnOnce(&[AtomicU8]) -> usize) -> bool {
        let Some(more) = u32::try_from(len).ok().filter(|_| len <= self.tailroom()) else { return false };
        let behind = self.held.bytes(self.start + self.len, more).unwrap_or(&[]);
        copy(behind);
        self.len += more;
        true
    }

    /// Puts bytes in front of the packet; `false` when there is not so much headroom.
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(more) = u32::try_from(bytes.len()).ok().filter(|more| *more <= self.start) else {
            return false;
        };
        let front = self.held.bytes(self.start - more, more).unwrap_or(&[]);
        copy::write(bytes, front);
        (self.start, self.len) = (self.start - more, self.len + more);
        true
    }

    /// Takes up to `bytes` bytes off the packet's front: they become headroom.
    pub fn skip(&mut self, bytes: usize) {
        let less = u32::try_from(bytes).map_or(self.len, |bytes| bytes.min(self.len));
        (self.start, self.len) = (self.start + less, self.len - less);
    }

    /// Copies the packet, or as much of it as fits into `to`, and returns how many bytes that was.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        copy::read(self.bytes(), to)
    }

    pub(crate) fn parts(&mut self) -> (&mut Held, u32, u32) {
        (&mut self.held, self.start, self.len)
    }

    /// Says what is in the buffer that was got in exchange.
    pub(crate) fn exchanged(&mut self, received: &Descriptor) {
        self.start = received.offset.saturating_sub(self.held.offset()).min(self.held.size());
        self.len = received.length.min(self.held.size() - self.start);
        (self.continues, self.metadata) = (received.goes_on(), received.metadata);
    }

    pub(crate) fn set_continues(&mut self, continues: bool) {
        self.continues = continues;
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .field("headroom", &self.start)
            .field("continues", &self.continues)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_room_in_front_and_behind() {
        let memory = BufferPool::new(2, 100).unwrap();
        let mut buffer = memory.buffer().unwrap();
        buffer.clear(10);
        assert!(buffer.append(b"packet") && !buffer.append(&[0; 85]) && buffer.append(&[1; 84]));
        assert_eq!((buffer.headroom(), buffer.len(), buffer.tailroom()), (10, 90, 0));
        assert!(!buffer.prepend(&[0; 11]) && buffer.prepend(b"header"));
        let mut copy = [0; 100];
        assert_eq!(buffer.copy_to(&mut copy), 96);
        assert_eq!(&copy[..12], b"headerpacket");
        buffer.skip(8);
        assert_eq!((buffer.headroom(), buffer.len()), (12, 88));
        buffer.copy_to(&mut copy);
        assert_eq!(&copy[..4], b"cket");
        buffer.skip(1_000);
        assert!(buffer.is_empty() && buffer.tailroom() == 0);
        buffer.clear(1_000);
        assert_eq!((buffer.headroom(), buffer.tailroom()), (100, 0));
    }

    #[test]
    fn every_buffer_is_there_once() {
        let memory = BufferPool::new(3, 64).unwrap();
        let mut all: Vec<Buffer> = std::iter::from_fn(|| memory.buffer()).collect();
        assert_eq!((all.len(), memory.free()), (3, 0));
        for (n, buffer) in (0u8..).zip(&mut all) {
            assert!(buffer.append(&[n; 64]));
        }
        let mut copy = [9; 64];
        for (n, buffer) in (0u8..).zip(&all) {
            buffer.copy_to(&mut copy);
            assert_eq!(copy, [n; 64]);
        }
        all.pop();
        assert_eq!(memory.free(), 1);
    }

    #[test]
    fn memory_that_makes_no_sense_is_refused() {
        assert!(matches!(BufferPool::new(1, 63), Err(MemoryError::BufferSize(63))));
        assert!(matches!(BufferPool::new(0, 64), Err(MemoryError::Size { .. })));
        assert!(matches!(BufferPool::new(usize::MAX, 2_048), Err(MemoryError::Size { .. })));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(BufferPool::from_file(null.into(), 2_048).is_err());
        let file = nix::sys::memfd::memfd_create("small", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, 2_047).unwrap();
        assert!(matches!(BufferPool::from_file(file, 2_048), Err(MemoryError::Size { bytes: 2_047 })));
    }
}
