//! Descriptors that a peer has sent, which can be of any kind.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::fcntl::{FcntlArg, fcntl, readlink};
use nix::libc::linger;
use nix::sys::socket::{Shutdown, UnixAddr, getsockname, setsockopt, shutdown, sockopt};

use crate::system::scm_rights;

/// A descriptor that a peer may have chosen.
///
/// Closing it can block. It can be a connection whose close waits until all data has arrived
/// (`SO_LINGER`), or a socket with such a connection in its queue. It can be a file of a file
/// system that the peer serves, and never answers for. Descriptors that no honest peer sends are
/// therefore closed on other threads, and no caller waits for them.
#[derive(Debug)]
pub(crate) struct UntrustedFd(Option<OwnedFd>);

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
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok()
        || link().is_ok_and(|name| name == "anon_inode:[eventfd]")
}

impl Drop for UntrustedFd {
    fn drop(&mut self) {
        let Some(fd) = self.0.take() else { return };
        if !is_harmless(&fd) {
            tracing::debug!(
                "a peer has sent a descriptor that is neither memory nor an eventfd; closing it on another thread"
            );
            close_elsewhere(fd);
        }
    }
}

/// Takes everything out of a unix socket, waiting connections included, and lets no more in.
/// Otherwise the kernel would close the descriptors in the queue, and could block doing so.
pub(crate) fn empty(socket: BorrowedFd<'_>) {
    // No more can come after the shutdown, so this ends.
    if shutdown(socket.as_raw_fd(), Shutdown::Read).is_err() {
        return;
    }
    // With credentials every packet in the queue has some content: a packet of no bytes would look
    // like the end.
    let _ = setsockopt(&socket, sockopt::PassCred, &true);
    let mut packet = [0; 4_096];
    loop {
        match scm_rights::receive(socket, &mut packet) {
            Ok(Some((_, fds))) => fds.into_iter().map(UntrustedFd::from).for_each(drop),
            // The peer closed without having read all: the kernel reports that once, before the
            // peer's last messages.
            Err(nix::Error::EINTR | nix::Error::ECONNRESET) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let _ = setsockopt(&socket, sockopt::PassCred, &false);
    loop {
        match scm_rights::accept(socket) {
            Ok(connection) => drop(UntrustedFd::from(connection)),
            Err(nix::Error::EINTR | nix::Error::ECONNABORTED) => {}
            Err(_) => break,
        }
    }
}

/// Closes a descriptor, which may take for ever.
fn close(fd: OwnedFd) {
    // Fails for files that are no sockets.
    let _ = setsockopt(&fd, sockopt::Linger, &linger { l_onoff: 0, l_linger: 0 });
    if getsockname::<UnixAddr>(fd.as_raw_fd()).is_ok() {
        // The kernel limits how deep sockets can be nested in each other's queues.
        empty(fd.as_fd());
    }
    drop(fd);
}

/// The most threads that close descriptors. Only when so many of them block for ever do other
/// descriptors wait.
const MAX_CLOSERS: usize = 16;

/// The descriptors to close, and the number of threads that do it. The threads exist only while
/// there is work.
struct Closers {
    waiting: VecDeque<OwnedFd>,
    threads: usize,
}

static CLOSERS: Mutex<Closers> = Mutex::new(Closers { waiting: VecDeque::new(), threads: 0 });

fn closers() -> MutexGuard<'static, Closers> {
    CLOSERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn close_elsewhere(fd: OwnedFd) {
    let mut closers = closers();
    closers.waiting.push_back(fd);
    // If no thread can be made, the descriptor stays open until there is one: this caller does not
    // wait.
    if closers.threads < MAX_CLOSERS
        && thread::Builder::new().name("memif-close".into()).spawn(close_all).is_ok()
    {
        closers.threads += 1;
    }
}

fn close_all() {
    while let Some(fd) = next() {
        close(fd);
    }
}

/// Returns the next descriptor to close; with `None` the thread ends.
fn next() -> Option<OwnedFd> {
    let mut closers = closers();
    let next = closers.waiting.pop_front();
    if next.is_none() {
        closers.threads -= 1;
    }
    next
}
