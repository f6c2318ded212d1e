//! The inotify instances of this process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::shared_wait::SharedWait;
use super::watch_table::Notify;

/// A read returns as many events as there are, up to some hundreds. After fewer than this there are
/// no more, and another read is not needed.
const FEW: usize = 16;

/// The most inotify instances for the stations of a process that wait each in a thread of its own.
/// One would do; but when two threads share an instance, the one that stops waiting has to wake the
/// other, and a few threads need not.
const MAX_SHARED_WAITS: usize = 4;

/// An inotify instance, or the reason why there is none.
#[derive(Debug)]
pub(crate) struct Instance(Result<Inotify, Errno>);

impl Instance {
    pub(crate) fn new() -> Self {
        Self(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC))
    }

    /// None yet: everything fails as where none is available.
    pub(crate) fn unmade() -> Self {
        Self(Err(Errno::ENOENT))
    }

    pub(crate) fn is_made(&self) -> bool {
        self.0.is_ok()
    }

    /// Why there is no instance, if there is none.
    pub(crate) fn error(&self) -> Option<io::Error> {
        self.0.as_ref().err().map(|errno| (*errno).into())
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().ok().map(Inotify::as_fd)
    }
}

impl Notify for Instance {
    type File = File;
    type Watch = WatchDescriptor;

    fn watch(&self, file: &File) -> io::Result<WatchDescriptor> {
        let inotify = self.0.as_ref().map_err(|errno| *errno)?;
        // The file itself, whatever became of its name.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // Of many wake-ups the first is enough, and the others find no watch that would make them
        // dear.
        Ok(inotify
            .add_watch(path.as_str(), AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT)?)
    }

    fn unwatch(&self, watch: WatchDescriptor) {
        if let Ok(inotify) = &self.0 {
            // It fails when the watch has ended already.
            let _ = inotify.rm_watch(watch);
        }
    }

    fn drain(&self, each: &mut dyn FnMut(Option<WatchDescriptor>)) {
        let Ok(inotify) = &self.0 else { return };
        // EAGAIN says that there is nothing; any other error would repeat as well.
        while let Ok(events) = inotify.read_events() {
            let few = events.len() < FEW;
            for event in events {
                each((!event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)).then_some(event.wd));
            }
            if few {
                break;
            }
        }
    }

    fn sleep(&self, time: Duration) -> io::Result<()> {
        poll_readable(self.descriptor(), time)
    }
}

/// Sleeps until the descriptor is readable, if there is one, for `time` at most. It may end early.
pub(super) fn poll_readable(descriptor: Option<BorrowedFd<'_>>, time: Duration) -> io::Result<()> {
    // Rounded up: a sleep of 0 ms would be none.
    let millis = time.as_nanos().div_ceil(1_000_000);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    let mut fds: Vec<_> =
        descriptor.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns a shared wait for one more station of this process: a new one for the first few, then
/// the one with the fewest stations. It lasts as long as it has stations.
pub(crate) fn process_shared_wait() -> io::Result<Arc<SharedWait<Instance>>> {
    static SHARED_WAITS: Mutex<Vec<Weak<SharedWait<Instance>>>> = Mutex::new(Vec::new());
    let mut shared_waits = SHARED_WAITS.lock().unwrap_or_else(PoisonError::into_inner);
    shared_waits.retain(|shared_wait| shared_wait.strong_count() > 0);
    let fewest = shared_waits
        .iter()
        .min_by_key(|shared_wait| shared_wait.strong_count())
        .and_then(Weak::upgrade);
    if let Some(shared_wait) = &fewest
        && shared_waits.len() >= MAX_SHARED_WAITS
    {
        return Ok(Arc::clone(shared_wait));
    }
    let instance = Instance::new();
    if let Some(error) = instance.error() {
        return fewest.ok_or(error);
    }
    let shared_wait = Arc::new(SharedWait::new(instance));
    shared_waits.push(Arc::downgrade(&shared_wait));
    Ok(shared_wait)
}

/// Logs once that files, inotify instances or watches ran out, and what happens instead.
pub(crate) fn report_once(error: &io::Error) {
    static REPORTED: Once = Once::new();
    REPORTED.call_once(|| {
        tracing::warn!(%error, "no inotify watch is available: sleeping stations look every millisecond instead");
    });
}
