//! A connection with a peer, and what its queues and its endpoint tell each other.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::options::{Options, RxMode};
use super::rx::RxQueue;
use super::tx::TxQueue;
use crate::error::{Fault, LinkError, RingFault};
use crate::format::message::{AddRing, Name};
use crate::format::mode::Mode;
use crate::format::ring::COOKIE;
use crate::mechanism::rx::RxRing;
use crate::mechanism::tx::TxRing;
use crate::mechanism::{Side, layout};
use crate::memory::region::Regions;
use crate::memory::ring::RingMemory;
use crate::system::bell::Bell;

/// Who is on the other side. The peer chooses these names freely: they were made printable, and prove nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// What the peer calls its interface, up to 32 bytes.
    pub name: String,
    /// What the peer's program calls itself, up to 32 bytes.
    pub app_name: String,
}

/// A connection: the queues to send and receive on. Each can be moved to a thread of its own.
///
/// The shared memory stays mapped until the last queue is dropped; whether the link is up is the endpoint's matter.
#[non_exhaustive]
pub struct Link {
    /// Who is on the other side.
    pub peer: Peer,
    /// What the packets are.
    pub mode: Mode,
    /// Queues to receive on, as many as the client made: at least one.
    pub rx: Vec<RxQueue>,
    /// Queues to send on, as many as the client made: at least one.
    pub tx: Vec<TxQueue>,
    /// Whether the shared memory is sealed against shrinking, as memfds usually are. If not, the client may cut it while
    /// it is being read or written, which raises SIGBUS: see [`survive_truncation`](crate::survive_truncation).
    pub sealed: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.peer)
            .field("mode", &self.mode)
            .field("rx", &self.rx.len())
            .field("tx", &self.tx.len())
            .field("sealed", &self.sealed)
            .finish()
    }
}

/// Shared by a link's endpoint and its queues.
#[derive(Debug)]
pub(crate) struct LinkState {
    up: AtomicBool,
    fault: OnceLock<Fault>,
    /// Wakes the endpoint.
    wake: Arc<Bell>,
}

impl LinkState {
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
    pub(crate) fn accuse(&self, fault: Fault) -> LinkError {
        // Only the first lie is told.
        let fault = self.fault.get_or_init(|| fault).clone();
        self.close();
        self.wake.ring();
        LinkError::Peer(fault)
    }

    /// The lie a queue caught the peer at.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    fn close(&self) {
        self.up.store(false, Ordering::Relaxed);
    }
}

/// The endpoint's end of a link. Dropping it takes the link down.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    state: Arc<LinkState>,
    sleepers: Vec<Arc<Bell>>,
}

impl LinkHandle {
    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.state.fault()
    }
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        self.state.close();
        // Whoever sleeps on a queue is to notice.
        self.sleepers.iter().for_each(|bell| bell.ring());
    }
}

/// What a link is made of.
pub(crate) struct Parts<'a> {
    pub(crate) options: &'a Options,
    pub(crate) name: Name,
    pub(crate) app_name: Name,
    pub(crate) regions: Arc<Regions>,
    pub(crate) rings: Vec<Ring>,
    pub(crate) wake: Arc<Bell>,
}

/// One ring of a link to be.
pub(crate) struct Ring {
    pub(crate) place: AddRing,
    pub(crate) side: Side,
    pub(crate) bell: OwnedFd,
}

/// Builds the queues over mapped and checked memory. After this the rings are in use.
pub(crate) fn build(parts: Parts<'_>) -> Result<(Link, LinkHandle), Fault> {
    let regions = parts.regions;
    let state = Arc::new(LinkState { up: AtomicBool::new(true), fault: OnceLock::new(), wake: parts.wake });
    let masked = parts.options.rx_mode != RxMode::Interrupt;
    let (mut rx, mut tx, mut sleepers) = (Vec::new(), Vec::new(), Vec::new());
    for ring in parts.rings {
        let place = ring.place;
        let fault =
            |cause| Fault::Ring { direction: layout::direction(place.s2m), index: place.index, cause };
        let memory = RingMemory::new(&regions, place.region, place.offset, place.log2_size)
            .ok_or_else(|| fault(RingFault::Outside))?;
        // Relaxed: the message that announced the ring came after the peer wrote it.
        let cookie = memory.header().cookie.load(Ordering::Relaxed);
        if cookie != COOKIE {
            return Err(fault(RingFault::Cookie { cookie }));
        }
        let bell = Arc::new(Bell::adopt(ring.bell).ok_or_else(|| fault(RingFault::NotEventFd))?);
        if place.s2m == matches!(ring.side, Side::Server) {
            sleepers.push(Arc::clone(&bell));
            rx.push(RxQueue::new(
                RxRing::new(memory, ring.side, place.index, masked),
                bell,
                Arc::clone(&state),
            ));
        } else {
            tx.push(TxQueue::new(TxRing::new(memory, ring.side, place.index), bell, Arc::clone(&state)));
        }
    }
    let peer = Peer { name: parts.name.to_string(), app_name: parts.app_name.to_string() };
    let link = Link { peer, mode: parts.options.mode, rx, tx, sealed: regions.sealed() };
    tracing::debug!(id = parts.options.id, ?link, regions = regions.count(), "link up");
    Ok((link, LinkHandle { state, sleepers }))
}
