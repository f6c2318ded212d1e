//! Being asked to stop: `^C`, `SIGTERM` and `SIGHUP` end a verb in good order instead of killing it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Becomes true, and its descriptor readable, when the process is asked to stop.
///
/// The second request kills: a verb that hangs on its way out can still be ended by hand.
#[derive(Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    wake: UnixStream,
}

impl Stop {
    /// From now on the signals are requests.
    ///
    /// # Errors
    /// When no descriptor is to be had.
    pub fn on_signals() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let (wake, waker) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first request finds the flag still down, the second finds it up.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&asked))?;
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
            pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Self { asked, wake })
    }

    /// Whether the process was asked to stop.
    #[must_use]
    pub fn requested(&self) -> bool {
        // Relaxed: the flag orders nothing.
        self.asked.load(Ordering::Relaxed)
    }

    /// Sleeps, but not past a request; `true` when there was one.
    #[must_use]
    pub fn sleep(&self, time: Duration) -> bool {
        let millis = time.as_nanos().div_ceil(1_000_000);
        let mut fds = [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not: the flag tells.
        let _ = poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
        self.requested()
    }
}

impl AsFd for Stop {
    /// To be polled for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
