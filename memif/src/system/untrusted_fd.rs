//! Descriptors that a peer has sent, which can be of any kind.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl, readlink};

use super::closers::{self, Kind};

/// A descriptor that a peer may have chosen.
///
/// Closing it can block. It can be a connection whose close waits until all data has arrived
/// (`SO_LINGER`), or a socket with such a connection in its queue. It can be a file of a file
/// system that the peer serves, and never answers for. Descriptors that no honest peer sends are
/// therefore closed elsewhere, and no caller waits for them.
#[derive(Debug)]
pub(crate) struct UntrustedFd(Option<OwnedFd>);

impl UntrustedFd {
    /// Returns whether the descriptor is an eventfd. Without /proc every descriptor may be one.
    pub(crate) fn may_be_eventfd(&self) -> bool {
        // The whole name is compared: a file's name can end like this, but begins with a slash.
        readlink(format!("/proc/self/fd/{}", self.as_fd().as_raw_fd()).as_str())
            .map_or(true, |name| name == EVENTFD)
    }
}

/// What /proc calls an eventfd.
const EVENTFD: &str = "anon_inode:[eventfd]";

impl From<OwnedFd> for UntrustedFd {
    fn from(fd: OwnedFd) -> Self {
        Self(Some(fd))
    }
}

impl AsFd for UntrustedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("it is taken out when dropped").as_fd()
    }
}

/// Returns whether the descriptor is memory or an eventfd, which the kernel closes without waiting.
fn is_harmless(fd: &OwnedFd) -> bool {
    let link = || readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str());
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok() || link().is_ok_and(|name| name == EVENTFD)
}

impl Drop for UntrustedFd {
    fn drop(&mut self) {
        let Some(fd) = self.0.take() else { return };
        if !is_harmless(&fd) {
            tracing::debug!(
                "a peer has sent a descriptor that is neither memory nor an eventfd; closing it elsewhere"
            );
            closers::close(fd, Kind::Foreign);
        }
    }
}
