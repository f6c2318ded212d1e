//! Requests to stop: `^C`, `SIGTERM` and `SIGHUP` end a verb in good order instead of killing it.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use super::die_with_parent;

/// The longest wait, which a caller may begin again.
const LONGEST: Duration = Duration::from_secs(1 << 20);

/// Signals that come within this time are one request.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// Becomes true, and its descriptor readable, when the process is asked to stop.
///
/// A second request kills, so that a verb that hangs on its way out can still be ended by hand.
/// Signals within 300 ms are one request: `timeout` signals a process, and then its process group.
/// A process that ends with its parent is never killed by a second request: when the parent dies,
/// the kernel may signal once for each of the parent's threads.
#[derive(Debug)]
pub(crate) struct Shutdown {
    asked: Arc<AtomicBool>,
    wake: UnixStream,
}

impl Shutdown {
    /// Makes the signals requests from now on.
    ///
    /// # Errors
    /// When no descriptor or thread is available.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let kill_next = Arc::new(AtomicBool::new(false));
        let (wake, waker) = UnixStream::pair()?;
        let (mut first, first_waker) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if !die_with_parent::is_armed() {
                signal_hook::flag::register_conditional_default(signal, Arc::clone(&kill_next))?;
            }
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
            pipe::register(signal, waker.try_clone()?)?;
            pipe::register(signal, first_waker.try_clone()?)?;
        }
        thread::Builder::new().name("stop".to_owned()).spawn(move || {
            if first.read_exact(&mut [0]).is_ok() {
                thread::sleep(SAME_REQUEST);
                kill_next.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Self { asked, wake })
    }

    /// Returns whether the process was asked to stop.
    #[must_use]
    pub(crate) fn requested(&self) -> bool {
        // Relaxed: the flag orders nothing.
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns the flag, for threads that must not outlast a request.
    #[must_use]
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// Sleeps for `time`, or until a request; returns `true` when there was one.
    #[must_use]
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        self.wait([], Some(time))
    }

    /// Sleeps until one of `others` polls readable, `time` is over, or there is a request; returns
    /// `true` for a request.
    #[must_use]
    pub(crate) fn wait<'fd>(
        &'fd self,
        others: impl IntoIterator<Item = BorrowedFd<'fd>>,
        time: Option<Duration>,
    ) -> bool {
        let timeout = time.map(|time| TimeSpec::from_duration(time.min(LONGEST)));
        let watch = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
        let mut descriptors: Vec<_> = others.into_iter().map(watch).collect();
        descriptors.push(watch(self.wake.as_fd()));
        // The flag counts, whether poll was interrupted or not.
        let _ = ppoll(&mut descriptors, timeout, None);
        self.requested()
    }
}

impl AsFd for Shutdown {
    /// Polls readable when the process was asked to stop.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
