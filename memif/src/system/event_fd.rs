//! Eventfds: those made here, and those a client sends to its server.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{self, EfdFlags};

use super::untrusted_eventfd;
use super::untrusted_fd::UntrustedFd;

/// Makes a new eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // Non-blocking, as peers expect: they read until nothing is left.
    Ok(eventfd::EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into())
}

/// An eventfd whose reads and writes never block, whatever a peer that shares it does.
#[derive(Debug)]
pub(crate) struct EventFd(UntrustedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd()?.into()))
    }

    /// Adopts a peer's descriptor, unless it is no eventfd: writing to a pipe, a terminal or a file
    /// is not harmless.
    pub(crate) fn adopt(fd: UntrustedFd) -> Option<Self> {
        // Without /proc this check is impossible; the descriptor is still only used without
        // blocking.
        fd.may_be_eventfd().then_some(Self(fd))
    }

    /// Makes the descriptor readable. This fails only on a full counter, which is readable as well.
    pub(crate) fn notify(&self) {
        if untrusted_eventfd::notify(self.as_fd()).is_err() && self.never_block() {
            let _ = nix::unistd::write(&self.0, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unreadable until the next `notify`, and returns the count of
    /// notifications. A peer can make the count wrong.
    pub(crate) fn drain(&self) -> u64 {
        let mut count = [0; 8];
        match untrusted_eventfd::take(self.as_fd()) {
            Ok(count) => return count,
            // It was unreadable already.
            Err(nix::Error::EAGAIN) => {}
            Err(_) if self.never_block() => drop(nix::unistd::read(&self.0, &mut count)),
            Err(_) => {}
        }
        u64::from_ne_bytes(count)
    }

    /// Sets `O_NONBLOCK`, for kernels and sandboxes without the calls of `untrusted_eventfd`. A
    /// peer can still clear it before the next system call.
    #[cold]
    fn never_block(&self) -> bool {
        fcntl(&self.0, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::MFdFlags;

    #[test]
    fn only_eventfds_are_adopted() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert!(EventFd::adopt(reader.into()).is_none());
        assert!(EventFd::adopt(writer.into()).is_none());
        assert!(EventFd::adopt(eventfd().unwrap().into()).is_some());
        let folder = tempfile::tempdir().unwrap();
        for name in ["eventfd", "anon_inode:[eventfd]"] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            assert!(
                EventFd::adopt(OwnedFd::from(file).into()).is_none(),
                "a file may have any name"
            );
        }
        let memory =
            nix::sys::memfd::memfd_create("anon_inode:[eventfd]", MFdFlags::MFD_CLOEXEC).unwrap();
        assert!(EventFd::adopt(memory.into()).is_none());
    }

    #[test]
    fn nothing_blocks_even_if_the_peer_clears_nonblock() {
        let event_fd = EventFd::new().unwrap();
        let peer = event_fd.as_fd().try_clone_to_owned().unwrap();
        fcntl(&peer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        event_fd.drain();
        nix::unistd::write(&peer, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        fcntl(&peer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        event_fd.notify();
        event_fd.drain();
    }
}
