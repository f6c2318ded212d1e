//! Whether a link is up, as its endpoint and its queues share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{LinkError, ProtocolError};
use crate::mechanism::ring_buffers::RingBuffers;
use crate::system::event_fd::EventFd;

/// The state of a link, shared by its endpoint and its queues.
#[derive(Debug)]
pub(super) struct LinkState {
    up: AtomicBool,
    error: OnceLock<ProtocolError>,
    /// Buffers of queues that were dropped while the peer may still use them.
    retired: Mutex<Vec<RingBuffers>>,
    /// Wakes the endpoint.
    wake: Arc<EventFd>,
}

impl LinkState {
    pub(super) fn new(wake: Arc<EventFd>) -> Self {
        Self { up: AtomicBool::new(true), error: OnceLock::new(), retired: Mutex::default(), wake }
    }

    /// Returns an error unless the link is up. Every burst asks this first.
    #[inline]
    pub(super) fn check(&self) -> Result<(), LinkError> {
        // Relaxed: nothing is published by this flag; a burst more or less after the end does no
        // harm.
        if self.up.load(Ordering::Relaxed) { Ok(()) } else { Err(self.reason()) }
    }

    #[cold]
    fn reason(&self) -> LinkError {
        self.error.get().map_or(LinkError::Down, |error| LinkError::Peer(error.clone()))
    }

    /// Closes the link, as a queue has found a violation of the protocol.
    #[cold]
    pub(super) fn fail(&self, error: ProtocolError) -> LinkError {
        // Only the first error is reported.
        let error = self.error.get_or_init(|| error).clone();
        self.close();
        self.wake.notify();
        LinkError::Peer(error)
    }

    /// Returns the violation that a queue has found, if any.
    pub(super) fn error(&self) -> Option<&ProtocolError> {
        self.error.get()
    }

    /// Takes the buffers of a queue that is dropped. They become free when the link is over: until
    /// then the peer uses them.
    pub(super) fn retire(&self, buffers: RingBuffers) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: `close` has either run before this, or finds the buffers.
        if self.up.load(Ordering::Relaxed) {
            retired.push(buffers);
        }
    }

    /// Marks the link as down, and frees the buffers of queues that were dropped before.
    pub(super) fn close(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        self.up.store(false, Ordering::Relaxed);
        retired.clear();
    }
}
