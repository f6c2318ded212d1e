//! Mapped memory files: a link's regions, and checked views into them.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use mapguard::Guard;
use memmap2::{MmapOptions, MmapRaw};

/// No descriptor can reach beyond this: its offset and its length have 32 bits each.
pub(crate) const MAX_REACH: u64 = 1 << 33;

/// One mapped region.
///
/// A file without a seal against shrinking may be cut by its owner while it is mapped here, after which touching the
/// lost pages raises SIGBUS. A seal does not keep anybody from punching holes, which cannot be filled again when memory has
/// run out. So every region is guarded: where the program has the guard's handler installed, lost pages become zeros, and
/// the region says that it [is lost](Regions::lost).
#[derive(Debug)]
pub(crate) struct Region {
    // Before the mapping, so that it is dropped first.
    guard: Guard,
    _map: MmapRaw,
    span: Span,
    sealed: bool,
}

/// Where a mapping is.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: NonNull<AtomicU8>,
    /// Bytes that may be touched; the mapping itself may be longer, up to a page border.
    len: u64,
}

// SAFETY: what is there is only reached as atomics, and from any thread.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Span {
    /// The bytes at `offset`, or nothing when they are not wholly inside.
    ///
    /// # Safety
    /// The mapping stays for as long as the bytes are used.
    #[inline]
    unsafe fn bytes<'a>(self, offset: u32, len: u32) -> Option<&'a [AtomicU8]> {
        if u64::from(offset) + u64::from(len) > self.len {
            return None;
        }
        // SAFETY: `offset` is at most the region's length, all of which is mapped.
        let start = unsafe { self.start.add(offset as usize) };
        // SAFETY: the range was checked to lie inside the mapping, which stays by the caller's promise; atomic bytes need no
        // alignment and may be changed by anybody.
        Some(unsafe { slice::from_raw_parts(start.as_ptr(), len as usize) })
    }
}

impl Region {
    /// Maps the first `len` bytes of `file`, which the caller has seen to be at least so long. `page` is the size of
    /// the file's pages: a mapping of huge pages can only be undone in whole ones. `sealed` tells whether the file can
    /// no longer shrink.
    pub(crate) fn map(file: BorrowedFd<'_>, len: u64, page: u64, sealed: bool) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let mapped = len.checked_next_multiple_of(page.max(1)).ok_or_else(too_large)?;
        let mapped = usize::try_from(mapped).map_err(|_| too_large())?;
        let map = MmapOptions::new().len(mapped).map_raw(&file)?;
        // SAFETY: it is a whole mapping of ours, in whole pages of its file, and stays for longer than the guard.
        let guard = unsafe { Guard::new(map.as_ptr(), map.len()) };
        let start = NonNull::new(map.as_mut_ptr()).ok_or_else(too_large)?.cast();
        Ok(Self { guard, _map: map, span: Span { start, len }, sealed })
    }

    /// Bytes that may be touched.
    pub(crate) fn len(&self) -> u64 {
        self.span.len
    }

    /// Whether the file can no longer shrink.
    pub(crate) fn sealed(&self) -> bool {
        self.sealed
    }

    /// Whether the memory was taken away. Ask after reading: what was read before the answer "no" is what the peer wrote.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.guard.is_lost()
    }

    /// The bytes at `offset`, or nothing when they are not wholly inside.
    #[inline]
    pub(crate) fn bytes(&self, offset: u32, len: u32) -> Option<&[AtomicU8]> {
        // SAFETY: the mapping stays as long as `self`.
        unsafe { self.span.bytes(offset, len) }
    }
}

/// The regions of one link, by index.
#[derive(Debug)]
pub(crate) struct Regions {
    /// Close at hand: asked for every packet.
    spans: Box<[Span]>,
    all: Box<[Arc<Region>]>,
}

impl Regions {
    pub(crate) fn new(regions: Vec<Arc<Region>>) -> Self {
        Self { spans: regions.iter().map(|region| region.span).collect(), all: regions.into() }
    }

    /// The number a region has here.
    #[inline]
    pub(crate) fn position(&self, region: &Arc<Region>) -> Option<u16> {
        let found = self.all.iter().position(|mine| Arc::ptr_eq(mine, region))?;
        // At most 256 regions make a link.
        Some(u16::try_from(found).unwrap_or(u16::MAX))
    }

    /// Whether no region can shrink under us.
    pub(crate) fn sealed(&self) -> bool {
        self.all.iter().all(|region| region.sealed())
    }

    /// The first region that [is lost](Region::is_lost), if any is.
    #[inline]
    pub(crate) fn lost(&self) -> Option<u16> {
        let lost = self.all.iter().position(|region| region.is_lost())?;
        // At most 256 regions make a link.
        Some(u16::try_from(lost).unwrap_or(u16::MAX))
    }

    /// A region, by its index.
    #[inline]
    pub(crate) fn get(&self, index: u16) -> Option<&Region> {
        self.all.get(usize::from(index)).map(AsRef::as_ref)
    }

    /// All regions, by index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.all.iter().map(AsRef::as_ref)
    }

    /// The bytes at `offset` of region `index`, or nothing when they are not wholly inside.
    #[inline]
    pub(crate) fn bytes(&self, index: u16, offset: u32, len: u32) -> Option<&[AtomicU8]> {
        let span = self.spans.get(usize::from(index))?;
        // SAFETY: the mapping is that of a region in `all`, and stays as long as `self`.
        unsafe { span.bytes(offset, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn region(len: u64) -> Region {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        Region::map(file.as_fd(), len, 4_096, false).unwrap()
    }

    #[test]
    fn only_what_lies_inside_is_handed_out() {
        let regions = Regions::new(vec![region(100).into(), region(5_000).into()]);
        assert_eq!(regions.bytes(0, 0, 100).unwrap().len(), 100);
        assert_eq!(regions.bytes(0, 100, 0).unwrap().len(), 0);
        assert!(regions.bytes(0, 1, 100).is_none());
        assert!(regions.bytes(0, u32::MAX, 1).is_none());
        assert!(regions.bytes(1, u32::MAX, u32::MAX).is_none());
        assert_eq!(regions.bytes(1, 4_999, 1).unwrap().len(), 1);
        assert!(regions.bytes(2, 0, 1).is_none());
        assert!(!regions.sealed());
    }

    #[test]
    fn what_is_cut_off_becomes_zeros_and_is_told() {
        mapguard::install().unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(5_000).unwrap();
        let cut = Region::map(file.as_fd(), 5_000, 4_096, false).unwrap();
        let regions = Regions::new(vec![region(100).into(), cut.into()]);
        let byte = |region, offset| {
            regions.bytes(region, offset, 1).unwrap()[0].load(std::sync::atomic::Ordering::Relaxed)
        };
        file.set_len(4_096).unwrap();
        assert_eq!((byte(1, 4_095), regions.lost()), (0, None), "what is left is good");
        assert_eq!((byte(1, 4_096), regions.lost()), (0, Some(1)));
        assert!(regions.get(1).unwrap().is_lost() && !regions.get(0).unwrap().is_lost());
    }
}
