//! Reading and writing an eventfd that a hostile process shares, without ever waiting for that process.
//!
//! Whether reading or writing an eventfd waits is said by a flag (`O_NONBLOCK`) of the open file, which whoever shares it can
//! clear between any two system calls of ours; and whether there is anything to wait for is the peer's to arrange, too. So
//! what is used here are calls that do not ask the flag.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long, c_ulong};

/// How often to make room among the completions before giving up: other threads may take it again.
const ATTEMPTS: usize = 16;

/// What the count was, which is 0 from now on.
///
/// # Errors
/// `EAGAIN` when it was 0 already; `EOPNOTSUPP` and others from a kernel that cannot do this.
pub(crate) fn take(eventfd: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut count = 0u64;
    let to = libc::iovec { iov_base: ptr::from_mut(&mut count).cast(), iov_len: size_of::<u64>() };
    // At the file's own position, as `read` does; it has none.
    let at = -1;
    // SAFETY: one buffer, which is valid for writing of as many bytes as it says, and any bytes are a number.
    let read = unsafe { libc::preadv2(eventfd.as_raw_fd(), &raw const to, 1, at, libc::RWF_NOWAIT) };
    Errno::result(read)?;
    Ok(count)
}

/// Adds 1 to the count, up to its highest value, as the kernel's own drivers do: through asynchronous I/O, which reports each
/// completed request to an eventfd. The request here is to read nothing from the eventfd, which fails at once and so is
/// complete.
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

/// A request as the kernel takes it (`struct iocb` of `linux/aio_abi.h`).
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    /// The key and flags for reading, in an order that depends on the machine. Both are 0.
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

/// What became of a request (`struct io_event`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Completion {
    data: u64,
    request: u64,
    result: [i64; 2],
}

/// A queue of requests and completions in the kernel. One serves the whole process, from its first use to its end: the system
/// has few of them. (In a child process made by `fork` it does not exist, and its use fails.)
struct Context(c_ulong);

impl Context {
    fn new() -> nix::Result<Self> {
        let mut context = 0;
        // SAFETY: the kernel writes a number where it may.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, 1 as c_int, &raw mut context) };
        Errno::result(made)?;
        Ok(Self(context))
    }

    fn submit(&self, eventfd: BorrowedFd<'_>) -> nix::Result<()> {
        const READ: u16 = 0;
        const TELL_EVENTFD: u32 = 1;
        // An open descriptor is not negative.
        let file = eventfd.as_raw_fd().cast_unsigned();
        let request =
            Request { operation: READ, file, flags: TELL_EVENTFD, eventfd: file, ..Request::default() };
        let requests = [&raw const request];
        // SAFETY: one pointer to a request, which the kernel copies. It has no buffer, so nothing is written later.
        let done = unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1 as c_long, requests.as_ptr()) };
        Errno::result(done).map(drop)
    }

    /// Takes in completions, which otherwise would keep their places.
    #[cold]
    fn reap(&self) -> nix::Result<()> {
        const MOST: u8 = 128;
        let mut completions = [Completion::default(); MOST as usize];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let to = completions.as_mut_ptr();
        // SAFETY: room for as many completions as are asked for, and a time that is only read.
        let done = unsafe {
            libc::syscall(libc::SYS_io_getevents, self.0, 0 as c_long, c_long::from(MOST), to, &raw const now)
        };
        Errno::result(done).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use std::os::fd::AsFd;

    /// Calls that would wait, if the flag were asked.
    fn waiting() -> EventFd {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap()
    }

    #[test]
    fn counts_are_made_and_taken() {
        let event = waiting();
        assert_eq!(take(event.as_fd()), Err(Errno::EAGAIN));
        // More than the kernel keeps completions for.
        for _ in 0..1_000 {
            notify(event.as_fd()).unwrap();
        }
        assert_eq!(take(event.as_fd()), Ok(1_000));
        assert_eq!(take(event.as_fd()), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_full_count_does_not_hold_anybody_up() {
        let event = waiting();
        event.write(u64::MAX - 1).unwrap();
        (0..3).for_each(|_| notify(event.as_fd()).unwrap());
        assert_eq!(take(event.as_fd()), Ok(u64::MAX));
    }

    #[test]
    fn threads_do_not_get_into_each_others_way() {
        let event = waiting();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| notify(event.as_fd()).unwrap()));
            }
        });
        assert_eq!(take(event.as_fd()), Ok(40_000));
    }

    #[test]
    fn what_is_no_eventfd_is_left_alone() {
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        assert_eq!(notify(reader.as_fd()), Err(Errno::EINVAL));
    }
}
