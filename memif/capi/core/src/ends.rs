//! This side's ends of a link's rings, with what the C API needs beside them.

use std::ffi::c_void;

use memif::{LinkRegion, ManualRx, ManualTx};

use crate::abi::GetOffset;
use crate::external::pointer;

/// Where the program sees the regions of a link.
#[derive(Debug, Clone)]
pub(crate) struct Bases(Box<[usize]>);

impl Bases {
    /// Takes the addresses of the regions, but for those that the program has mapped itself.
    pub(crate) fn new(
        regions: &[LinkRegion<'_>],
        program: impl Fn(usize) -> Option<usize>,
    ) -> Self {
        let address = |(index, region): (usize, &LinkRegion<'_>)| {
            program(index).unwrap_or_else(|| region.start.as_ptr().expose_provenance())
        };
        Self(regions.iter().enumerate().map(address).collect())
    }

    /// Returns the address of a region, or 0 for one that the link does not have.
    #[inline]
    pub(crate) fn start(&self, region: u16) -> usize {
        self.0.get(usize::from(region)).copied().unwrap_or(0)
    }

    /// Returns the pointer to a byte of a region.
    #[inline]
    pub(crate) fn pointer(&self, region: u16, offset: u32) -> *mut c_void {
        pointer(self.start(region).wrapping_add(offset as usize))
    }
}

/// The program's choice of buffers in its own region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    pub(crate) choose: GetOffset,
    pub(crate) context: usize,
}

impl Offsets {
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        // SAFETY: the program's function, with the context that it goes with.
        unsafe { (self.choose)(pointer(self.context)) }
    }
}

/// A queue to receive on.
#[derive(Debug)]
pub(crate) struct RxEnd {
    pub(crate) queue: ManualRx,
    pub(crate) bases: Bases,
    pub(crate) offsets: Option<Offsets>,
    /// Whether the program has the eventfd, so that it must not stay readable.
    pub(crate) watched: bool,
}

/// A queue to send on.
#[derive(Debug)]
pub(crate) struct TxEnd {
    pub(crate) queue: ManualTx,
    pub(crate) bases: Bases,
    pub(crate) offsets: Option<Offsets>,
    pub(crate) is_client: bool,
}
