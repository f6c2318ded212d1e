//! Mapped memory files: a link's regions, and checked views into them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use mapguard::Guard;
use memmap2::{MmapOptions, MmapRaw};

/// How far descriptors reach into a region: offset and length have 32 bits each.
pub(crate) const MAX_REACH: u64 = 1 << 33;

/// One mapped region.
///
/// The owner of a file without a seal against shrinking can cut it while it is mapped here, after
/// which touching the lost pages raises SIGBUS. A seal does not prevent holes, which cannot be
/// filled again when memory has run out. So every region is guarded: in a program that has
/// installed the guard's handler, lost pages become zeros, and the region [is lost](Regions::lost).
#[derive(Debug)]
pub(crate) struct Region {
    // Before the mapping, so that it is dropped first.
    guard: Guard,
    _map: MmapRaw,
    span: Span,
    sealed: bool,
    /// The file, if it stays open.
    file: Option<Arc<OwnedFd>>,
}

/// Where a mapping is.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: NonNull<AtomicU8>,
    /// Bytes that may be touched; the mapping itself may be longer, up to the end of a page.
    len: u64,
}

// SAFETY: the memory is only reached as atomics, which any thread may use.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Span {
    /// Returns the bytes at `offset`, or `None` when they are not wholly inside.
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
        // SAFETY: the range was checked to lie inside the mapping, which stays by the caller's
        // promise; atomic bytes need no alignment and may change at any time.
        Some(unsafe { slice::from_raw_parts(start.as_ptr(), len as usize) })
    }
}

impl Region {
    /// Maps the first `len` bytes of `file`; the caller has checked that it is so long. `page` is
    /// the size of the file's pages: huge pages can only be unmapped whole. `sealed` says whether
    /// the file can no longer shrink.
    pub(crate) fn map(file: BorrowedFd<'_>, len: u64, page: u64, sealed: bool) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let mapped = len.checked_next_multiple_of(page.max(1)).ok_or_else(too_large)?;
        let mapped = usize::try_from(mapped).map_err(|_| too_large())?;
        let map = MmapOptions::new().len(mapped).map_raw(&file)?;
        // SAFETY: this is the whole mapping just made, in whole pages of its file, and it outlives
        // the guard.
        let guard = unsafe { Guard::new(map.as_ptr(), map.len()) };
        let start = NonNull::new(map.as_mut_ptr()).ok_or_else(too_large)?.cast();
        Ok(Self { guard, _map: map, span: Span { start, len }, sealed, file: None })
    }

    /// Keeps the file open for as long as it is mapped.
    pub(crate) fn keep(&mut self, file: Arc<OwnedFd>) {
        self.file = Some(file);
    }

    /// Returns the file, if it stays open.
    pub(crate) fn file(&self) -> Option<&Arc<OwnedFd>> {
        self.file.as_ref()
    }

    /// Returns where the mapping begins.
    pub(crate) fn start(&self) -> NonNull<AtomicU8> {
        self.span.start
    }

    /// Returns the number of bytes that may be touched.
    pub(crate) fn len(&self) -> u64 {
        self.span.len
    }

    /// Returns whether the file can no longer shrink.
    pub(crate) fn sealed(&self) -> bool {
        self.sealed
    }

    /// Returns whether the memory was taken away. Call it after reading: on `false`, what was read
    /// is what the peer wrote.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.guard.is_lost()
    }

    /// Returns the bytes at `offset`, or `None` when they are not wholly inside.
    #[inline]
    pub(crate) fn bytes(&self, offset: u32, len: u32) -> Option<&[AtomicU8]> {
        // SAFETY: the mapping stays as long as `self`.
        unsafe { self.span.bytes(offset, len) }
    }
}

/// The regions of one link, by index.
#[derive(Debug)]
pub(crate) struct Regions {
    /// Kept together, as each packet needs them.
    spans: Box<[Span]>,
    all: Box<[Arc<Region>]>,
}

impl Regions {
    pub(crate) fn new(regions: Vec<Arc<Region>>) -> Self {
        Self { spans: regions.iter().map(|region| region.span).collect(), all: regions.into() }
    }

    /// Returns the index of a region on the link.
    #[inline]
    pub(crate) fn position(&self, region: &Arc<Region>) -> Option<u16> {
        let found = self.all.iter().position(|mine| Arc::ptr_eq(mine, region))?;
        // At most 256 regions make a link.
        Some(u16::try_from(found).unwrap_or(u16::MAX))
    }

    /// Returns whether no region can shrink.
    pub(crate) fn sealed(&self) -> bool {
        self.all.iter().all(|region| region.sealed())
    }

    /// Returns the index of the first region that [is lost](Region::is_lost), if any is.
    #[inline]
    pub(crate) fn lost(&self) -> Option<u16> {
        let lost = self.all.iter().position(|region| region.is_lost())?;
        // At most 256 regions make a link.
        Some(u16::try_from(lost).unwrap_or(u16::MAX))
    }

    /// Returns the region with this index.
    #[inline]
    pub(crate) fn get(&self, index: u16) -> Option<&Region> {
        self.all.get(usize::from(index)).map(AsRef::as_ref)
    }

    /// Returns all regions in the order of their indexes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.all.iter().map(AsRef::as_ref)
    }

    /// Returns the bytes at `offset` of region `index`, or `None` when they are not wholly inside.
    #[inline]
    pub(crate) fn bytes(&self, index: u16, offset: u32, len: u32) -> Option<&[AtomicU8]> {
        self.view().bytes(index, offset, len)
    }

    /// Returns what a burst needs of the regions, to be kept in registers.
    #[inline]
    pub(crate) fn view(&self) -> RegionsView<'_> {
        RegionsView(&self.spans)
    }
}

/// Where the regions of a link are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegionsView<'a>(&'a [Span]);

impl<'a> RegionsView<'a> {
    /// See [`Regions::bytes`].
    #[inline]
    pub(crate) fn bytes(self, index: u16, offset: u32, len: u32) -> Option<&'a [AtomicU8]> {
        let span = self.0.get(usize::from(index))?;
        // SAFETY: the mapping is that of a region of the link, which stays as long as the table.
        unsafe { span.bytes(offset, len) }
    }
}

/// Starts loading the first cache line of `bytes`, so that the misses of a burst overlap.
#[inline]
pub(crate) fn prefetch_read(bytes: &[AtomicU8]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing the program can see and cannot fault, whatever the
        // address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Starts loading the first cache line of `bytes` for writing. Otherwise each store to a line that
/// the peer has read last would wait, one after the other.
#[inline]
pub(crate) fn prefetch_write(bytes: &[AtomicU8]) {
    prefetch_write_at(bytes.as_ptr());
}

/// Starts loading the cache line of an address for writing.
#[inline]
pub(super) fn prefetch_write_at<T>(line: *const T) {
    // SAFETY: a prefetch reads nothing the program can see and cannot fault, whatever the address.
    // Processors without the instruction ignore it. (The compiler's intrinsic prefetches for
    // reading only, unless built for certain processors.)
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        std::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
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
    fn what_is_cut_off_becomes_zeros_and_is_reported() {
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
