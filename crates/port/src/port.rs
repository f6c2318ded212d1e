//! The trait of all ports.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use memif::RxMode;
use shmbus::offload::TxRequest;
use shmbus::{MAX_SLEEP, SendError, Station};

use crate::impair::ImpairHandle;
use crate::peer_details::PeerDetails;
use crate::remote_counters::RemotesHandle;

/// The most frames a port moves in one call: enough to share the cost of a lock and a wake-up, few
/// enough that the other ports of the thread wait only some microseconds.
pub const BURST: usize = 256;

/// How long a station of a port waits for the lock of its bus before it drops a burst: the other
/// ports of the thread wait with it.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(20);
/// How long a node leaves a bus alone after its lock was not available. The lock may stay taken for
/// long: its holder is stopped, or is a rump kernel that died. Meanwhile the other ports of the
/// thread, perhaps on other buses, run nearly as before.
pub const HOLD_OFF: Duration = Duration::from_millis(100);
/// How long a station waits for the lock after a [`HOLD_OFF`], until it is available again: short,
/// yet long enough to find out that the owner is dead.
pub const SHORT_LOCK_TIMEOUT: Duration = Duration::from_millis(2);

/// The bytes of a VLAN tag.
pub const TAG_LEN: usize = 4;

/// Returns whether a frame has a VLAN tag, of a customer or of a provider.
pub(crate) fn has_tag(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]))
}

/// Returns whether a frame of `len` bytes, which begins with `head` and is longer than `longest`
/// bytes, would not be without its VLAN tag.
pub(crate) fn fits_untagged(head: &[u8], len: usize, longest: usize) -> bool {
    has_tag(head) && len <= longest + TAG_LEN
}

/// What became of the frames of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Frames that reached the other side.
    pub frames: usize,
    /// Frames that were taken and dropped: the other side cannot carry them.
    pub dropped: usize,
    /// Those of the dropped frames that are longer than the other side carries.
    pub too_long: usize,
    /// Those of the frames that are too long which would not be without their VLAN tag.
    pub tagged: usize,
    /// Frames that were taken and dropped because the port is not [`LinkState::Up`].
    pub withheld: usize,
    /// Whether frames were taken that wait in the port, for a time that is to come.
    pub queued: bool,
    /// Whether more frames wait because the other side is full.
    pub blocked: bool,
}

impl Moved {
    /// Returns the sum of both. Whether more frames wait is as in `later`.
    #[must_use]
    pub fn plus(self, later: Self) -> Self {
        Self {
            frames: self.frames + later.frames,
            dropped: self.dropped + later.dropped,
            too_long: self.too_long + later.too_long,
            tagged: self.tagged + later.tagged,
            withheld: self.withheld + later.withheld,
            queued: self.queued || later.queued,
            blocked: later.blocked,
        }
    }
}

/// Whether frames pass through a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// There is no peer.
    #[default]
    Down,
    /// There is a peer. No frame passes yet: the port first finds out whether it closes a loop.
    Listening,
    /// There is a peer, and frames pass.
    Up,
    /// There is a peer. No frame passes, because the port would close a loop.
    Blocked,
}

impl LinkState {
    /// Returns whether there is a peer, which frames do not reach at the moment.
    #[must_use]
    pub fn is_withheld(self) -> bool {
        matches!(self, Self::Listening | Self::Blocked)
    }
}

/// The bus did not take a burst, or took only part of it.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct NotSent {
    /// What became of the frames.
    pub moved: Moved,
    /// Why the bus refused the rest.
    pub source: SendError,
}

/// A source and a sink of Ethernet frames that a node connects to a bus. One call moves one burst.
///
/// A node [attaches](Self::attach) the port to a station and then calls [`ingress`](Self::ingress)
/// and [`egress`](Self::egress) in turn while the port is [up](Self::is_up). When both are quiet it
/// [arms](Self::arm) the port, sleeps until one of the [descriptors](Self::descriptors) polls
/// readable or [`max_sleep`](Self::max_sleep) has passed, and disarms it. It calls
/// [`service`](Self::service) now and then while [`wants_service`](Self::wants_service) holds.
///
/// No method may block: the thread serves other ports, too.
pub trait Port: Send {
    /// Returns the name that reports use.
    fn name(&self) -> &str;

    /// Returns whether there is a peer.
    fn is_up(&self) -> bool;

    /// Returns whether frames pass. A port does not withhold them by itself; a wrapper may.
    fn link_state(&self) -> LinkState {
        if self.is_up() { LinkState::Up } else { LinkState::Down }
    }

    /// Returns whether a call of [`service`](Self::service) is due. It is called often, so it
    /// should be cheap.
    fn wants_service(&self) -> bool {
        true
    }

    /// Does what is due beside moving frames. Connections come and go here, and the descriptors
    /// change only here.
    ///
    /// Passes to `report` what the user should know, a line each.
    fn service(&mut self, report: &mut dyn FnMut(&str));

    /// Returns why the port is closed for good, once it is: the node then removes it. Called after
    /// each [`service`](Self::service).
    fn closed(&self) -> Option<String> {
        None
    }

    /// Returns how many peers were turned away because the port has one already.
    fn refusals(&self) -> u64 {
        0
    }

    /// Prepares `station`, which the port uses from now on. A wrapper may make it learn here.
    fn attach(&mut self, _station: &mut Station) {}

    /// Moves a burst from the peer to the bus.
    ///
    /// Drops frames that the bus does not take, so that the peer gets its buffers back. A port that
    /// plays a file may keep them.
    ///
    /// # Errors
    /// [`NotSent`] when the bus does not take the burst, or not all of it.
    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent>;

    /// Moves a burst from the bus to the peer. Frames that the peer has no room for stay on the
    /// bus.
    fn egress(&mut self, station: &mut Station) -> Moved;

    /// Sends one frame to the peer, past the bus. Returns whether the peer took it.
    ///
    /// Wrappers talk to the peer with this and with [`take`](Self::take). A kind of port whose peer
    /// leads nowhere leaves both out.
    fn put(&mut self, _frame: &[u8]) -> bool {
        false
    }

    /// Sends frames to the peer, past the bus, in order. Returns how many of them the peer took, or
    /// can never take; it has no room for the next one. With no frame, sends what earlier calls
    /// have left.
    fn put_burst(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
        frames.take_while(|frame| self.put(frame)).count()
    }

    /// Takes a burst from the peer, past the bus, and passes each frame to `frame`. Returns how
    /// many.
    fn take(&mut self, _frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        0
    }

    /// Returns, once, what [`take`](Self::take) has dropped because it is of no use.
    /// [`ingress`](Self::ingress) says it otherwise.
    fn dropped(&mut self) -> Moved {
        Moved::default()
    }

    /// Returns how a node waits for this port: by polling, by sleeping, or by both in turn.
    fn rx_mode(&self) -> RxMode;

    /// Prepares for a sleep: from now on the descriptors poll readable when there is something to
    /// do. Returns `true` when there is something already; the node then does not sleep.
    fn arm(&mut self) -> bool;

    /// Ends a sleep. Called also when [`arm`](Self::arm) was not.
    fn disarm(&mut self);

    /// Returns the longest time between two polls of a port that sleeps.
    fn max_sleep(&self) -> Duration {
        MAX_SLEEP
    }

    /// Returns the longest time from [`arm`](Self::arm) to the first poll. It is shorter than
    /// [`max_sleep`](Self::max_sleep) where a peer may miss that the port was just armed.
    fn first_poll(&self) -> Duration {
        self.max_sleep()
    }

    /// Returns when frames that wait in the port are due: a node that sleeps then calls
    /// [`ingress`](Self::ingress) and [`egress`](Self::egress), and not much later.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Returns the handle that changes the impairments of the port, if it can have any.
    fn impair_handle(&self) -> Option<ImpairHandle> {
        None
    }

    /// Returns the counters of the other machines that the port reaches, if it is a tunnel.
    fn remotes(&self) -> Option<RemotesHandle> {
        None
    }

    /// Returns what describes the peer, if there is more to say of it than the counters do.
    fn peer_details(&self) -> Option<PeerDetails> {
        None
    }

    /// Passes to `watch` the descriptors that poll readable when the port has frames or wants
    /// service. They change only in [`service`](Self::service). A regular file cannot be waited for
    /// and is left out.
    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>));
}

/// Forwards to the port in the box, so that a wrapper can hold any kind.
impl<P: Port + ?Sized> Port for Box<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn is_up(&self) -> bool {
        (**self).is_up()
    }

    fn link_state(&self) -> LinkState {
        (**self).link_state()
    }

    fn wants_service(&self) -> bool {
        (**self).wants_service()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        (**self).service(report);
    }

    fn refusals(&self) -> u64 {
        (**self).refusals()
    }

    fn closed(&self) -> Option<String> {
        (**self).closed()
    }

    fn attach(&mut self, station: &mut Station) {
        (**self).attach(station);
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        (**self).ingress(station)
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        (**self).egress(station)
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        (**self).put(frame)
    }

    fn put_burst(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
        (**self).put_burst(frames)
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        (**self).take(frame)
    }

    fn dropped(&mut self) -> Moved {
        (**self).dropped()
    }

    fn rx_mode(&self) -> RxMode {
        (**self).rx_mode()
    }

    fn arm(&mut self) -> bool {
        (**self).arm()
    }

    fn disarm(&mut self) {
        (**self).disarm();
    }

    fn max_sleep(&self) -> Duration {
        (**self).max_sleep()
    }

    fn first_poll(&self) -> Duration {
        (**self).first_poll()
    }

    fn due(&self) -> Option<Instant> {
        (**self).due()
    }

    fn impair_handle(&self) -> Option<ImpairHandle> {
        (**self).impair_handle()
    }

    fn remotes(&self) -> Option<RemotesHandle> {
        (**self).remotes()
    }

    fn peer_details(&self) -> Option<PeerDetails> {
        (**self).peer_details()
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        (**self).descriptors(watch);
    }
}
