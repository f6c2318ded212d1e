//! Whether a link is up, as its endpoint and its queues share it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{LinkError, ProtocolError};
use crate::mechanism::ring_buffers::RingBuffers;
use crate::system::event_fd::EventFd;

/// Shared by a link's endpoint and its queues.
#[derive(Debug)]
pub(crate) struct LinkState {
    up: AtomicBool,
    fault: OnceLock<ProtocolError>,
    /// Buffers of queues that were dropped while the peer may use them.
    abandoned: Mutex<Vec<RingBuffers>>,
    /// Wakes the endpoint.
    wake: Arc<EventFd>,
}

impl LinkState {
    pub(crate) fn new(wake: Arc<EventFd>) -> Self {
        Self { up: AtomicBool::new(true), fault: OnceLock::new(), abandoned: Mutex::default(), wake }
    }

    /// What every burst asks first.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), LinkError> {
        // Relaxed: nothing is published by this flag; a burst more or less after the end does no harm.
        if self.up.load(Ordering::Relaxed) { Ok(()) } else { Err(self.why()) }
    }

    #[cold]
    fn why(&self) -> LinkError {
        self.fault.get().map_or(LinkError::Down, |fault| LinkError::Peer(fault.clone()))
    }

    /// A queue has caught the peer lying.
    #[cold]
    pub(crate) fn accuse(&self, fault: ProtocolError) -> LinkError {
        // Only the first lie is told.
        let fault = self.fault.get_or_init(|| fault).clone();
        self.close();
        self.wake.ring();
        LinkError::Peer(fault)
    }

    /// The lie a queue caught the peer at.
    pub(crate) fn fault(&self) -> Option<&ProtocolError> {
        self.fault.get()
    }

    /// Takes the buffers of a queue that is dropped: they are free again when the link is over.
    pub(crate) fn abandon(&self, buffers: RingBuffers) {
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: the end comes before this, or finds them.
        if self.up.load(Ordering::Relaxed) {
            abandoned.push(buffers);
        }
    }

    /// Marks the link as down and frees the buffers of queues that were dropped before.
    pub(crate) fn close(&self) {
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        self.up.store(false, Ordering::Relaxed);
        abandoned.clear();
    }
}
