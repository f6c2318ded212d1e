//! Sleeping until a station sends, and waking those that sleep.
//!
//! There are two ways.
//!
//! **The table of sleepers** ([`crate::mechanism::sleepers`]) says who sleeps and for which frames.
//! A sender rings the [doorbells](doorbell) of those that its burst is for, and of no others. The
//! doorbells lie in a hidden [folder](folder) beside the bus. This is the usual way.
//!
//! **The bus file.** A sender writes the bus's version number, through the file and not through the
//! mapping, and all that watch the file with inotify wake up. This is the rump kernels' way. Read-
//! only taps sleep so, and stations that find no place beside the bus. On a bus that rump kernels
//! may share every sender writes the file; one station at a time, the *listener*, watches it while
//! it sleeps, and announces the frames of rump kernels to the others. On a bus of our own format
//! those that sleep on the file hold a lock that says so ([`crate::system::liveness`]), and senders
//! write it only then.
//!
//! A watch makes every write dearer for the sender, so there is one only while its owner sleeps:
//!
//! 1. add the watch;
//! 2. look at the ring again: a sender that committed before step 1 sends no event, but its frames
//!    are on the ring;
//! 3. sleep.
//!
//! The watch ends with the first write, or is removed when the station stops waiting before that. A
//! full fence between 1 and 2, and another between a sender's commit and its write, make sure that
//! the sender meets the watch or the sleeper meets the frames, whatever the kernel does or does not
//! order.
//!
//! A sender may die between its commit and its wake-up. So no station sleeps longer than
//! [`MAX_SLEEP`] without a look.
//!
//! The stations that one thread serves have a [`WaitSet`](wait_set::WaitSet). A station that waits
//! in a thread of its own has one for itself, or shares one of a few inotify instances
//! ([`shared_wait`]): users may have few, often 128, and an instance watches a file only once. The
//! [`watch_table`] says who sleeps on which file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::format::{Field32, VERSION};

pub(crate) mod busy_poll;
mod doorbell;
mod folder;
pub(crate) mod inotify;
#[cfg(test)]
mod model;
pub(crate) mod registration;
pub(crate) mod shared_wait;
pub(crate) mod sleeper;
pub(crate) mod wait_set;
pub(crate) mod waking;
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

/// Wakes every station that sleeps on the bus file itself.
pub(crate) fn write_file(file: &File) -> io::Result<()> {
    // SeqCst: pairs with the fence of a sleeper that has just added its watch.
    fence(Ordering::SeqCst);
    file.write_all_at(&VERSION.to_ne_bytes(), Field32::Version as u64)
}
