//! A connection with a peer, and what its queues and its endpoint tell each other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::link_state::LinkState;
use super::options::{ModeCell, Options, RxMode};
use super::rx::RxQueue;
use super::stats::QueueStats;
use super::tx::TxQueue;
use crate::error::{ProtocolError, RingFault};
use crate::format::message::{AddRing, Name};
use crate::format::mode::Mode;
use crate::format::ring::COOKIE;
use crate::mechanism::counters::Counters;
use crate::mechanism::rx::RxRing;
use crate::mechanism::tx::TxRing;
use crate::mechanism::{Side, layout};
use crate::memory::region::Regions;
use crate::memory::ring::RingMemory;
use crate::system::event_fd::EventFd;
use crate::system::untrusted_fd::UntrustedFd;

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

/// The endpoint's end of a link. Dropping it takes the link down.
#[derive(Debug)]
pub(crate) struct LinkHandle {
    state: Arc<LinkState>,
    sleepers: Vec<Arc<EventFd>>,
    pub(crate) peer: Peer,
    pub(crate) regions: Arc<Regions>,
    pub(crate) rx: Vec<RingView>,
    pub(crate) tx: Vec<RingView>,
}

/// The endpoint's view of a ring, whose queue may be on another thread.
pub(crate) struct RingView {
    pub(crate) place: AddRing,
    pub(crate) memory: RingMemory,
    pub(crate) counters: Arc<Counters>,
    /// For a ring to receive on.
    pub(crate) mode: Option<Arc<ModeCell>>,
}

impl fmt::Debug for RingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingView").field("place", &self.place).finish_non_exhaustive()
    }
}

impl LinkHandle {
    /// What all queues did, received and sent.
    pub(crate) fn stats(&self) -> (QueueStats, QueueStats) {
        let sum = |rings: &[RingView]| {
            let mut sum = QueueStats::default();
            for ring in rings {
                sum += QueueStats::of(&ring.counters);
            }
            sum
        };
        (sum(&self.rx), sum(&self.tx))
    }

    pub(crate) fn fault(&self) -> Option<&ProtocolError> {
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
    pub(crate) wake: Arc<EventFd>,
}

/// One ring of a link to be.
pub(crate) struct Ring {
    pub(crate) place: AddRing,
    pub(crate) side: Side,
    pub(crate) bell: UntrustedFd,
}

/// Builds the queues over mapped and checked memory. After this the rings are in use.
pub(crate) fn build(parts: Parts<'_>) -> Result<(Link, LinkHandle), ProtocolError> {
    let regions = parts.regions;
    let state = Arc::new(LinkState::new(parts.wake));
    let masked = parts.options.rx_mode != RxMode::Interrupt;
    let (mut rx, mut tx, mut sleepers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut watched_rx, mut watched_tx) = (Vec::new(), Vec::new());
    for ring in parts.rings {
        let place = ring.place;
        let fault = |cause| ProtocolError::Ring {
            direction: layout::direction(place.s2m),
            index: place.index,
            cause,
        };
        let view = || {
            RingMemory::new(&regions, place.region, place.offset, place.log2_size)
                .ok_or_else(|| fault(RingFault::Outside))
        };
        let (memory, watched) = (view()?, view()?);
        // Relaxed: the message that announced the ring came after the peer wrote it.
        let cookie = memory.header().cookie.load(Ordering::Relaxed);
        if cookie != COOKIE {
            return Err(fault(RingFault::Cookie { cookie }));
        }
        let bell = Arc::new(EventFd::adopt(ring.bell).ok_or_else(|| fault(RingFault::NotEventFd))?);
        if place.s2m == matches!(ring.side, Side::Server) {
            sleepers.push(Arc::clone(&bell));
            let ring = RxRing::new(memory, ring.side, place.index, masked, parts.options.headroom);
            let mode = Arc::new(ModeCell::new(parts.options.rx_mode));
            let counters = Arc::clone(ring.counters());
            watched_rx.push(RingView { place, memory: watched, counters, mode: Some(Arc::clone(&mode)) });
            rx.push(RxQueue::new(ring, bell, Arc::clone(&state), mode));
        } else {
            let ring = TxRing::new(memory, ring.side, place.index);
            let counters = Arc::clone(ring.counters());
            watched_tx.push(RingView { place, memory: watched, counters, mode: None });
            tx.push(TxQueue::new(ring, bell, Arc::clone(&state)));
        }
    }
    let peer = Peer { name: parts.name.to_string(), app_name: parts.app_name.to_string() };
    let link = Link { peer: peer.clone(), mode: parts.options.mode, rx, tx, sealed: regions.sealed() };
    tracing::debug!(id = parts.options.id, ?link, regions = regions.iter().count(), "link up");
    Ok((link, LinkHandle { state, sleepers, peer, regions, rx: watched_rx, tx: watched_tx }))
}
