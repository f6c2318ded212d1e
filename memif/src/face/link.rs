//! A connection with a peer: the caller's end with its queues, and the endpoint's end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::link_state::LinkState;
use super::options::InterfaceConfig;
use super::rx::RxQueue;
use super::rx_mode::{ModeCell, RxMode};
use super::tx::TxQueue;
use crate::error::{ProtocolError, RingError};
use crate::format::Mode;
use crate::format::message::{AddRing, Name};
use crate::format::ring::COOKIE;
use crate::mechanism::rx::RxRing;
use crate::mechanism::stats::{Counters, QueueStats};
use crate::mechanism::tx::TxRing;
use crate::mechanism::{Side, layout};
use crate::memory::region::Regions;
use crate::memory::ring::RingMemory;
use crate::system::event_fd::EventFd;
use crate::system::untrusted_fd::UntrustedFd;

/// The names of a peer. The peer chooses them freely: they are made printable, and prove nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The name of the peer's interface, up to 32 bytes.
    pub name: String,
    /// The name of the peer's program, up to 32 bytes.
    pub app_name: String,
}

/// A connection: the queues to send and receive on. Each can be moved to a thread of its own.
///
/// The shared memory stays mapped until the last queue is dropped. The link goes down with its
/// endpoint ([`Client`](crate::Client) or [`Server`](crate::Server)), or when either side
/// disconnects.
#[non_exhaustive]
pub struct Link {
    /// The peer's names.
    pub peer: Peer,
    /// The kind of the packets.
    pub mode: Mode,
    /// Queues to receive on, as many as the client made: at least one.
    pub rx: Vec<RxQueue>,
    /// Queues to send on, as many as the client made: at least one.
    pub tx: Vec<TxQueue>,
    /// Whether the shared memory is sealed against shrinking, as memfds usually are. If not, the
    /// client may cut it while it is being read or written, which raises SIGBUS: see
    /// [`survive_truncation`](crate::survive_truncation).
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

/// The endpoint's end of a link. Dropping it takes the link down.
#[derive(Debug)]
pub(super) struct LinkHandle {
    state: Arc<LinkState>,
    /// Wake threads that wait for packets.
    rx_event_fds: Vec<Arc<EventFd>>,
    pub(super) peer: Peer,
    pub(super) regions: Arc<Regions>,
    pub(super) rx: Vec<RingView>,
    pub(super) tx: Vec<RingView>,
}

/// The endpoint's view of a ring, whose queue may be on another thread.
pub(super) struct RingView {
    pub(super) place: AddRing,
    pub(super) memory: RingMemory,
    pub(super) counters: Arc<Counters>,
    /// For a ring to receive on.
    pub(super) mode: Option<Arc<ModeCell>>,
}

impl fmt::Debug for RingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingView").field("place", &self.place).finish_non_exhaustive()
    }
}

impl LinkHandle {
    /// Returns the counts of all queues, received and sent.
    pub(super) fn stats(&self) -> (QueueStats, QueueStats) {
        let sum = |rings: &[RingView]| {
            let mut sum = QueueStats::default();
            for ring in rings {
                sum += QueueStats::of(&ring.counters);
            }
            sum
        };
        (sum(&self.rx), sum(&self.tx))
    }

    /// Returns the violation of the protocol that a queue has found, if any.
    pub(super) fn error(&self) -> Option<&ProtocolError> {
        self.state.error()
    }
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        self.state.close();
        // Threads that wait for packets must notice.
        self.rx_event_fds.iter().for_each(|event_fd| event_fd.notify());
    }
}

/// What a link is made of.
pub(super) struct Parts<'a> {
    pub(super) interface: &'a InterfaceConfig,
    /// Bytes left free in front of each received packet; 0 on a server.
    pub(super) headroom: u32,
    /// Whether a client's receive queues start without buffers on offer.
    pub(super) manual: bool,
    pub(super) name: Name,
    pub(super) app_name: Name,
    pub(super) regions: Arc<Regions>,
    pub(super) rings: Vec<RingParts>,
    pub(super) wake: Arc<EventFd>,
}

/// What a queue of a link is made of.
pub(super) struct RingParts {
    pub(super) place: AddRing,
    pub(super) side: Side,
    pub(super) event_fd: UntrustedFd,
}

/// Builds the queues over mapped and checked memory. From then on the rings are in use.
pub(super) fn build(parts: Parts<'_>) -> Result<(Link, LinkHandle), ProtocolError> {
    let (interface, regions) = (parts.interface, parts.regions);
    let state = Arc::new(LinkState::new(parts.wake));
    let masked = interface.rx_mode != RxMode::Interrupt;
    let (mut rx, mut tx, mut rx_event_fds) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rx_views, mut tx_views) = (Vec::new(), Vec::new());
    for ring in parts.rings {
        let place = ring.place;
        let error = |cause| ProtocolError::Ring {
            direction: layout::direction(place.s2m),
            index: place.index,
            cause,
        };
        let map = || {
            RingMemory::new(&regions, place.region, place.offset, place.log2_size)
                .ok_or_else(|| error(RingError::Outside))
        };
        let (memory, view) = (map()?, map()?);
        // Relaxed: the message that announced the ring came after the peer wrote it.
        let cookie = memory.header().cookie.load(Ordering::Relaxed);
        if cookie != COOKIE {
            return Err(error(RingError::Cookie { cookie }));
        }
        let event_fd = EventFd::adopt(ring.event_fd).ok_or_else(|| error(RingError::NotEventFd))?;
        let event_fd = Arc::new(event_fd);
        if place.s2m == matches!(ring.side, Side::Server) {
            rx_event_fds.push(Arc::clone(&event_fd));
            let (manual, headroom) = (parts.manual, parts.headroom);
            let ring = RxRing::new(memory, ring.side, place.index, masked, headroom, manual);
            let mode = Arc::new(ModeCell::new(interface.rx_mode));
            let counters = Arc::clone(ring.counters());
            rx_views.push(RingView {
                place,
                memory: view,
                counters,
                mode: Some(Arc::clone(&mode)),
            });
            rx.push(RxQueue::new(ring, event_fd, Arc::clone(&state), mode));
        } else {
            let ring = TxRing::new(memory, ring.side, place.index);
            let counters = Arc::clone(ring.counters());
            tx_views.push(RingView { place, memory: view, counters, mode: None });
            tx.push(TxQueue::new(ring, event_fd, Arc::clone(&state)));
        }
    }
    let peer = Peer { name: parts.name.to_string(), app_name: parts.app_name.to_string() };
    let link = Link { peer: peer.clone(), mode: interface.mode, rx, tx, sealed: regions.sealed() };
    tracing::debug!(id = interface.id, ?link, regions = regions.iter().count(), "link up");
    Ok((link, LinkHandle { state, rx_event_fds, peer, regions, rx: rx_views, tx: tx_views }))
}
