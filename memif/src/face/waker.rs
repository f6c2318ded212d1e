//! Ending a `wait` from elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::system::event_fd::EventFd;

/// Ends the waiting of a [`Server`](crate::Server) or [`Client`](crate::Client), from any thread. Clones do the same.
///
/// ```
/// use memif::{Server, SocketAddr};
/// let mut server = Server::bind(&SocketAddr::abstract_name(format!("memif-cancel-{}", std::process::id()))?)?;
/// let canceller = server.canceller();
/// std::thread::spawn(move || canceller.cancel());
/// assert!(server.wait(None)?.is_none(), "no event came");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Waker {
    asked: Arc<AtomicBool>,
    wake: Arc<EventFd>,
}

impl Waker {
    pub(crate) fn new(wake: &Arc<EventFd>) -> Self {
        Self { asked: Arc::default(), wake: Arc::clone(wake) }
    }

    /// Makes the endpoint's `wait` return `None`: the one that waits now, or else the next one, once. Any number of
    /// calls before that count as one.
    pub fn cancel(&self) {
        // Release: pairs with the acquire in `take`, so what was done before the call is seen after the wait.
        self.asked.store(true, Ordering::Release);
        // After the flag: who is woken finds it.
        self.wake.ring();
    }

    /// Whether a wait is to end; it is, once.
    pub(crate) fn take(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Acquire)
    }
}
