//! How endpoints hand out events one by one, and wait for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::link::Link;
use crate::error::{DisconnectReason, Error, Rejection};
use crate::system::event_fd::EventFd;
use crate::system::poller::{Poller, deadline_in};

/// Something that happened to an interface.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The interface has a peer.
    Connected {
        /// The interface's id.
        id: u32,
        /// The queues and the peer's names.
        link: Link,
    },
    /// The interface has lost its peer; from now on its queues only return
    /// [`LinkError`](crate::LinkError). A server's interface waits for the next client, and a
    /// client connects again by itself.
    Disconnected {
        /// The interface's id.
        id: u32,
        /// The side that ended the link, and why.
        reason: DisconnectReason,
    },
    /// No link came up. A server reports each client that it rejected, a client each attempt that
    /// failed.
    Rejected {
        /// The interface's id, if the peer has named one.
        id: Option<u32>,
        /// The reason.
        reason: Rejection,
    },
}

/// Ends the waiting of a [`Server`](crate::Server) or [`Client`](crate::Client), from any thread.
/// Clones wake the same endpoint.
///
/// ```
/// use memif::{Server, SocketAddr, SocketOptions};
/// let addr = SocketAddr::abstract_name(format!("memif-waker-{}", std::process::id()))?;
/// let mut server = Server::bind(&addr, SocketOptions::new())?;
/// let waker = server.waker();
/// std::thread::spawn(move || waker.wake());
/// assert!(server.wait(None)?.is_none(), "no event came");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Waker {
    requested: Arc<AtomicBool>,
    event_fd: Arc<EventFd>,
}

impl Waker {
    pub(super) fn new(event_fd: &Arc<EventFd>) -> Self {
        Self { requested: Arc::default(), event_fd: Arc::clone(event_fd) }
    }

    /// Makes the endpoint's current `wait` return `None`, or its next one if none is running.
    /// Several calls before that count as one.
    pub fn wake(&self) {
        // Release: pairs with the acquire in `take`, so what was done before the call is seen after
        // the wait.
        self.requested.store(true, Ordering::Release);
        // After the flag, so that the woken thread finds it.
        self.event_fd.notify();
    }

    /// Returns whether a wait must end, and resets that.
    fn take(&self) -> bool {
        // Acquire: pairs with the release in `wake`.
        self.requested.load(Ordering::Relaxed) && self.requested.swap(false, Ordering::Acquire)
    }
}

/// Events that have not been handed out.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: VecDeque<Event>,
    /// Whether events of the latest round of work were handed out, and the `None` behind them was
    /// not.
    in_round: bool,
}

impl EventQueue {
    pub(super) fn push(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

/// An endpoint that works when its descriptor is readable.
pub(super) trait Worker {
    /// Does what is due without blocking.
    fn work(&mut self) -> Result<(), Error>;
    fn events(&mut self) -> &mut EventQueue;
    fn poller(&self) -> &Poller;
    fn waker(&self) -> &Waker;
}

/// Returns the next event, or `None` behind the events of one round of work: a flood does not keep
/// the caller busy.
pub(super) fn ready(worker: &mut impl Worker) -> Result<Option<Event>, Error> {
    if worker.events().events.is_empty() {
        if std::mem::take(&mut worker.events().in_round) {
            return Ok(None);
        }
        worker.work()?;
        let queue = worker.events();
        queue.in_round = !queue.events.is_empty();
    }
    Ok(worker.events().events.pop_front())
}

/// Waits for the next event; returns `None` on a timeout, a signal, or a call of [`Waker::wake`].
pub(super) fn wait(
    worker: &mut impl Worker,
    timeout: Option<Duration>,
) -> Result<Option<Event>, Error> {
    let end = timeout.map(deadline_in);
    loop {
        if let Some(event) = ready(worker)? {
            return Ok(Some(event));
        }
        if worker.waker().take() {
            return Ok(None);
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let more = worker.poller().wait(left).map_err(Error::at("poll"))?;
        // The descriptor may stay readable for work that is no event.
        if !more || left == Some(Duration::ZERO) {
            return ready(worker);
        }
    }
}
