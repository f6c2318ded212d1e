//! Buffers of our own memory, each held by exactly one ring or caller at a time.
//!
//! What is moved from hand to hand is a [`Held`]: it cannot be copied, and when it is dropped its buffer is free again. So a
//! buffer is never in two rings, however links come and go.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, PoisonError};

use super::region::Region;

/// Buffers of equal size in one region.
pub(crate) struct Pool {
    region: Arc<Region>,
    /// What to announce to servers; a link's private memory is announced when it is made.
    file: Option<Arc<OwnedFd>>,
    buffer_size: u32,
    /// Where free buffers begin. Asked when links come up and by callers, never for a packet that is forwarded.
    free: Mutex<Vec<u32>>,
}

impl Pool {
    /// A pool whose buffers are `free`: those at these offsets.
    pub(crate) fn new(region: Arc<Region>, file: OwnedFd, buffer_size: u32, free: Vec<u32>) -> Arc<Self> {
        Arc::new(Self { region, file: Some(Arc::new(file)), buffer_size, free: Mutex::new(free) })
    }

    /// A pool all of whose buffers are in rings already.
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

    /// How many buffers are free.
    pub(crate) fn free(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes a free buffer.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Held> {
        let offset = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Held::new(self, offset, 0))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("buffer_size", &self.buffer_size).finish_non_exhaustive()
    }
}

/// A buffer, and the right to use it.
#[derive(Debug)]
pub(crate) struct Held {
    pool: Arc<Pool>,
    offset: u32,
    /// The number its region has on the link whose ring holds it.
    pub(crate) index: u16,
}

impl Held {
    /// The buffer at `offset`, which nobody else holds.
    pub(crate) fn new(pool: &Arc<Pool>, offset: u32, index: u16) -> Self {
        Self { pool: Arc::clone(pool), offset, index }
    }

    #[inline]
    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.pool.region
    }

    /// Where it begins in its region.
    #[inline]
    pub(crate) fn offset(&self) -> u32 {
        self.offset
    }

    /// Bytes in it.
    #[inline]
    pub(crate) fn size(&self) -> u32 {
        self.pool.buffer_size
    }

    /// Its bytes from `start` on, or nothing when they are not all inside.
    #[inline]
    pub(crate) fn bytes(&self, start: u32, len: u32) -> Option<&[AtomicU8]> {
        if start.checked_add(len)? > self.size() {
            return None;
        }
        self.pool.region.bytes(self.offset.checked_add(start)?, len)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.offset);
    }
}
