//! Sleeping until somebody sends, and waking those who sleep.
//!
//! A sender writes the bus's version number, through the file and not through the mapping. Those who sleep watch the file
//! with inotify. This is the rump kernels' way. A watch makes every wake-up dearer for the sender, so there is one only
//! while somebody sleeps:
//!
//! 1. add the watch;
//! 2. look at the ring again: a sender that committed before 1 did not wake us, but its frames are there to be seen;
//! 3. sleep.
//!
//! The watch ends with the first wake-up, or is removed by who gets up before. A full fence between 1 and 2, and another between
//! a sender's commit and its wake-up, make sure that the sender meets the watch or the wait set meets the frames, whatever the
//! kernel does or does not order.
//!
//! A sender may die between its commit and its wake-up. So nobody sleeps longer than [`MAX_SLEEP`] without a look.
//!
//! Users may have few inotify instances, often 128, and an instance watches a file only once. So the stations of a process
//! share: those that one thread serves have a [`WaitSet`](wait_set::WaitSet), those that wait each in a thread of its own
//! a [`shared_wait`]. Both rest on [`watches`].

pub(crate) mod busy_poll;
#[cfg(test)]
mod model;
pub(crate) mod shared_wait;
pub(crate) mod wait_set;
mod watches;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use self::shared_wait::SharedWait;
use self::watches::Notify;
use crate::format::{Field32, VERSION};

/// What the shared wait's threads meet at; the model has its own.
mod sync {
    pub(super) use std::sync::atomic::fence;
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

/// The longest anybody should sleep without looking at the bus: a sender that dies between putting frames there and
/// waking the others leaves the frames to be found.
pub const MAX_SLEEP: Duration = Duration::from_millis(100);

/// The pause between two looks of a wait set that cannot be woken.
pub(crate) const NAP: Duration = Duration::from_millis(1);

/// A read takes as many events as there are, up to some hundreds. After so few there are no more, and need not be asked for.
const FEW: usize = 16;

/// How many inotify instances there are at most for the stations of a process that wait each in its thread. One would do; but
/// a thread that gets up while another sleeps on has to wake that one first, if both share one, and few threads need not.
const LOOKOUTS_MAX: usize = 4;

/// Wakes everybody who sleeps on the bus.
pub(crate) fn wake(file: &File) -> io::Result<()> {
    // Pairs with the fence of those who have just added their watch.
    fence(Ordering::SeqCst);
    file.write_all_at(&VERSION.to_ne_bytes(), Field32::Version as u64)
}

/// Tells open files apart: two that are the same have one watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// An inotify instance, or the want of one.
#[derive(Debug)]
pub(crate) struct Instance(Result<Inotify, Errno>);

impl Instance {
    fn new() -> Self {
        Self(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
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
        // Of many wake-ups the first is enough, and the others find no watch that would make them dear.
        Ok(inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT)?)
    }

    fn unwatch(&self, watch: WatchDescriptor) {
        if let Ok(inotify) = &self.0 {
            // It fails when the watch has ended already.
            let _ = inotify.rm_watch(watch);
        }
    }

    fn told(&self, each: &mut dyn FnMut(Option<WatchDescriptor>)) {
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
        // Rounded up: a sleep of 0 ms would be none.
        let millis = time.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut fds: Vec<_> =
            self.descriptor().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A shared wait for one more station of this process: one of its own for the first few, then the one with the fewest. It lasts as
/// long as it has stations.
pub(crate) fn process_lookout() -> io::Result<Arc<SharedWait<Instance>>> {
    static LOOKOUTS: Mutex<Vec<Weak<SharedWait<Instance>>>> = Mutex::new(Vec::new());
    let mut lookouts = LOOKOUTS.lock().unwrap_or_else(PoisonError::into_inner);
    lookouts.retain(|shared_wait| shared_wait.strong_count() > 0);
    let fewest = lookouts.iter().min_by_key(|shared_wait| shared_wait.strong_count()).and_then(Weak::upgrade);
    if let Some(shared_wait) = &fewest
        && lookouts.len() >= LOOKOUTS_MAX
    {
        return Ok(Arc::clone(shared_wait));
    }
    let instance = Instance::new();
    if let Err(errno) = instance.0 {
        return fewest.ok_or_else(|| errno.into());
    }
    let shared_wait = Arc::new(SharedWait::new(instance));
    lookouts.push(Arc::downgrade(&shared_wait));
    Ok(shared_wait)
}

/// Says once that there are too many files, inotify instances or watches, and that another way has to do.
pub(crate) fn warn_once(error: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(%error, "no inotify watch is to be had: sleeping stations look every millisecond instead");
    });
}
