//! Eventfds: our own, and those a client hands to its server.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl, readlink};
use nix::sys::eventfd::{self, EfdFlags};

use super::untrusted_eventfd;
use super::untrusted_fd::UntrustedFd;

/// A new eventfd.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // Without waiting, as all peers make them: they read until nothing is left.
    Ok(eventfd::EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into())
}

/// An eventfd that is never waited on by reading or writing it, whatever a peer that shares it does.
#[derive(Debug)]
pub(crate) struct EventFd(UntrustedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd()?.into()))
    }

    /// Takes a peer's descriptor, unless it is something else: writing to a pipe, a terminal or a file is not harmless.
    pub(crate) fn adopt(fd: UntrustedFd) -> Option<Self> {
        let link = readlink(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).as_str());
        // The whole of it: a file can have a name that ends like this, but begins with a slash. Without /proc there is
        // nothing to tell by; the descriptor is still only used without blocking.
        link.map_or(true, |name| name == "anon_inode:[eventfd]").then_some(Self(fd))
    }

    /// Makes the descriptor readable. A full counter, the only way to fail, is readable as well.
    pub(crate) fn ring(&self) {
        if untrusted_eventfd::notify(self.as_fd()).is_err() && self.never_block() {
            let _ = nix::unistd::write(&self.0, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unreadable until it rings again, and returns how often it rang, if others speak the truth.
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

    /// For kernels and sandboxes where nothing better is to be had: asks that reading and writing do not wait. What is left
    /// to a peer is to undo that before the next system call.
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
    fn only_eventfds_are_taken() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert!(EventFd::adopt(reader.into()).is_none());
        assert!(EventFd::adopt(writer.into()).is_none());
        assert!(EventFd::adopt(eventfd().unwrap().into()).is_some());
        let folder = tempfile::tempdir().unwrap();
        for name in ["eventfd", "anon_inode:[eventfd]"] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            assert!(EventFd::adopt(OwnedFd::from(file).into()).is_none(), "a file may have any name");
        }
        let memory = nix::sys::memfd::memfd_create("anon_inode:[eventfd]", MFdFlags::MFD_CLOEXEC).unwrap();
        assert!(EventFd::adopt(memory.into()).is_none());
    }

    #[test]
    fn nothing_blocks_even_if_the_peer_makes_the_file_block() {
        let bell = EventFd::new().unwrap();
        let peer = bell.as_fd().try_clone_to_owned().unwrap();
        fcntl(&peer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        bell.drain();
        nix::unistd::write(&peer, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        fcntl(&peer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        bell.ring();
        bell.drain();
    }
}
