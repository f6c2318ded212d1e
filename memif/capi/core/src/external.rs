//! Memory regions that the program makes or maps itself.
//!
//! The program's mapping and that of the crate `memif` are two views of one file. Rings and
//! descriptors are reached through the latter; the program gets addresses in its own.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::abi::{AddRegion, DelRegion, GetOffset, GetRegion};

/// The program's functions for its own regions.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExternalRegions {
    /// Makes the region of a client's buffers.
    pub add: Option<AddRegion>,
    /// Maps a region that a client has sent.
    pub get: Option<GetRegion>,
    /// Ends the use of a region.
    pub del: Option<DelRegion>,
    /// Chooses a buffer of the region.
    pub offset: Option<GetOffset>,
}

/// A region that the program has made or mapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExternalRegion {
    pub(crate) address: usize,
    pub(crate) size: u32,
    pub(crate) fd: c_int,
}

impl ExternalRegions {
    /// Has the program make a region of `bytes` bytes; returns it with its file.
    pub(crate) fn make(&self, bytes: u64, context: usize) -> io::Result<(ExternalRegion, OwnedFd)> {
        let add = self.add.ok_or(io::ErrorKind::Unsupported)?;
        let size = u32::try_from(bytes).map_err(io::Error::other)?;
        let (mut address, mut fd) = (std::ptr::null_mut::<c_void>(), -1);
        // SAFETY: the program's function, with places for its answers.
        let failed = unsafe { add(&raw mut address, size, &raw mut fd, pointer(context)) };
        if failed != 0 || address.is_null() || fd < 0 {
            return Err(io::Error::other("the program could not make a region"));
        }
        // SAFETY: the program says that the descriptor is open; it is only duplicated here.
        let file = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        Ok((ExternalRegion { address: address.expose_provenance(), size, fd }, file))
    }

    /// Has the program map a region that a client has sent; `None` when it does not.
    pub(crate) fn map(&self, bytes: u64, fd: c_int, context: usize) -> Option<ExternalRegion> {
        let (get, size) = (self.get?, u32::try_from(bytes).ok()?);
        // SAFETY: the program's function, with an open descriptor.
        let address = unsafe { get(size, fd, pointer(context)) };
        let address = (!address.is_null()).then(|| address.expose_provenance())?;
        Some(ExternalRegion { address, size, fd })
    }

    /// Ends the use of a region.
    pub(crate) fn end(&self, region: &ExternalRegion, context: usize) {
        if let Some(del) = self.del {
            let address = pointer(region.address);
            // SAFETY: the program's function, with what it has returned before.
            unsafe { del(address, region.size, region.fd, pointer(context)) };
        }
    }
}

/// Returns the pointer with this address, which the program has passed in.
pub(crate) fn pointer(address: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address)
}
