//! Descriptors that a peer has sent, which may be anything.

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
/// Closing such a one is not harmless. It can be a connection that is to be closed only when all it has to send has arrived
/// somewhere (`SO_LINGER`), or a socket with such a connection in its queue. Or a file of a file system whose server is the
/// peer's, and which never answers that the file was closed. What no honest peer sends is therefore closed by threads that
/// nobody waits for.
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

/// Memory and eventfds, which the kernel closes without asking or waiting for anybody.
fn is_harmless(fd: &OwnedFd) -> bool {
    let link = || readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str());
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok() || link().is_ok_and(|name| name == "anon_inode:[eventfd]")
}

impl Drop for UntrustedFd {
    fn drop(&mut self) {
        let Some(fd) = self.0.take() else { return };
        if !is_harmless(&fd) {
            tracing::debug!("a peer has sent neither memory nor an eventfd, which is closed elsewhere");
            close_elsewhere(fd);
        }
    }
}

/// Takes all there is out of a unix socket, connections that wait on it included, and lets no more come. What its queue holds
/// would be closed by the kernel otherwise, and not with the care it needs.
pub(crate) fn empty(socket: BorrowedFd<'_>) {
    // No more can come after the shutdown, so this ends.
    if shutdown(socket.as_raw_fd(), Shutdown::Read).is_err() {
        return;
    }
    // Whatever is in the queue comes with something then: a packet of no bytes would look like the end.
    let _ = setsockopt(&socket, sockopt::PassCred, &true);
    let mut packet = [0; 4_096];
    loop {
        match scm_rights::receive(socket, &mut packet) {
            Ok(Some((_, fds))) => fds.into_iter().map(UntrustedFd::from).for_each(drop),
            // The other side closed without having read all: told once, before what it had to say.
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
    // Fails for all that is no socket.
    let _ = setsockopt(&fd, sockopt::Linger, &linger { l_onoff: 0, l_linger: 0 });
    if getsockname::<UnixAddr>(fd.as_raw_fd()).is_ok() {
        // The kernel lets sockets be in the queues of others to a small depth only.
        empty(fd.as_fd());
    }
    drop(fd);
}

/// Most threads that are there to close descriptors: so many may never come back before others have to wait.
const MAX_CLOSERS: usize = 16;

/// What is to be closed, and the threads at it, which are there only while there is something to do.
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
    // Without a thread it stays open, rather than being waited for, until there is one.
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

/// The next to be closed; none, and the thread goes.
fn next() -> Option<OwnedFd> {
    let mut closers = closers();
    let next = closers.waiting.pop_front();
    if next.is_none() {
        closers.threads -= 1;
    }
    next
}
