//! Closes descriptors whose close may never return.
//!
//! A file of a file system that a peer serves can hang in `close` for ever, and no signal ends
//! that: a process with such a thread cannot end. So each close runs in a child process that shares
//! this process's table of descriptors: the child takes the descriptor out of the table, hangs in
//! the place of this process, and holds up nothing else. A thread waits for the child. Where the
//! system allows no child, the thread itself closes the descriptor.
//!
//! A close that hangs until a signal comes, such as that of a connection with `SO_LINGER`, is
//! ended after [`KILL_AFTER`]. What hangs even then keeps its thread: their number is limited, and
//! so is the number of descriptors that wait for them. While that limit is reached,
//! [`are_overloaded`] makes servers accept no connection.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sched::{CloneFlags, clone};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The most threads that close descriptors of one kind.
const MAX_CLOSERS: usize = 16;
/// The most descriptors of one kind that wait for a thread before servers accept no connection.
const MAX_WAITING: usize = 64;
/// How long a close may take before a signal ends it.
const KILL_AFTER: Duration = Duration::from_secs(1);
/// More packets than the queue of a connection holds.
const MAX_QUEUED: usize = 1 << 12;
/// The stack of a child, which makes a few system calls.
const CHILD_STACK: usize = 1 << 16;

/// What is closed. The kinds do not wait for each other: a signal ends every close of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A descriptor that a peer has sent.
    Foreign,
    /// A connection of this process, with descriptors in its queue.
    Connection,
}

/// The work of one kind. The threads exist only while there is work.
#[derive(Debug)]
struct Closers {
    waiting: VecDeque<OwnedFd>,
    threads: usize,
}

impl Closers {
    const fn new() -> Self {
        Self { waiting: VecDeque::new(), threads: 0 }
    }
}

static FOREIGN: Mutex<Closers> = Mutex::new(Closers::new());
static CONNECTIONS: Mutex<Closers> = Mutex::new(Closers::new());

fn closers(kind: Kind) -> MutexGuard<'static, Closers> {
    let closers = match kind {
        Kind::Foreign => &FOREIGN,
        Kind::Connection => &CONNECTIONS,
    };
    closers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes a descriptor soon. The caller does not wait.
pub(super) fn close(fd: OwnedFd, kind: Kind) {
    let mut closers = closers(kind);
    closers.waiting.push_back(fd);
    // If no thread can be made, the descriptor stays open until there is one.
    let close_all = move || close_all(kind, &close_in_child);
    if closers.threads < MAX_CLOSERS
        && thread::Builder::new().name("memif-close".into()).spawn(close_all).is_ok()
    {
        closers.threads += 1;
    }
}

/// Returns whether so many descriptors wait to be closed that a peer must not add any.
pub(crate) fn are_overloaded() -> bool {
    [Kind::Foreign, Kind::Connection].into_iter().any(|kind| has_no_room(kind, 1))
}

/// Returns whether descriptors of a kind have to wait, and `more` of them would be too many.
pub(super) fn has_no_room(kind: Kind, more: usize) -> bool {
    let closers = closers(kind);
    let must_wait = closers.threads == MAX_CLOSERS || !closers.waiting.is_empty();
    must_wait && closers.waiting.len() + more > MAX_WAITING
}

fn close_all(kind: Kind, close: &dyn Fn(OwnedFd, Kind)) {
    while let Some(fd) = next(kind) {
        close(fd, kind);
    }
}

/// Returns the next descriptor to close; with `None` the thread ends.
fn next(kind: Kind) -> Option<OwnedFd> {
    let mut closers = closers(kind);
    let next = closers.waiting.pop_front();
    if next.is_none() {
        closers.threads -= 1;
    }
    next
}

/// Closes a descriptor, which may take for ever.
fn close_in_child(fd: OwnedFd, kind: Kind) {
    match kind {
        // Fails for files that are no sockets.
        Kind::Foreign => {
            let _ = setsockopt(&fd, sockopt::Linger, &linger { l_onoff: 0, l_linger: 0 });
        }
        // A peer finds the reason for the end only if nothing is unread. Whether it does is of no
        // further interest.
        Kind::Connection => drop(in_child(fd.as_raw_fd(), empty)),
    }
    match in_child(fd.as_raw_fd(), close_number) {
        // The child has taken it out of the table.
        Ok(()) => drop(fd.into_raw_fd()),
        Err(errno) => {
            tracing::debug!(%errno, "no child process; closing the descriptor in a thread");
            drop(fd);
        }
    }
}

fn close_number(fd: RawFd) {
    // It is out of the table, whatever the file system answers.
    let _ = nix::unistd::close(fd);
}

/// Takes everything out of the queue of a socket that receives no more. There is no room for
/// descriptors, so the kernel drops them.
fn empty(socket: RawFd) {
    let mut packet = [0; 1];
    for _ in 0..MAX_QUEUED {
        match recv(socket, &mut packet, MsgFlags::MSG_DONTWAIT) {
            // A packet without bytes, or the end.
            Ok(_) | Err(nix::Error::EINTR | nix::Error::ECONNRESET) => {}
            Err(_) => break,
        }
    }
}

/// Runs `work` in a child process that shares this process's descriptors, and waits for its end.
/// `work` makes system calls only: other threads may have held locks, such as the allocator's, when
/// the child was made.
fn in_child(fd: RawFd, work: fn(RawFd)) -> nix::Result<()> {
    let mut stack = vec![0; CHILD_STACK];
    let child = Box::new(move || {
        // A child that can be ended does not outlive the process.
        let _ = set_pdeathsig(Signal::SIGKILL);
        work(fd);
        0
    });
    // SAFETY: without CLONE_VM the child has a copy of this memory, its stack included, and
    // `work` makes system calls only, so it needs no lock that another thread may hold.
    let child = unsafe { clone(child, &mut stack, CloneFlags::CLONE_FILES, None) }?;
    reap(child);
    Ok(())
}

/// Waits for the end of a child, and kills it after [`KILL_AFTER`].
fn reap(child: Pid) {
    let start = Instant::now();
    let mut pause = Duration::from_micros(100);
    // Without __WALL a child that sends no signal at its end is not waited for.
    let all = WaitPidFlag::__WALL;
    while start.elapsed() < KILL_AFTER {
        match waitpid(child, Some(all | WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::Error::EINTR) => {}
            _ => return,
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    let _ = kill(child, Signal::SIGKILL);
    while waitpid(child, Some(all)) == Err(nix::Error::EINTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_child_takes_the_descriptor_out_of_the_table() {
        let (mut here, there) = UnixStream::pair().unwrap();
        close_in_child(there.into(), Kind::Foreign);
        assert_eq!(here.read(&mut [0]).unwrap(), 0, "the other end is closed");
    }

    #[test]
    fn a_close_that_a_signal_ends_holds_up_its_thread_for_a_second_only() {
        let start = Instant::now();
        let sleep = |_| {
            // Not `thread::sleep`, which continues after a signal; SIGKILL ends both.
            loop {
                let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::NONE);
            }
        };
        in_child(-1, sleep).unwrap();
        assert!(start.elapsed() >= KILL_AFTER);
    }

    /// The seam: a close that hangs for as long as the test wants.
    #[test]
    fn descriptors_wait_while_all_closers_are_stuck_and_go_afterwards() {
        let stuck = Arc::new(AtomicBool::new(true));
        let hang = |fd: OwnedFd, _| {
            while stuck.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            drop(fd);
        };
        let (mut here, there) = UnixStream::pair().unwrap();
        let (_, other) = UnixStream::pair().unwrap();
        {
            let mut closers = closers(Kind::Connection);
            closers.threads += 1;
            closers.waiting.extend([OwnedFd::from(there), OwnedFd::from(other)]);
        }
        thread::scope(|scope| {
            let closer = scope.spawn(|| close_all(Kind::Connection, &hang));
            here.set_nonblocking(true).unwrap();
            assert!(here.read(&mut [0]).is_err(), "still open");
            assert!(!has_no_room(Kind::Connection, 1));
            assert!(has_no_room(Kind::Connection, MAX_WAITING));
            stuck.store(false, Ordering::Relaxed);
            closer.join().unwrap();
        });
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
    }
}
