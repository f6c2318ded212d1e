//! One ring inside a region: its header and descriptors, as atomics.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::region::{self, Regions};
use crate::format::MAX_LOG2_RING_SIZE_ACCEPTED;
use crate::format::ring::{Descriptor, DescriptorCell, RING_ALIGN, RingHeader, ring_bytes};

/// A ring of `1 << log2_size` descriptors at a checked place; it keeps its memory mapped.
pub(crate) struct RingMemory {
    regions: Arc<Regions>,
    header: NonNull<RingHeader>,
    /// The first of `mask` + 1 descriptors.
    cells: NonNull<DescriptorCell>,
    mask: u16,
}

// SAFETY: both pointers lead into the mapping that `regions` keeps alive; what is there is only
// reached as atomics.
unsafe impl Send for RingMemory {}

impl RingMemory {
    /// The ring at `offset` of region `region`, or nothing when it is larger than the protocol's
    /// indexes can tell apart, not wholly inside, or not aligned.
    pub(crate) fn new(
        regions: &Arc<Regions>,
        region: u16,
        offset: u32,
        log2_size: u8,
    ) -> Option<Self> {
        if log2_size > MAX_LOG2_RING_SIZE_ACCEPTED {
            return None;
        }
        let all: u32 = ring_bytes(log2_size).try_into().ok()?;
        let bytes: &[AtomicU8] = regions.bytes(region, offset, all)?;
        if !(bytes.as_ptr() as u64).is_multiple_of(RING_ALIGN) {
            return None;
        }
        let (header, cells) = bytes.split_at(size_of::<RingHeader>());
        Some(Self {
            regions: Arc::clone(regions),
            header: NonNull::from(header).cast(),
            cells: NonNull::from(cells).cast(),
            mask: (1 << log2_size) - 1,
        })
    }

    /// Returns the regions that descriptors point into.
    #[inline]
    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    #[inline]
    pub(crate) fn header(&self) -> &RingHeader {
        // SAFETY: in bounds and aligned, as `new` has checked; mapped as long as `self` lives; only
        // atomics.
        unsafe { self.header.as_ref() }
    }

    /// Returns the number of descriptors, a power of two up to 2^15.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        usize::from(self.mask) + 1
    }

    #[inline]
    fn cell(&self, index: u16) -> &DescriptorCell {
        // SAFETY: the mask keeps it within the descriptors, all of which are in bounds, as `new` has
        // checked.
        let cell = unsafe { self.cells.add(usize::from(index & self.mask)) };
        // SAFETY: aligned, as `new` has checked; mapped as long as `self` lives; only atomics.
        unsafe { cell.as_ref() }
    }

    /// Returns the descriptor at a free-running index, with each of its two words read once.
    ///
    /// Relaxed: the caller's acquire-load of the index makes the words at least as new as the
    /// index.
    #[inline]
    pub(crate) fn descriptor(&self, index: u16) -> Descriptor {
        let cell = self.cell(index);
        Descriptor::from_words(cell.first.load(Relaxed), cell.second.load(Relaxed))
    }

    /// Starts loading `count` descriptors from a free-running index on, for writing: a load of one
    /// that the peer has written, and a store later, would transfer its cache line twice. No more
    /// than a processor has use for are loaded.
    #[inline]
    pub(crate) fn prefetch_write(&self, index: u16, count: u16) {
        const LINE: u16 = 4;
        const MOST: u16 = 256;
        // The last one, as descriptors need not begin at a line.
        let last = count.min(MOST).wrapping_sub(1);
        for nth in (0..count.min(MOST)).step_by(LINE.into()).chain((count != 0).then_some(last)) {
            region::prefetch_write_at(self.cell(index.wrapping_add(nth)));
        }
    }

    /// Writes the whole descriptor at a free-running index. Relaxed: the release-store of the index
    /// publishes it.
    #[inline]
    pub(crate) fn set_descriptor(&self, index: u16, descriptor: Descriptor) {
        let cell = self.cell(index);
        let (first, second) = descriptor.words();
        cell.first.store(first, Relaxed);
        cell.second.store(second, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::region::Region;
    use std::os::fd::AsFd;

    fn regions(len: u64) -> Arc<Regions> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        let region = Region::map(file.as_fd(), len, 4_096, false).unwrap();
        Arc::new(Regions::new(vec![region.into()]))
    }

    /// What is checked to be inside is what is handed out, for every size that can be asked for.
    #[test]
    fn a_ring_has_all_its_descriptors_inside_or_is_refused() {
        for log2_size in 0..=u8::MAX {
            let fits = log2_size <= MAX_LOG2_RING_SIZE_ACCEPTED;
            // Sparse: no more of it is there than is touched.
            let bytes = if fits { ring_bytes(log2_size) } else { 8 << 30 };
            let regions = regions(bytes);
            let ring = RingMemory::new(&regions, 0, 0, log2_size);
            assert_eq!(ring.map(|ring| ring.size()), fits.then(|| 1 << log2_size), "2^{log2_size}");
        }
    }

    #[test]
    fn the_last_descriptor_ends_where_the_region_does() {
        for log2_size in 0..=MAX_LOG2_RING_SIZE_ACCEPTED {
            let bytes = ring_bytes(log2_size);
            let regions = regions(bytes);
            let ring = RingMemory::new(&regions, 0, 0, log2_size).unwrap();
            let last = u16::try_from((1u32 << log2_size) - 1).unwrap();
            let descriptor = Descriptor { flags: 1, region: 2, length: 3, offset: 4, metadata: 5 };
            ring.set_descriptor(last, descriptor);
            assert_eq!(ring.descriptor(last), descriptor);
            let end = u32::try_from(bytes).unwrap();
            assert!(
                regions.bytes(0, end - 16, 16).unwrap().iter().any(|byte| byte.load(Relaxed) != 0)
            );
            assert!(
                RingMemory::new(&regions, 0, 16, log2_size).is_none(),
                "one descriptor too far"
            );
            assert!(RingMemory::new(&regions, 0, 8, 0).is_none(), "not aligned");
        }
    }
}
