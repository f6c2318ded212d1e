//! Signals as something to be polled.
//!
//! They are caught and not blocked: a command would inherit signals that are blocked, and be deaf
//! to `SIGTERM`.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

/// Polls readable when a child has ended, or this process is asked to end.
pub(super) struct Signals {
    wake: UnixStream,
    is_asked: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let is_asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            flag::register(signal, Arc::clone(&is_asked))?;
        }
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGCHLD] {
            pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Self { wake, is_asked })
    }

    /// Makes the descriptor unreadable until another signal comes.
    pub(super) fn drain(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(1..)) {}
    }

    /// Returns whether this process is asked to end.
    pub(super) fn is_asked(&self) -> bool {
        // Relaxed: the flag orders nothing.
        self.is_asked.load(Ordering::Relaxed)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
