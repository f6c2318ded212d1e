//! Reads and writes an eventfd that a hostile process shares, without ever blocking.
//!
//! The flag `O_NONBLOCK` belongs to the open file. A peer that shares it can clear the flag between
//! any two system calls, and can set the count so that reads or writes block. So this module uses
//! system calls that ignore the flag.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long, c_ulong};

/// How often to make room for completions before giving up: other threads may use it up again.
const ATTEMPTS: usize = 16;

/// Resets the count to 0 and returns the old one.
///
/// # Errors
/// `EAGAIN` when it was 0 already; `EOPNOTSUPP` and others from a kernel that cannot do this.
pub(crate) fn take(eventfd: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut count = 0u64;
    let to = libc::iovec { iov_base: ptr::from_mut(&mut count).cast(), iov_len: size_of::<u64>() };
    // -1 means the file's own position, as for `read`; an eventfd ignores it.
    let at = -1;
    // SAFETY: one buffer, valid for writes of the length it states, and any bytes are a valid
    // number.
    let read =
        unsafe { libc::preadv2(eventfd.as_raw_fd(), &raw const to, 1, at, libc::RWF_NOWAIT) };
    Errno::result(read)?;
    Ok(count)
}

/// Adds 1 to the count, up to its highest value, as the kernel's own drivers do: asynchronous I/O
/// adds 1 to an eventfd for each completed request. The request here reads nothing from the
/// eventfd, which fails at once and so completes.
///
/// # Errors
/// From a kernel that cannot do this, or a sandbox that does not allow it.
pub(crate) fn notify(eventfd: BorrowedFd<'_>) -> nix::Result<()> {
    static CONTEXT: LazyLock<nix::Result<Context>> = LazyLock::new(Context::new);
    let context = CONTEXT.as_ref().map_err(|errno| *errno)?;
    for _ in 1..ATTEMPTS {
        match context.submit(eventfd) {
            Err(Errno::EAGAIN) => context.reap()?,
            done => return done,
        }
    }
    context.submit(eventfd)
}

/// A request in the kernel's format (`struct iocb` of `linux/aio_abi.h`).
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    /// The key and the read flags, in an order that depends on the machine. Both are 0.
    key: u32,
    rw_flags: u32,
    operation: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

const _: () = assert!(size_of::<Request>() == 64);

/// The outcome of a request (`struct io_event`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Completion {
    data: u64,
    request: u64,
    result: [i64; 2],
}

/// A queue of requests and completions in the kernel. The process has one, from its first use to
/// its end, as the system limits their number. (It does not exist in a child made by `fork`, where
/// its use fails.)
struct Context(c_ulong);

impl Context {
    fn new() -> nix::Result<Self> {
        let mut context = 0;
        // SAFETY: the kernel writes one number to a valid place.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, 1 as c_int, &raw mut context) };
        Errno::result(made)?;
        Ok(Self(context))
    }

    fn submit(&self, eventfd: BorrowedFd<'_>) -> nix::Result<()> {
        const READ: u16 = 0;
        const NOTIFY_EVENTFD: u32 = 1;
        // An open descriptor is not negative.
        let file = eventfd.as_raw_fd().cast_unsigned();
        let request = Request {
            operation: READ,
            file,
            flags: NOTIFY_EVENTFD,
            eventfd: file,
            ..Request::default()
        };
        let requests = [&raw const request];
        // SAFETY: one pointer to a request, which the kernel copies. The request has no buffer, so
        // nothing is written later.
        let done =
            unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1 as c_long, requests.as_ptr()) };
        Errno::result(done).map(drop)
    }

    /// Removes completions, which otherwise fill the queue.
    #[cold]
    fn reap(&self) -> nix::Result<()> {
        const MOST: u8 = 128;
        let mut completions = [Completion::default(); MOST as usize];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let to = completions.as_mut_ptr();
        // SAFETY: room for as many completions as requested, and a time that is only read.
        let done = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.0,
                0 as c_long,
                c_long::from(MOST),
                to,
                &raw const now,
            )
        };
        Errno::result(done).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use std::os::fd::AsFd;

    /// An eventfd without `O_NONBLOCK`.
    fn blocking() -> EventFd {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap()
    }

    #[test]
    fn counts_are_added_and_taken() {
        let event = blocking();
        assert_eq!(take(event.as_fd()), Err(Errno::EAGAIN));
        // More than the kernel keeps completions for.
        for _ in 0..1_000 {
            notify(event.as_fd()).unwrap();
        }
        assert_eq!(take(event.as_fd()), Ok(1_000));
        assert_eq!(take(event.as_fd()), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_full_count_does_not_block() {
        let event = blocking();
        event.write(u64::MAX - 1).unwrap();
        (0..3).for_each(|_| notify(event.as_fd()).unwrap());
        assert_eq!(take(event.as_fd()), Ok(u64::MAX));
    }

    #[test]
    fn threads_lose_no_counts() {
        let event = blocking();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| notify(event.as_fd()).unwrap()));
            }
        });
        assert_eq!(take(event.as_fd()), Ok(40_000));
    }

    #[test]
    fn other_files_are_rejected() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert_eq!(notify(reader.as_fd()), Err(Errno::EINVAL));
    }
}
