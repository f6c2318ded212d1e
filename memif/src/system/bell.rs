//! Eventfds: our own, and those a client hands to its server.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl, readlink};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// An eventfd that is never waited on by reading or writing it.
///
/// The peer shares the open file and may make it block again at any time, so every use first says anew that it must
/// not. What is left to a peer is to undo that between two system calls while it keeps the counter full.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(event.as_fd().try_clone_to_owned()?))
    }

    /// Takes a peer's descriptor, unless it is something else: writing to a pipe, a terminal or a file is not harmless.
    pub(crate) fn adopt(fd: OwnedFd) -> Option<Self> {
        let link = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str());
        // Without /proc there is nothing to tell by; the descriptor is still only used without blocking.
        let event =
            link.map_or(true, |name| name.as_encoded_bytes().windows(7).any(|part| part == b"eventfd"));
        event.then_some(Self(fd))
    }

    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    fn never_block(&self) -> bool {
        fcntl(&self.0, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
    }

    /// Makes the descriptor readable. A full counter, the only way to fail, is readable as well.
    pub(crate) fn ring(&self) {
        if self.never_block() {
            let _ = nix::unistd::write(&self.0, &1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unreadable until it rings again, and returns how often it rang, if others speak the truth.
    /// Failing to means that it was so already.
    pub(crate) fn drain(&self) -> u64 {
        let mut count = [0; 8];
        if self.never_block() {
            let _ = nix::unistd::read(&self.0, &mut count);
        }
        u64::from_ne_bytes(count)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_eventfds_are_taken() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        assert!(Bell::adopt(reader).is_none());
        assert!(Bell::adopt(writer).is_none());
        assert!(Bell::adopt(Bell::new().unwrap().share().unwrap()).is_some());
    }

    #[test]
    fn nothing_blocks_even_if_the_peer_makes_the_file_block() {
        let bell = Bell::new().unwrap();
        let peer = bell.share().unwrap();
        fcntl(&peer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        bell.drain();
        nix::unistd::write(&peer, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        fcntl(&peer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        bell.ring();
        bell.drain();
    }
}
