//! Sleeping until somebody sends, and waking those who sleep.
//!
//! A sender writes the bus's version number, through the file and not through the mapping. Those who sleep watch the file
//! with inotify. This is the rump kernels' way. A watch makes every wake-up dearer for the sender, so one is held
//! only while its owner sleeps:
//!
//! 1. add the watch;
//! 2. look at the ring again: a sender that committed before 1 did not wake us, but its frames are there to be seen;
//! 3. sleep;
//! 4. remove the watch.
//!
//! A sender may die between its commit and its wake-up. So nobody sleeps longer than [`SLEEP_BOUND`] without a look.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::format::{Field32, VERSION};

/// The longest anybody should sleep without looking at the bus: a sender that dies between putting frames there and
/// waking the others leaves the frames to be found.
pub const SLEEP_BOUND: Duration = Duration::from_millis(100);

/// Wakes everybody who sleeps on the bus.
pub(crate) fn wake(file: &File) -> io::Result<()> {
    file.write_all_at(&VERSION.to_ne_bytes(), Field32::Version as u64)
}

/// A sleeper's watch on the bus file.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Inotify,
    armed: Option<WatchDescriptor>,
}

impl Watch {
    /// Makes an inotify instance; nothing is watched yet.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { inotify: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?, armed: None })
    }

    /// Watches the file from now on. The caller must look at the ring after this and before it sleeps.
    pub(crate) fn arm(&mut self, file: &File) -> io::Result<()> {
        if self.armed.is_none() {
            // The file itself, whatever became of its name.
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            self.armed = Some(self.inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY)?);
        }
        Ok(())
    }

    /// Watches no longer, and forgets what was seen.
    pub(crate) fn disarm(&mut self) {
        if let Some(watch) = self.armed.take() {
            // It fails when the file is gone, and then the watch is too.
            let _ = self.inotify.rm_watch(watch);
            self.drain();
        }
    }

    /// Forgets what was seen, so that the descriptor is not readable any more.
    pub(crate) fn drain(&self) {
        // It ends with EAGAIN when there is nothing left; any other error would repeat as well.
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }

    /// Sleeps until the file is written or the time is over; `true` for the first.
    pub(crate) fn sleep(&self, timeout: Duration) -> io::Result<bool> {
        // Rounded up: a sleep of 0 ms would be none.
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
