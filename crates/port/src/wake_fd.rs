//! A descriptor that one thread makes readable and another sleeps on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Rung any number of times, it is readable until it is [drained](Self::drain).
#[derive(Debug)]
pub struct WakeFd(EventFd);

impl WakeFd {
    /// One that is quiet.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Makes it readable.
    pub fn ring(&self) {
        // It fails only when it has been rung 2^64 - 2 times: it is readable then.
        let _ = self.0.write(1);
    }

    /// Makes it quiet. What it was rung for must be looked at after this.
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
