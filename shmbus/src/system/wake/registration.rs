//! A station's or tap's membership in a wait set, for as long as it lives.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inotify;
use super::sleeper::Sleeper;
use super::wait_set::{MemberId, Shared, WaitSet};
use super::waking;
use super::watch_table::FileId;
use crate::mechanism::sleepers::table::Awake;

/// A membership. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Registration {
    shared: Arc<Shared>,
    id: MemberId,
    /// It is the only member: the wait set is its own.
    exclusive: bool,
    file: FileId,
    token: usize,
    has_slot: bool,
}

impl Registration {
    /// Registers in a wait set that may have other members.
    pub(crate) fn shared(
        wait_set: &WaitSet,
        file: FileId,
        token: usize,
        sleeper: Option<&Arc<Sleeper>>,
    ) -> Self {
        Self::new(Arc::clone(wait_set.shared()), file, token, sleeper, false)
    }

    /// Registers in a wait set of its own.
    pub(crate) fn exclusive(file: FileId, sleeper: Option<&Arc<Sleeper>>) -> Self {
        Self::new(Shared::new(), file, 0, sleeper, true)
    }

    fn new(
        shared: Arc<Shared>,
        file: FileId,
        token: usize,
        sleeper: Option<&Arc<Sleeper>>,
        exclusive: bool,
    ) -> Self {
        let id = shared.join(file, token, sleeper.cloned());
        Self { shared, id, exclusive, file, token, has_slot: sleeper.is_some() }
    }

    /// Whether the table of sleepers wakes it. Otherwise it sleeps on the bus file itself.
    pub(crate) fn has_slot(&self) -> bool {
        self.has_slot
    }

    /// It looks often until then, because senders may not know that it sleeps on the bus file.
    pub(crate) fn set_unnoticed(&self, until: Instant) {
        self.shared.set_unnoticed(until);
    }

    /// Whether it is armed, and was not woken since.
    pub(crate) fn is_armed(&self) -> bool {
        self.shared.is_armed(self.id)
    }

    /// Whether it is the only member of its wait set, and has a slot in the table of sleepers.
    pub(crate) fn is_woken_alone(&self) -> bool {
        self.exclusive && self.has_slot
    }

    /// The member is woken from now on. The caller must look at the ring after this and before it
    /// sleeps.
    pub(crate) fn arm(&mut self, file: &File) -> io::Result<()> {
        if self.has_slot {
            match self.shared.arm(self.id, file) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // It sleeps on the bus file itself from now on.
                    waking::report_once(&error);
                    self.shared.leave(self.id);
                    self.id = self.shared.join(self.file, self.token, None);
                    self.has_slot = false;
                }
            }
        }
        match self.shared.arm(self.id, file) {
            Err(error) if !self.exclusive => {
                inotify::report_once(&error);
                self.shared.arm_unwatched(self.id);
                Ok(())
            }
            armed => armed,
        }
    }

    /// Ends the sleep. `None`: it was one on the bus file itself.
    pub(crate) fn disarm(&self) -> Option<Awake> {
        if self.exclusive { self.shared.disarm_only(self.id) } else { self.shared.disarm(self.id) }
    }

    /// Sleeps, armed, for `time` at most; returns whether it was woken. Only for an exclusive one.
    pub(crate) fn sleep(&self, time: Duration) -> io::Result<bool> {
        let begin = Instant::now();
        loop {
            let (woken, by_look) = self.shared.ready();
            if !woken.is_empty() {
                return Ok(!by_look);
            }
            let left = time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            self.shared.sleep(left.min(self.shared.timeout()))?;
        }
    }

    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.shared.descriptor()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.leave(self.id);
    }
}
