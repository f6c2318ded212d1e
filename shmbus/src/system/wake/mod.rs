//! Sleeping until a station sends, and waking those that sleep.
//!
//! A sender writes the bus's version number, through the file and not through the mapping. A
//! station that sleeps watches the file with inotify. This is the rump kernels' way. A watch makes
//! every wake-up dearer for the sender, so there is one only while a station sleeps:
//!
//! 1. add the watch;
//! 2. look at the ring again: a sender that committed before step 1 sends no event, but its frames
//!    are on the ring;
//! 3. sleep.
//!
//! The watch ends with the first wake-up, or is removed when the station stops waiting before that.
//! A full fence between 1 and 2, and another between a sender's commit and its wake-up, make sure
//! that the sender meets the watch or the sleeper meets the frames, whatever the kernel does or
//! does not order.
//!
//! A sender may die between its commit and its wake-up. So no station sleeps longer than
//! [`MAX_SLEEP`] without a look.
//!
//! Users may have few inotify instances, often 128, and an instance watches a file only once. So
//! the stations of a process share: those that one thread serves have a
//! [`WaitSet`](wait_set::WaitSet), those that wait each in a thread of its own a [`shared_wait`].
//! Both rest on the [`watch_table`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::format::{Field32, VERSION};

pub(crate) mod busy_poll;
pub(crate) mod inotify;
#[cfg(test)]
mod model;
pub(crate) mod shared_wait;
pub(crate) mod wait_set;
pub(crate) mod watch_table;

/// What the threads of a shared wait meet at; the model has its own.
mod sync {
    pub(super) use std::sync::atomic::fence;
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

/// The longest time to sleep without looking at the bus, 100 ms. A sender that dies between its
/// commit and its wake-up leaves frames that its neighbours find by themselves within this time.
pub const MAX_SLEEP: Duration = Duration::from_millis(100);

/// The pause between two looks of a station that no event can wake.
pub(crate) const POLL_PAUSE: Duration = Duration::from_millis(1);

/// Wakes every station that sleeps on the bus.
pub(crate) fn wake(file: &File) -> io::Result<()> {
    // SeqCst: pairs with the fence of a sleeper that has just added its watch.
    fence(Ordering::SeqCst);
    file.write_all_at(&VERSION.to_ne_bytes(), Field32::Version as u64)
}
