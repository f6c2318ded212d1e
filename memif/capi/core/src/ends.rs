//! This side's ends of a link's rings, with what the C API needs beside them.

use std::ffi::c_void;

use memif::{ManualBuffer, ManualRx, ManualTx};

use crate::abi::GetOffset;
use crate::external::pointer;

/// Where the program sees the regions of a link that it has mapped itself: the address of each, or
/// `None`. Without any, it sees all where they are.
#[derive(Debug, Clone)]
pub(crate) struct Bases(Box<[Option<usize>]>);

impl Bases {
    pub(crate) fn new(regions: usize, program: impl Fn(usize) -> Option<usize>) -> Self {
        let own: Box<[_]> = (0..regions).map(program).collect();
        Self(if own.iter().any(Option::is_some) { own } else { Box::default() })
    }

    /// Returns the pointer to the first byte of a buffer.
    #[inline]
    pub(crate) fn pointer(&self, buffer: &ManualBuffer<'_>) -> *mut c_void {
        match self.0.get(usize::from(buffer.region)) {
            Some(Some(address)) => pointer(address.wrapping_add(buffer.offset as usize)),
            _ => buffer.bytes.as_ptr().cast_mut().cast(),
        }
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
