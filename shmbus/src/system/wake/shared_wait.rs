//! Leader/follower: many threads wait, each for a station of its own, on one inotify instance.
//!
//! One waiting thread is the *leader*: it sleeps in the kernel, reads the events, and wakes the
//! followers whose file was written. A leader that stops waiting wakes a follower, which becomes
//! the leader. So a thread that sleeps never depends on one that does not wait: while any thread
//! sleeps, one of them leads or has been woken to do so. A thread that waits alone leads and meets
//! no other.
//!
//! This file is compiled twice: the [`model`](super::model) runs it under every interleaving.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::sync::{Condvar, Mutex, MutexGuard, fence};
use super::watch_table::{FileId, Notify, WaiterId, WatchTable};

/// How a sleep ended.
#[derive(Debug)]
pub(crate) enum Sleep {
    /// Before it began: there is something to read.
    NotNeeded,
    /// By a wake-up.
    Woken,
    /// The time was over.
    TimedOut,
    /// Before it began: the file cannot be watched.
    Unwatched(io::Error),
}

#[derive(Debug)]
struct State<W> {
    table: WatchTable<W, Arc<Condvar>>,
    has_leader: bool,
}

/// An instance, and the stations that wait on it.
#[derive(Debug)]
pub(crate) struct SharedWait<N: Notify> {
    notify: N,
    state: Mutex<State<N::Watch>>,
}

/// A station's place in a shared wait, for as long as it lives. One thread at a time sleeps in it.
#[derive(Debug)]
pub(crate) struct SharedWaiter<N: Notify> {
    shared_wait: Arc<SharedWait<N>>,
    id: WaiterId,
    condvar: Arc<Condvar>,
}

impl<N: Notify> SharedWait<N> {
    pub(crate) fn new(notify: N) -> Self {
        Self { notify, state: Mutex::new(State { table: WatchTable::new(), has_leader: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State<N::Watch>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Notify> SharedWaiter<N> {
    pub(crate) fn new(shared_wait: Arc<SharedWait<N>>, file: FileId) -> Self {
        let condvar = Arc::new(Condvar::new());
        let id = shared_wait.state().table.join(file, Arc::clone(&condvar));
        Self { shared_wait, id, condvar }
    }

    /// Sleeps until the file is written or `time` is over. `is_ready` is asked, once a write would
    /// be noticed, whether there is something to read already.
    pub(crate) fn sleep(
        &mut self,
        file: &N::File,
        time: Duration,
        is_ready: impl FnOnce() -> bool,
    ) -> io::Result<Sleep> {
        let notify = &self.shared_wait.notify;
        if let Err(error) = self.shared_wait.state().table.arm(notify, self.id, file) {
            return Ok(Sleep::Unwatched(error));
        }
        // SeqCst: pairs with the fence in a sender's wake-up. It meets our watch, or we meet its
        // frames.
        fence(Ordering::SeqCst);
        if is_ready() {
            self.stop_waiting(&mut self.shared_wait.state());
            return Ok(Sleep::NotNeeded);
        }
        let begin = Instant::now();
        let mut state = self.shared_wait.state();
        let slept = loop {
            if !state.table.is_armed(self.id) {
                break Ok(Sleep::Woken);
            }
            let left = time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break Ok(Sleep::TimedOut);
            }
            if state.has_leader {
                state = match self.condvar.wait_timeout(state, left) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                };
                continue;
            }
            state.has_leader = true;
            drop(state);
            let slept = notify.sleep(left);
            state = self.shared_wait.state();
            state.has_leader = false;
            state.table.dispatch(notify, |condvar| condvar.notify_one());
            if let Err(error) = slept {
                break Err(error);
            }
        };
        self.stop_waiting(&mut state);
        slept
    }

    /// Disarms this waiter, and wakes another to lead if the rest have no leader.
    fn stop_waiting(&self, state: &mut State<N::Watch>) {
        state.table.disarm(&self.shared_wait.notify, self.id);
        if !state.has_leader
            && let Some(condvar) = state.table.any_armed()
        {
            condvar.notify_one();
        }
    }
}

impl<N: Notify> Drop for SharedWaiter<N> {
    fn drop(&mut self) {
        self.shared_wait.state().table.leave(&self.shared_wait.notify, self.id);
    }
}
