//! What the thread that looks after connections tells a port: its link has come or gone.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use memif::Link;

use crate::wake_fd::WakeFd;

/// What became of a port's link.
pub enum Change {
    /// There is a peer.
    Up(Link),
    /// It is gone.
    Down,
}

/// Changes, oldest first. Asking an empty one costs a load.
pub(super) struct Mailbox {
    changes: Mutex<VecDeque<Change>>,
    /// Whether there may be some.
    mail: AtomicBool,
    bell: WakeFd,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { changes: Mutex::default(), mail: AtomicBool::new(false), bell: WakeFd::new()? })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Change>> {
        // A panic elsewhere leaves nothing half done in it.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn post(&self, change: Change) {
        let mut changes = self.lock();
        changes.push_back(change);
        // Relaxed: the change itself is found under the lock. Who misses the flag is told by the bell.
        self.mail.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Whether it is worth taking.
    pub(super) fn has_mail(&self) -> bool {
        self.mail.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Option<Change> {
        if !self.has_mail() {
            return None;
        }
        let mut changes = self.lock();
        let change = changes.pop_front();
        if changes.is_empty() {
            // Under the lock, so that nothing is posted between the look and this.
            self.mail.store(false, Ordering::Relaxed);
            self.bell.drain();
        }
        change
    }
}

/// Readable while there is something to take.
impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
