//! How the thread that serves connections hands a port its link, or takes it away.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memif::Link;

use crate::wake_fd::WakeFd;

/// A change of an interface's link.
#[derive(Debug)]
pub enum Change {
    /// A peer has connected.
    Up(Link),
    /// The peer has gone.
    Down,
}

/// Changes, oldest first. Asking an empty mailbox costs one load.
#[derive(Debug)]
pub(super) struct Mailbox {
    changes: Mutex<VecDeque<Change>>,
    /// Whether there may be some.
    mail: AtomicBool,
    wake_fd: WakeFd,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            changes: Mutex::default(),
            mail: AtomicBool::new(false),
            wake_fd: WakeFd::new()?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Change>> {
        // A panic elsewhere leaves nothing half done in it.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn post(&self, change: Change) {
        let mut changes = self.lock();
        changes.push_back(change);
        // Relaxed: the change itself is found under the lock. A reader that misses the flag is
        // woken by the descriptor.
        self.mail.store(true, Ordering::Relaxed);
        self.wake_fd.wake();
    }

    /// Returns whether it is worth taking.
    pub(super) fn has_mail(&self) -> bool {
        // Relaxed: see where it is set.
        self.mail.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Option<Change> {
        if !self.has_mail() {
            return None;
        }
        let mut changes = self.lock();
        let change = changes.pop_front();
        if changes.is_empty() {
            // Under the lock, so that nothing is posted between the check and this.
            self.mail.store(false, Ordering::Relaxed);
            self.wake_fd.drain();
        }
        change
    }
}

/// Readable while there is something to take.
impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_fd.as_fd()
    }
}
