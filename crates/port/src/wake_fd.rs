//! A descriptor that one thread makes readable to wake another that polls it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A descriptor that polls readable from a [`wake`](Self::wake) until it is [drained](Self::drain).
///
/// Any number of wakes before a drain count as one.
#[derive(Debug)]
pub struct WakeFd(EventFd);

impl WakeFd {
    /// Makes a descriptor that is not readable.
    ///
    /// # Errors
    /// The system's error when no descriptor is available.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) {
        // It fails only after 2^64 - 2 wakes without a drain: it is readable then.
        let _ = self.0.write(1);
    }

    /// Makes the descriptor quiet. Look for what it was woken for after this call, not before.
    pub fn drain(&self) {
        // It fails when it is quiet already.
        let _ = self.0.read();
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
