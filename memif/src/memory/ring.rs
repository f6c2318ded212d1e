//! One ring inside a region: its header and descriptors, as atomics.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::region::Regions;
use crate::format::ring::{Descriptor, DescriptorCell, RING_ALIGN, RingHeader, ring_bytes};

/// A ring of `1 << log2_size` descriptors at a checked place; it keeps its memory mapped.
pub(crate) struct RingMemory {
    regions: Arc<Regions>,
    header: NonNull<RingHeader>,
    cells: NonNull<[DescriptorCell]>,
}

// SAFETY: both pointers lead into the mapping that `regions` keeps alive; what is there is only reached as atomics.
unsafe impl Send for RingMemory {}

impl RingMemory {
    /// The ring at `offset` of region `region`, or nothing when it is not wholly inside or not aligned.
    pub(crate) fn new(regions: &Arc<Regions>, region: u16, offset: u32, log2_size: u8) -> Option<Self> {
        let all: u32 = ring_bytes(log2_size.min(31)).try_into().ok()?;
        let bytes: &[AtomicU8] = regions.bytes(region, offset, all)?;
        if !(bytes.as_ptr() as u64).is_multiple_of(RING_ALIGN) {
            return None;
        }
        let (header, cells) = bytes.split_at(size_of::<RingHeader>());
        Some(Self {
            regions: Arc::clone(regions),
            header: NonNull::from(header).cast(),
            cells: NonNull::slice_from_raw_parts(NonNull::from(cells).cast(), 1 << log2_size),
        })
    }

    /// Returns the regions that descriptors point into.
    #[inline]
    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    #[inline]
    pub(crate) fn header(&self) -> &RingHeader {
        // SAFETY: in bounds and aligned, as `new` has checked; mapped as long as `self` lives; only atomics.
        unsafe { self.header.as_ref() }
    }

    #[inline]
    fn cells(&self) -> &[DescriptorCell] {
        // SAFETY: in bounds and aligned, as `new` has checked; mapped as long as `self` lives; only atomics.
        unsafe { self.cells.as_ref() }
    }

    /// Returns the number of descriptors, a power of two up to 2^15.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.cells.len()
    }

    #[inline]
    fn cell(&self, index: u16) -> &DescriptorCell {
        let cells = self.cells();
        &cells[usize::from(index) & (cells.len() - 1)]
    }

    /// Returns the descriptor at a free-running index, with each of its two words read once.
    ///
    /// Relaxed: the caller's acquire-load of the index makes the words at least as new as the index.
    #[inline]
    pub(crate) fn descriptor(&self, index: u16) -> Descriptor {
        let cell = self.cell(index);
        Descriptor::from_words(cell.first.load(Relaxed), cell.second.load(Relaxed))
    }

    /// Writes the whole descriptor at a free-running index. Relaxed: the release-store of the index publishes it.
    #[inline]
    pub(crate) fn set_descriptor(&self, index: u16, descriptor: Descriptor) {
        let cell = self.cell(index);
        let (first, second) = descriptor.words();
        cell.first.store(first, Relaxed);
        cell.second.store(second, Relaxed);
    }
}
