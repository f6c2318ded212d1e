//! Packet buffers that the caller owns: to send without a copy, and to pass packets on.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use crate::error::BufferPoolError;
use crate::format::ring::Descriptor;
use crate::mechanism::layout::carve;
use crate::memory::copy;
use crate::memory::pool::{OwnedBuffer, Pool};
use crate::system::memfd;

/// A memory file full of packet buffers, which clients can use
/// ([`ClientOptions::buffer_pool`](crate::ClientOptions::buffer_pool)) instead of making buffers of
/// their own. Clients with the same pool can pass packets to each other without copying
/// ([`TxBurst::forward`](crate::TxBurst::forward)).
///
/// Clones share the memory. Every buffer is in one place at a time: free in the pool, in a ring, or
/// in a [`Buffer`] that the caller holds. Buffers of a ring become free when its queue is dropped
/// and the link is over: until then the peer uses them.
///
/// The servers of all links with this pool can read and write all of it at any time: share a pool
/// only between links whose peers may see each other's packets.
///
/// ```
/// use memif::BufferPool;
/// let pool = BufferPool::new(64, 2_048)?;
/// let mut buffer = pool.buffer().expect("all buffers are free");
/// assert!(buffer.append(b"a packet") && buffer.len() == 8);
/// assert_eq!(pool.free(), 63);
/// # Ok::<(), memif::BufferPoolError>(())
/// ```
#[derive(Clone)]
pub struct BufferPool(Arc<Pool>);

impl BufferPool {
    /// Makes memory for `buffers` buffers of `buffer_size` bytes (64 to 65,535), sealed and
    /// reserved.
    ///
    /// # Errors
    /// [`BufferPoolError`] when the pool is empty or larger than the 4 GiB that descriptors reach,
    /// or when the system has no memory for it.
    pub fn new(buffers: usize, buffer_size: u32) -> Result<Self, BufferPoolError> {
        check(buffer_size)?;
        let bytes = carve_size(buffers, buffer_size);
        if bytes > u64::from(u32::MAX) || buffers == 0 {
            return Err(BufferPoolError::Size { bytes });
        }
        let (file, region) = memfd::create(bytes).map_err(BufferPoolError::System)?;
        Ok(Self(Pool::new(Arc::new(region), file, buffer_size, carve(bytes, buffer_size))))
    }

    /// Uses a memory file of the caller's, all of it, such as one with huge pages: a memfd, or a
    /// file on tmpfs or hugetlbfs. It must not shrink while it is in use.
    ///
    /// # Errors
    /// [`BufferPoolError`] when the file is no memory, is too small for one buffer, or cannot be
    /// mapped.
    pub fn from_file(file: OwnedFd, buffer_size: u32) -> Result<Self, BufferPoolError> {
        check(buffer_size)?;
        let size = memfd::size(&file).map_err(BufferPoolError::System)?;
        let (region, reach) = memfd::map(0, file.as_fd(), size, memfd::MAX_MAPPED, true)?;
        let free = carve(reach, buffer_size);
        if free.is_empty() {
            return Err(BufferPoolError::Size { bytes: size });
        }
        Ok(Self(Pool::new(Arc::new(region), file, buffer_size, free)))
    }

    /// Takes a free buffer; returns `None` when there is none. Dropping the buffer makes it free
    /// again.
    #[must_use]
    pub fn buffer(&self) -> Option<Buffer> {
        self.0.take().map(Buffer::empty)
    }

    /// Returns the number of free buffers.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.free()
    }

    /// Returns the number of bytes in each buffer.
    #[must_use]
    pub fn buffer_size(&self) -> u32 {
        self.0.buffer_size()
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.0
    }
}

fn check(buffer_size: u32) -> Result<(), BufferPoolError> {
    if (64..=65_535).contains(&buffer_size) {
        Ok(())
    } else {
        Err(BufferPoolError::BufferSize(buffer_size))
    }
}

/// Returns the bytes that hold so many buffers.
fn carve_size(buffers: usize, buffer_size: u32) -> u64 {
    // The distance from one buffer to the next, as `carve` places them.
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

/// A packet buffer that the caller holds, empty or with a packet in it. The caller gives it away
/// only in exchange for another one ([`TxBurst::enqueue`](crate::TxBurst::enqueue),
/// [`RxBurst::take`](crate::RxBurst::take)), so it can never use a buffer that a peer has.
///
/// The bytes are atomics: peers can reach all of the [`BufferPool`], though honest ones touch only
/// the buffers that they were given.
pub struct Buffer {
    owned: OwnedBuffer,
    /// Where the packet begins in the buffer.
    start: u32,
    len: u32,
    continues: bool,
    metadata: u32,
}

impl Buffer {
    fn empty(owned: OwnedBuffer) -> Self {
        Self { owned, start: 0, len: 0, continues: false, metadata: 0 }
    }

    /// Returns the number of bytes in the packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns whether there is no packet in the buffer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether the packet continues in the next buffer of
    /// [`RxBurst::take`](crate::RxBurst::take).
    #[must_use]
    pub fn continues(&self) -> bool {
        self.continues
    }

    /// Returns the metadata of the packet's descriptor, as set by the peer or by
    /// [`set_metadata`](Self::set_metadata); the protocol gives it no meaning. It is 0 in an empty
    /// buffer.
    #[must_use]
    pub fn metadata(&self) -> u32 {
        self.metadata
    }

    /// Sets the metadata that is sent with the packet.
    pub fn set_metadata(&mut self, metadata: u32) {
        self.metadata = metadata;
    }

    /// Returns the number of bytes that fit in front of the packet.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Returns the number of bytes that fit behind the packet.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        (self.owned.size() - self.start - self.len) as usize
    }

    /// Returns the packet's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[AtomicU8] {
        self.owned.bytes(self.start, self.len).unwrap_or(&[])
    }

    /// Empties the buffer and leaves `headroom` bytes, or as many as there are, in front of the
    /// next packet.
    pub fn clear(&mut self, headroom: usize) {
        let most = self.owned.size();
        self.start = u32::try_from(headroom).map_or(most, |headroom| headroom.min(most));
        (self.len, self.continues, self.metadata) = (0, false, 0);
    }

    /// Appends bytes to the packet; returns `false`, without a change, when they do not all fit.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        self.append_with(bytes.len(), |to| copy::write(bytes, to))
    }

    /// Appends bytes from memory that others may write to at the same time; see
    /// [`append`](Self::append).
    pub fn append_shared(&mut self, bytes: &[AtomicU8]) -> bool {
        self.append_with(bytes.len(), |to| copy::relay(bytes, to))
    }

    fn append_with(&mut self, len: usize, copy: impl FnOnce(&[AtomicU8]) -> usize) -> bool {
        let Some(more) = u32::try_from(len).ok().filter(|_| len <= self.tailroom()) else {
            return false;
        };
        let behind = self.owned.bytes(self.start + self.len, more).unwrap_or(&[]);
        copy(behind);
        self.len += more;
        true
    }

    /// Puts bytes in front of the packet; returns `false`, without a change, when the headroom is
    /// too small.
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(more) = u32::try_from(bytes.len()).ok().filter(|more| *more <= self.start) else {
            return false;
        };
        let front = self.owned.bytes(self.start - more, more).unwrap_or(&[]);
        copy::write(bytes, front);
        (self.start, self.len) = (self.start - more, self.len + more);
        true
    }

    /// Removes up to `bytes` bytes from the packet's front: they become headroom.
    pub fn skip(&mut self, bytes: usize) {
        let less = u32::try_from(bytes).map_or(self.len, |bytes| bytes.min(self.len));
        (self.start, self.len) = (self.start + less, self.len - less);
    }

    /// Copies the packet, or as much of it as fits, into `to`; returns the number of bytes copied.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        copy::read(self.bytes(), to)
    }

    pub(super) fn parts(&mut self) -> (&mut OwnedBuffer, u32, u32) {
        (&mut self.owned, self.start, self.len)
    }

    /// Records the packet that is in the buffer received in exchange.
    pub(super) fn exchanged(&mut self, received: &Descriptor) {
        self.start = received.offset.saturating_sub(self.owned.offset()).min(self.owned.size());
        self.len = received.length.min(self.owned.size() - self.start);
        (self.continues, self.metadata) = (received.continues(), received.metadata);
    }

    pub(super) fn set_continues(&mut self, continues: bool) {
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
        let pool = BufferPool::new(2, 100).unwrap();
        let mut buffer = pool.buffer().unwrap();
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
    fn every_buffer_exists_once() {
        let pool = BufferPool::new(3, 64).unwrap();
        let mut all: Vec<Buffer> = std::iter::from_fn(|| pool.buffer()).collect();
        assert_eq!((all.len(), pool.free()), (3, 0));
        for (n, buffer) in (0u8..).zip(&mut all) {
            assert!(buffer.append(&[n; 64]));
        }
        let mut copy = [9; 64];
        for (n, buffer) in (0u8..).zip(&all) {
            buffer.copy_to(&mut copy);
            assert_eq!(copy, [n; 64]);
        }
        all.pop();
        assert_eq!(pool.free(), 1);
    }

    #[test]
    fn impossible_sizes_and_files_are_rejected() {
        assert!(matches!(BufferPool::new(1, 63), Err(BufferPoolError::BufferSize(63))));
        assert!(matches!(BufferPool::new(0, 64), Err(BufferPoolError::Size { .. })));
        assert!(matches!(BufferPool::new(usize::MAX, 2_048), Err(BufferPoolError::Size { .. })));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(BufferPool::from_file(null.into(), 2_048).is_err());
        let file =
            nix::sys::memfd::memfd_create("small", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&file, 2_047).unwrap();
        assert!(matches!(
            BufferPool::from_file(file, 2_048),
            Err(BufferPoolError::Size { bytes: 2_047 })
        ));
    }
}
