//! One port of a node and its station: moving frames between the two, and sleeping while there are
//! none.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use port::{
    BURST, HOLD_OFF, ImpairHandle, LOCK_TIMEOUT, LinkState, Moved, NotSent, Port, ReportOnce,
    Reporter, RxMode, SHORT_LOCK_TIMEOUT, WakeFd,
};
use shmbus::{
    Bus, Busy, MAX_BIG_FRAME, MAX_SLEEP, MIN_FRAME, SendError, Station, WaitError, WaitSet,
};

use crate::port_stats::{Counters, PortStats};

/// How long a peer may have no room before the frames that wait for it are dropped. New frames are
/// worth more than old ones, and a frame that never fits must not block the port for ever.
const PEER_FULL_TIMEOUT: Duration = Duration::from_secs(1);
/// While the peer's ring is full, the thread yields the CPU each round for this long: on a small
/// machine the peer may be waiting for it. A peer that has made no room by then does not need the
/// CPU.
const YIELD_WHILE_FULL: Duration = Duration::from_millis(1);
/// A peer does not signal that it has made room, so the port retries: first after this time, then
/// each time after twice as long, up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_micros(100);
/// The longest time between two retries.
const LAST_RETRY: Duration = Duration::from_millis(10);
/// How long a bus may be locked before that is reported.
const REPORT_LOCKED_AFTER: Duration = Duration::from_secs(2);
/// How long an adaptive port is polled after the last frame: longer than the pauses in steady
/// traffic, and too short to show in the load of the processor.
const ADAPTIVE_POLL: Duration = Duration::from_micros(50);

/// The most bursts that a peer gets in one turn. A station receives what all its neighbours send,
/// each a burst in its own turn; a port that cannot keep up with them is overrun and loses frames.
const MAX_BURSTS_TO_PEER: u32 = 4;
/// The number of frames in a burst from which another burst is likely to be there.
const NEARLY_FULL_BURST: usize = BURST / 2;

/// The bytes of an Ethernet header without a VLAN tag, and those of a tag.
const UNTAGGED_HEADER: usize = MIN_FRAME;
const TAG_LEN: usize = 4;

/// Identifies a port of a node. A node does not reuse an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub(crate) u64);

impl fmt::Display for PortId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A port with its station. It is either awake and polled in each round, or asleep: armed, so that
/// its descriptors wake it, and polled now and then.
pub(crate) struct AttachedPort {
    pub(crate) id: PortId,
    port: Box<dyn Port>,
    station: Station,
    stats: Arc<PortStats>,
    up: bool,
    /// When it last moved a frame or was woken.
    last_active: Instant,
    /// While it sleeps: when it is polled next.
    poll_at: Instant,
    /// While it sleeps: when frames that wait in the port are due, which is no later than that.
    due: Option<Instant>,
    /// Since when the peer has no room.
    blocked: Option<Blocked>,
    /// Since when the bus is locked.
    locked: Option<Locked>,
    dropped_from_peer: u64,
    /// Those of them that were longer than the bus carries.
    too_long_from_peer: u64,
    /// Frames from the peer that were dropped because no frame may pass.
    withheld_from_peer: u64,
    dropped_from_bus: u64,
    /// Those of them that were longer than the peer carries.
    too_long_from_bus: u64,
    /// How often frames were dropped after [`PEER_FULL_TIMEOUT`].
    stalls: u64,
    /// What its earlier stations have counted.
    before: Counters,
    /// The trouble that was reported.
    reported: ReportOnce,
    reporter: Reporter,
    /// Wakes the owner of the node when the port goes up or down.
    wake_fd: Arc<WakeFd>,
}

/// The peer has no room.
struct Blocked {
    since: Instant,
    /// How long to wait before the next retry.
    retry: Duration,
}

/// The lock of the bus was not available.
struct Locked {
    since: Instant,
    /// Until when nothing is taken from the peer.
    hold_off_until: Option<Instant>,
    reported: bool,
}

/// Why a node has closed a port.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The bus of its station was cut short or overwritten. Holds the path of the bus.
    #[error("bus {0} is gone: its file was cut short or overwritten")]
    Bus(String),
    /// The port is [closed for good](Port::closed). Holds the port's reason.
    #[error("{0}")]
    Port(String),
}

impl AttachedPort {
    pub(crate) fn new(
        id: PortId,
        mut port: Box<dyn Port>,
        mut station: Station,
        stats: Arc<PortStats>,
        wake_fd: Arc<WakeFd>,
        reporter: Reporter,
    ) -> Self {
        port.attach(&mut station);
        stats.set_link_state(port.link_state());
        let now = Instant::now();
        Self {
            id,
            port,
            station,
            stats,
            up: false,
            last_active: now,
            poll_at: now,
            due: None,
            blocked: None,
            locked: None,
            dropped_from_peer: 0,
            too_long_from_peer: 0,
            withheld_from_peer: 0,
            dropped_from_bus: 0,
            too_long_from_bus: 0,
            stalls: 0,
            before: Counters::default(),
            reported: ReportOnce::default(),
            reporter,
            wake_fd,
        }
    }

    /// Takes the station's link down until the port gets another station. Frames from the peer are
    /// taken and dropped, and the loss of the bus does not matter.
    pub(crate) fn unplug(&mut self) {
        self.station.set_link_up(false);
    }

    /// Replaces the station. The new one may be on another bus; it receives only frames sent from
    /// now on.
    pub(crate) fn plug(&mut self, station: Station) {
        self.before = self.counters().of_stations();
        (self.dropped_from_peer, self.dropped_from_bus, self.stalls) = (0, 0, 0);
        (self.too_long_from_peer, self.withheld_from_peer, self.too_long_from_bus) = (0, 0, 0);
        (self.station, self.blocked, self.locked) = (station, None, None);
        self.reported.clear();
        self.port.attach(&mut self.station);
    }

    /// Returns the bus of the station.
    pub(crate) fn bus(&self) -> &Bus {
        self.station.bus()
    }

    /// Returns whether the bus is lost while the link to it is up.
    fn has_lost_its_bus(&self) -> bool {
        self.station.is_link_up() && self.station.bus().is_lost()
    }

    /// Moves a burst from the peer to the bus, and some bursts from the bus to the peer. Returns
    /// whether anything moved.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        if !self.up {
            return false;
        }
        let from_peer = self.receive_from_peer(now);
        let from_bus = self.send_to_peer();
        self.dropped_from_peer += from_peer.dropped as u64;
        self.dropped_from_bus += from_bus.dropped as u64;
        self.withheld_from_peer += from_peer.withheld as u64;
        if from_peer.too_long + from_bus.too_long > 0 {
            self.note_too_long(from_peer, from_bus);
        }
        self.note_room(from_bus, now);
        let count = |moved: Moved| moved.frames + moved.dropped + moved.queued;
        let moved = count(from_peer) + count(from_bus) > 0;
        if moved {
            self.last_active = now;
        }
        moved
    }

    fn send_to_peer(&mut self) -> Moved {
        let mut all = Moved::default();
        for _ in 0..MAX_BURSTS_TO_PEER {
            let moved = self.port.egress(&mut self.station);
            all.frames += moved.frames;
            all.dropped += moved.dropped;
            all.too_long += moved.too_long;
            all.queued += moved.queued;
            all.blocked = moved.blocked;
            if moved.blocked || moved.frames + moved.dropped < NEARLY_FULL_BURST {
                break;
            }
        }
        all
    }

    fn receive_from_peer(&mut self, now: Instant) -> Moved {
        if let Some(locked) = &mut self.locked {
            if locked.hold_off_until.is_some_and(|until| now < until) {
                return Moved::default();
            }
            locked.hold_off_until = None;
        }
        match self.port.ingress(&mut self.station) {
            Ok(moved) => {
                // A peer with nothing to send does not try the lock, so it counts as free only when
                // it looks free: else a later holder would be taken for this one.
                if self.locked.is_some() && (moved.frames > 0 || !self.station.bus().state().locked)
                {
                    self.note_unlocked();
                }
                moved
            }
            Err(NotSent { moved, source: SendError::Busy { source, .. } }) => {
                self.note_locked(source);
                moved
            }
            Err(NotSent { moved, source }) => {
                self.report_once(&source.to_string());
                moved
            }
        }
    }

    /// Takes nothing from the peer for [`HOLD_OFF`]. Reports the holder of the lock once that has
    /// lasted.
    fn note_locked(&mut self, busy: Busy) {
        self.station.set_lock_timeout(SHORT_LOCK_TIMEOUT);
        let now = Instant::now();
        let locked =
            self.locked.get_or_insert(Locked { since: now, hold_off_until: None, reported: false });
        locked.hold_off_until = Some(now + HOLD_OFF);
        let waited = now.saturating_duration_since(locked.since);
        if waited >= REPORT_LOCKED_AFTER && !std::mem::replace(&mut locked.reported, true) {
            let text = format!("{}: {}", self.station.bus().path().display(), busy.after(waited));
            self.report(&text);
        }
    }

    fn note_unlocked(&mut self) {
        let Some(locked) = self.locked.take() else { return };
        self.station.set_lock_timeout(LOCK_TIMEOUT);
        if locked.reported {
            self.report(&format!("{} is free again", self.station.bus().path().display()));
        }
    }

    fn note_room(&mut self, moved: Moved, now: Instant) {
        if !moved.blocked || moved.frames > 0 {
            self.blocked = None;
            return;
        }
        let blocked = self.blocked.get_or_insert(Blocked { since: now, retry: FIRST_RETRY });
        if now.saturating_duration_since(blocked.since) >= PEER_FULL_TIMEOUT {
            self.station.discard_pending();
            self.blocked = None;
            self.stalls += 1;
        }
    }

    /// Reports once in each direction that frames are too long.
    #[cold]
    fn note_too_long(&mut self, from_peer: Moved, from_bus: Moved) {
        self.too_long_from_peer += from_peer.too_long as u64;
        self.too_long_from_bus += from_bus.too_long as u64;
        let (longest, mtu) = (self.station.max_frame(), self.station.mtu());
        let cure = if self.station.bus().max_frame() < MAX_BIG_FRAME {
            format!("a larger bus carries {MAX_BIG_FRAME}: create it with --size 4M; or ")
        } else {
            String::new()
        };
        let bus = self.station.bus().path().display().to_string();
        if from_peer.tagged > 0 {
            self.report_once(&format!(
                "frames from the peer are longer with their VLAN tag than the {longest} bytes that \
                 {bus} carries, and are dropped; {cure}lower the MTU of the VLAN to {}, or let the \
                 port add the tag, with vlan=N",
                mtu.min(longest - UNTAGGED_HEADER - TAG_LEN)
            ));
        }
        if from_peer.too_long > from_peer.tagged {
            self.report_once(&format!(
                "frames from the peer are longer than the {longest} bytes that {bus} carries, and \
                 are dropped; {cure}lower the MTU to {mtu}"
            ));
        }
        if from_bus.too_long > 0 {
            self.report_once("frames from the bus are longer than the peer carries, and are dropped; lower the MTU");
        }
    }

    /// Returns whether the peer has had no room only for a moment, so that it may help to yield the
    /// CPU.
    pub(crate) fn should_yield(&self, now: Instant) -> bool {
        self.blocked
            .as_ref()
            .is_some_and(|blocked| now.saturating_duration_since(blocked.since) < YIELD_WHILE_FULL)
    }

    /// Services the port if it wants that, and publishes its state.
    ///
    /// # Errors
    /// [`CloseReason`] when the bus is lost or the port is closed.
    pub(crate) fn service(&mut self, epoll: &Epoll) -> Result<(), CloseReason> {
        if self.has_lost_its_bus() {
            return Err(CloseReason::Bus(self.station.bus().path().display().to_string()));
        }
        if self.port.wants_service() {
            self.unwatch_port(epoll);
            let reporter = &self.reporter;
            self.port.service(&mut |line| reporter.note(line));
            self.watch_port(epoll);
            if let Some(reason) = self.port.closed() {
                return Err(CloseReason::Port(reason));
            }
        }
        if let Some(warning) = port::overrun_warning(&self.station) {
            self.reporter.warn(&format!("{}: {warning}", self.port.name()));
        }
        // A peer may send more than a trunk passes: a kernel sends untagged frames by itself.
        let is_access = self.station.vlan().is_some_and(|vlan| vlan.tags().eq([None]));
        if is_access && self.station.stats().tx_vlan_refused > 0 {
            self.report_once(
                "frames from the peer have a VLAN tag, and are dropped: the port adds its own; \
                 trunk=LIST passes tagged frames",
            );
        }
        self.up = self.port.is_up();
        self.discard_while_down();
        self.publish();
        Ok(())
    }

    /// Discards what is on the bus while there is no peer: it would be out of date when one
    /// connects. This happens all the time before and not at the moment when a peer has connected,
    /// because the peer knows that a little earlier than this end, and frames that answer it may be
    /// on the bus by then.
    fn discard_while_down(&mut self) {
        if !self.up {
            self.station.discard_pending();
            self.blocked = None;
        }
    }

    /// Publishes state and counters.
    fn publish(&self) {
        let state = if self.up { self.port.link_state() } else { LinkState::Down };
        if self.stats.set_link_state(state) {
            self.wake_fd.wake();
        }
        self.stats.set_counters(self.counters());
    }

    fn counters(&self) -> Counters {
        let stats = self.station.stats();
        // Of the frames from the peer that were dropped, the bus was too busy for some; the others
        // it cannot carry.
        let busy = stats.tx_busy.min(self.dropped_from_peer);
        let impaired = self.stats.impair_handle().map(ImpairHandle::counters).unwrap_or_default();
        self.before.plus(Counters {
            rx_packets: stats.tx_packets,
            rx_bytes: stats.tx_bytes,
            rx_dropped: busy + stats.tx_link_down + stats.tx_vlan_refused,
            rx_errors: self.dropped_from_peer.saturating_sub(busy + self.too_long_from_peer),
            rx_oversize: self.too_long_from_peer,
            rx_blocked: self.withheld_from_peer,
            peers_refused: self.port.refusals(),
            tx_packets: stats.rx_packets,
            tx_bytes: stats.rx_bytes,
            tx_dropped: self.dropped_from_bus + self.stalls + stats.overrun_frames,
            tx_errors: stats.corrupt,
            ..Counters::of_impairments(impaired)
        })
    }

    /// Returns whether the port has been quiet for long enough to sleep.
    pub(crate) fn may_sleep(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.last_active);
        match self.port.rx_mode() {
            _ if !self.up => true,
            RxMode::Polling => false,
            RxMode::Adaptive => quiet >= ADAPTIVE_POLL,
            RxMode::Interrupt => true,
        }
    }

    /// Prepares for a sleep. Returns `true` when there is something to do already; the port then
    /// stays awake.
    ///
    /// # Errors
    /// [`CloseReason`] when the bus is lost.
    pub(crate) fn fall_asleep(&mut self, now: Instant) -> Result<bool, CloseReason> {
        self.publish();
        let mut ready = false;
        if self.up {
            // Frames that wait on the bus for a peer without room are no reason to stay awake.
            // Neither is a bus to which the link is down, or from which no frame may pass.
            if self.listens_to_bus() {
                ready = self.arm_station()?;
            }
            // Neither are frames of the peer while the lock of the bus is not tried for.
            if !self.holds_off() {
                ready |= self.port.arm();
            }
        }
        if ready {
            self.wake(now);
        } else {
            let longest = self.max_sleep(now).min(self.port.first_poll());
            self.sleep_for(longest, now);
        }
        Ok(ready)
    }

    /// Returns whether frames on the bus are a reason to wake.
    fn listens_to_bus(&self) -> bool {
        self.blocked.is_none() && self.station.is_link_up() && !self.port.link_state().is_withheld()
    }

    fn arm_station(&mut self) -> Result<bool, CloseReason> {
        match self.station.arm() {
            Ok(ready) => Ok(ready),
            Err(WaitError::Lost { path }) => Err(CloseReason::Bus(path.display().to_string())),
            Err(error) => {
                self.report_once(&format!("{error}; frames from the bus arrive late"));
                Ok(false)
            }
        }
    }

    /// Returns whether nothing is taken from the peer at the moment.
    fn holds_off(&self) -> bool {
        self.locked.as_ref().is_some_and(|locked| locked.hold_off_until.is_some())
    }

    /// Returns how long to sleep at most: a wake-up may be lost, the peer may make room, or the
    /// hold-off may be over.
    fn max_sleep(&mut self, now: Instant) -> Duration {
        let mut longest = self.port.max_sleep().min(MAX_SLEEP);
        if let Some(until) = self.locked.as_ref().and_then(|locked| locked.hold_off_until) {
            longest = longest.min(until.saturating_duration_since(now));
        }
        if let Some(blocked) = &mut self.blocked {
            longest = longest.min(blocked.retry);
            blocked.retry = (blocked.retry * 2).min(LAST_RETRY);
        }
        longest
    }

    /// Returns when the sleeping port is polled next.
    pub(crate) fn poll_at(&self) -> Instant {
        self.poll_at
    }

    /// Returns when frames that wait in the sleeping port are due. In contrast to another poll, they
    /// are not to be late.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Polls the sleeping port. Everything stays armed, so an idle port costs next to nothing.
    /// Returns whether to wake it.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        self.discard_while_down();
        let (was_deaf, was_held_off) = (!self.listens_to_bus(), self.holds_off());
        let moved = self.turn(now);
        // The station was not armed while the peer had no room, and the port was not armed during
        // the hold-off. Both must be armed now, or nothing would wake them.
        let has_room = was_deaf && self.listens_to_bus();
        let hold_off_is_over = was_held_off && !self.holds_off();
        if moved
            || has_room
            || hold_off_is_over
            || self.port.wants_service()
            || self.has_lost_its_bus()
        {
            return true;
        }
        let longest = self.max_sleep(now);
        self.sleep_for(longest, now);
        false
    }

    /// Sleeps for `longest`, or until a frame that waits in the port is due. During a hold-off none
    /// is: it could not be sent.
    fn sleep_for(&mut self, longest: Duration, now: Instant) {
        self.due = if self.up && !self.holds_off() { self.port.due() } else { None };
        self.poll_at = self.due.map_or(now + longest, |due| due.min(now + longest));
    }

    /// Wakes the port: it is polled from now on.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.station.disarm();
        self.port.disarm();
        self.last_active = now;
    }

    fn event(&self) -> EpollEvent {
        EpollEvent::new(EpollFlags::EPOLLIN, self.id.0)
    }

    /// Joins a thread: its epoll watches the port's descriptors, and its wait set watches the bus.
    pub(crate) fn join(&mut self, epoll: &Epoll, wait_set: &WaitSet) {
        self.watch_port(epoll);
        // A node never has as many ports as a `usize` can count.
        self.station.join_wait_set(wait_set, usize::try_from(self.id.0).unwrap_or(usize::MAX));
    }

    /// Watches the port's descriptors. They stay the same until the next service.
    fn watch_port(&mut self, epoll: &Epoll) {
        let mut failure = None;
        self.port.descriptors(&mut |descriptor| match epoll.add(descriptor, self.event()) {
            // A regular file is always ready and cannot be waited for.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(error) => failure = Some(error),
        });
        if let Some(error) = failure {
            self.report_once(&format!(
                "cannot be watched: {error}; it is polled ten times a second"
            ));
        }
    }

    fn unwatch_port(&self, epoll: &Epoll) {
        // A descriptor that was not watched cannot be removed, and need not be.
        self.port.descriptors(&mut |descriptor| {
            let _ = epoll.delete(descriptor);
        });
    }

    /// Leaves the thread. The port keeps its peer, so its state stays as it is.
    pub(crate) fn leave(&mut self, epoll: &Epoll) {
        self.unwatch_port(epoll);
        self.wake(Instant::now());
        self.publish();
    }

    /// Shows the port as down, for good.
    pub(crate) fn close(&mut self) {
        self.up = false;
        self.publish();
    }

    fn report(&self, text: &str) {
        self.reporter.note(&format!("{}: {text}", self.port.name()));
    }

    /// Reports lasting trouble once.
    fn report_once(&mut self, text: &str) {
        if self.reported.is_new(text) {
            self.report(text);
        }
    }
}

impl Drop for AttachedPort {
    fn drop(&mut self) {
        tracing::info!(
            port = self.port.name(),
            counters = ?self.stats.counters(),
            bus = ?self.station.stats(),
            stalls = self.stalls,
            "port closed"
        );
    }
}
