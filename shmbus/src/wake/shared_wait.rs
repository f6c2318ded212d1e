//! Many threads that wait, each for a station of its own, and one inotify instance.
//!
//! Somebody has to read what the instance tells, and that is one of those who wait: it *leads*, which is to sleep in the
//! kernel and to ring the bells of the others whose file was written. Who leads and gets up while others sleep on rings the bell
//! of one of them, who leads then. So those who sleep never depend on anybody who does not: whenever somebody sleeps,
//! somebody leads or has been rung for to do so. A thread that waits alone leads and meets nobody.
//!
//! This file is compiled twice: the [`model`](super::model) runs it under every interleaving.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::FileId;
use super::sync::{Condvar, Mutex, MutexGuard, fence};
use super::watches::{Notify, SeatId, Watches};

/// How a sleep ended.
#[derive(Debug)]
pub(crate) enum Sleep {
    /// Before it began: there is something to read.
    None,
    /// By a wake-up.
    Woken,
    /// The time was over.
    Over,
    /// Before it began: the file cannot be watched.
    Unwatched(io::Error),
}

#[derive(Debug)]
struct Crew<W> {
    watches: Watches<W, Arc<Condvar>>,
    led: bool,
}

/// An instance, and those who wait with it.
#[derive(Debug)]
pub(crate) struct SharedWait<N: Notify> {
    notify: N,
    crew: Mutex<Crew<N::Watch>>,
}

/// A station's seat, for as long as it lives. One thread at a time sleeps on it.
#[derive(Debug)]
pub(crate) struct Place<N: Notify> {
    shared_wait: Arc<SharedWait<N>>,
    seat: SeatId,
    bell: Arc<Condvar>,
}

impl<N: Notify> SharedWait<N> {
    pub(crate) fn new(notify: N) -> Self {
        Self { notify, crew: Mutex::new(Crew { watches: Watches::new(), led: false }) }
    }

    fn crew(&self) -> MutexGuard<'_, Crew<N::Watch>> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Notify> Place<N> {
    pub(crate) fn new(shared_wait: Arc<SharedWait<N>>, file: FileId) -> Self {
        let bell = Arc::new(Condvar::new());
        let seat = shared_wait.crew().watches.join(file, Arc::clone(&bell));
        Self { shared_wait, seat, bell }
    }

    /// Sleeps until the file is written or the time is over. `look` is asked, when it would be noticed, whether there is
    /// something to read already.
    pub(crate) fn sleep(
        &mut self,
        file: &N::File,
        time: Duration,
        look: impl FnOnce() -> bool,
    ) -> io::Result<Sleep> {
        let notify = &self.shared_wait.notify;
        if let Err(error) = self.shared_wait.crew().watches.arm(notify, self.seat, file) {
            return Ok(Sleep::Unwatched(error));
        }
        // Pairs with the fence in a sender's wake-up: it meets our watch, or we meet its frames.
        fence(Ordering::SeqCst);
        if look() {
            self.get_up(&mut self.shared_wait.crew());
            return Ok(Sleep::None);
        }
        let begin = Instant::now();
        let mut crew = self.shared_wait.crew();
        let slept = loop {
            if !crew.watches.is_armed(self.seat) {
                break Ok(Sleep::Woken);
            }
            let left = time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break Ok(Sleep::Over);
            }
            if crew.led {
                crew = match self.bell.wait_timeout(crew, left) {
                    Ok((crew, _)) => crew,
                    Err(poisoned) => poisoned.into_inner().0,
                };
                continue;
            }
            crew.led = true;
            drop(crew);
            let slept = notify.sleep(left);
            crew = self.shared_wait.crew();
            crew.led = false;
            crew.watches.told(notify, |bell| bell.notify_one());
            if let Err(error) = slept {
                break Err(error);
            }
        };
        self.get_up(&mut crew);
        slept
    }

    /// Sleeps no longer, and sees to it that somebody leads those who do.
    fn get_up(&self, crew: &mut Crew<N::Watch>) {
        crew.watches.disarm(&self.shared_wait.notify, self.seat);
        if !crew.led
            && let Some(bell) = crew.watches.any_armed()
        {
            bell.notify_one();
        }
    }
}

impl<N: Notify> Drop for Place<N> {
    fn drop(&mut self) {
        self.shared_wait.crew().watches.leave(&self.shared_wait.notify, self.seat);
    }
}
