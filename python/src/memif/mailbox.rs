//! How the thread that serves a connection hands over its link, or takes it away.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::memif::Link;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A change of the link.
pub(super) enum Change {
    /// A peer has connected.
    Up(Link),
    /// The peer has gone.
    Down,
}

/// The latest change, and why there is no peer.
pub(super) struct Mailbox {
    state: Mutex<State>,
    /// Readable while there is a change to take.
    wake_fd: EventFd,
}

#[derive(Default)]
struct State {
    change: Option<Change>,
    /// `None` while there is a peer.
    why_down: Option<String>,
    /// Why the thread has ended by itself.
    failure: Option<String>,
    is_stopped: bool,
}

impl Mailbox {
    /// Makes a mailbox of an interface without a peer.
    pub(super) fn new() -> nix::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let why_down = Some("no peer has connected yet".to_owned());
        let state = Mutex::new(State { why_down, ..State::default() });
        Ok(Self { state, wake_fd: EventFd::from_value_and_flags(0, flags)? })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, state: &mut State, change: Change) {
        // A link that was never taken is dropped: its queues are of no use any more.
        state.change = Some(change);
        // A counter that is full is readable, too.
        let _ = self.wake_fd.write(1);
    }

    /// A peer has connected.
    pub(super) fn up(&self, link: Link) {
        let state = &mut *self.lock();
        state.why_down = None;
        self.post(state, Change::Up(link));
    }

    /// The peer has gone.
    pub(super) fn down(&self, reason: String) {
        let state = &mut *self.lock();
        state.why_down = Some(reason);
        self.post(state, Change::Down);
    }

    /// A link did not come up. That says nothing where there is a peer: another one was refused.
    pub(super) fn rejected(&self, reason: String) {
        let state = &mut *self.lock();
        if state.why_down.is_some() {
            state.why_down = Some(reason);
        }
    }

    /// The thread ends, and no peer can connect any more.
    pub(super) fn fail(&self, reason: String) {
        let state = &mut *self.lock();
        state.failure = Some(reason.clone());
        state.why_down = Some(reason);
        self.post(state, Change::Down);
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
    }

    /// Whether the thread is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Takes the latest change.
    pub(super) fn take(&self) -> Option<Change> {
        let state = &mut *self.lock();
        let change = state.change.take();
        if change.is_some() {
            // Under the lock, so that no change comes between the two.
            let _ = self.wake_fd.read();
        }
        change
    }

    /// Why there is no peer; `None` while there is one.
    pub(super) fn why_down(&self) -> Option<String> {
        self.lock().why_down.clone()
    }

    /// Why the thread has ended by itself, if it has.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_fd.as_fd()
    }
}
