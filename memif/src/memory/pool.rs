//! Buffers in this process's memory, each in exactly one ring, in a caller's hands, or free.
//!
//! An [`OwnedBuffer`] cannot be copied, and dropping it makes its buffer free again. So a buffer is
//! never in two rings, however links come and go.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, PoisonError};

use super::region::Region;

/// Buffers of equal size in one region.
pub(crate) struct Pool {
    region: Arc<Region>,
    /// The file to announce to servers; a link's private memory is announced when it is made.
    file: Option<Arc<OwnedFd>>,
    buffer_size: u32,
    /// Where free buffers begin. Links use it when they come up, and callers; forwarding a packet
    /// does not.
    free: Mutex<Vec<u32>>,
}

impl Pool {
    /// Makes a pool of the buffers at the offsets `free`.
    pub(crate) fn new(
        region: Arc<Region>,
        file: OwnedFd,
        buffer_size: u32,
        free: Vec<u32>,
    ) -> Arc<Self> {
        Arc::new(Self { region, file: Some(Arc::new(file)), buffer_size, free: Mutex::new(free) })
    }

    /// Makes a pool whose buffers are all in rings already.
    pub(crate) fn private(region: Arc<Region>, buffer_size: u32) -> Arc<Self> {
        Arc::new(Self { region, file: None, buffer_size, free: Mutex::default() })
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(crate) fn file(&self) -> Option<&Arc<OwnedFd>> {
        self.file.as_ref()
    }

    pub(crate) fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    /// Returns the number of free buffers.
    pub(crate) fn free(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes a free buffer, if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<OwnedBuffer> {
        let offset = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(OwnedBuffer::new(self, offset, 0))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("buffer_size", &self.buffer_size).finish_non_exhaustive()
    }
}

/// A buffer, and the exclusive right to use it.
#[derive(Debug)]
pub(crate) struct OwnedBuffer {
    pool: Arc<Pool>,
    offset: u32,
    /// The index of its region on the link whose ring has the buffer.
    pub(crate) region_index: u16,
}

impl OwnedBuffer {
    /// Takes the buffer at `offset`, which no other `OwnedBuffer` may hold.
    pub(crate) fn new(pool: &Arc<Pool>, offset: u32, region_index: u16) -> Self {
        Self { pool: Arc::clone(pool), offset, region_index }
    }

    #[inline]
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.pool.region
    }

    /// Returns where the buffer begins in its region.
    #[inline]
    pub(crate) fn offset(&self) -> u32 {
        self.offset
    }

    /// Returns the number of bytes in the buffer.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.pool.buffer_size
    }

    /// Returns `len` bytes from `start` on, or `None` when they are not all inside.
    #[inline]
    pub(crate) fn bytes(&self, start: u32, len: u32) -> Option<&[AtomicU8]> {
        if start.checked_add(len)? > self.size() {
            return None;
        }
        self.pool.region.bytes(self.offset.checked_add(start)?, len)
    }
}

impl Drop for OwnedBuffer {
    fn drop(&mut self) {
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.offset);
    }
}
