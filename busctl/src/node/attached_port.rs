//! One port of a node, and its station.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use shmbus::{Bus, Busy, MAX_SLEEP, SendError, Station, WaitError, WaitSet};

use super::port_stats::PortStats;
use crate::output;
use crate::port::{BURST, HOLD_OFF, LOCK_TIMEOUT, Moved, NotSent, Port, RxMode, SHORT_LOCK_TIMEOUT};
use crate::registry::Counters;

/// How long a peer may leave frames waiting. Then they are given up: what is new is worth more than what is old, and
/// one frame that never fits must not block the port for ever.
const STALL: Duration = Duration::from_secs(1);
/// A peer that has no room may be waiting for the processor that this thread has. So long it is offered to it again and again; who
/// has not come to make room by then does not want the processor.
const GRACE: Duration = Duration::from_millis(1);
/// Nobody says when a peer has made room: it is looked for this soon, then ever less often.
const FIRST_RETRY: Duration = Duration::from_micros(100);
const LAST_RETRY: Duration = Duration::from_millis(10);
/// When it is worth a line.
const LOCKED_LONG: Duration = Duration::from_secs(2);
/// How long an adaptive port is polled after the last frame: longer than the pauses in steady traffic, much shorter than
/// anybody would notice in the processor's load.
const LINGER: Duration = Duration::from_micros(50);

/// How many bursts a peer gets in a turn, at most, and when another is worth a try. On a bus each hears all its neighbours, each of
/// which puts a burst there in its turn; and whoever cannot keep up with them is overrun, and these frames are lost.
const CATCH_UP: u32 = 4;
const MANY: usize = BURST / 2;

/// Which member it is, in its node.
pub(crate) type Key = u64;

/// A port with its station, and what is to be remembered about them. It is either awake, and polled, or asleep: armed, with
/// descriptors that tell when it is to be woken, and looked at now and then.
pub(crate) struct AttachedPort {
    pub(super) key: Key,
    port: Box<dyn Port>,
    station: Station,
    gauge: Arc<PortStats>,
    up: bool,
    /// When it last moved a frame or was woken.
    busy: Instant,
    /// While it is asleep: when to look without having been woken.
    look_at: Instant,
    blocked: Option<Blocked>,
    locked: Option<Locked>,
    dropped_from_peer: u64,
    dropped_from_bus: u64,
    stalls: u64,
    /// What was counted on stations it had before.
    before: Counters,
    /// The latest trouble with the bus that was told.
    told: Option<String>,
}

/// The peer has no room.
struct Blocked {
    since: Instant,
    retry: Duration,
}

/// The bus's lock is not to be had.
struct Locked {
    since: Instant,
    /// Until when the peer is left to itself.
    until: Option<Instant>,
    told: bool,
}

/// Why a member cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Gone {
    /// There is no bus any more.
    #[error("bus {0} is gone: its file was cut short or overwritten")]
    Bus(String),
    /// The port is [of no use](Port::gone) any more.
    #[error("{0}")]
    Port(String),
}

impl AttachedPort {
    pub(super) fn new(key: Key, port: Box<dyn Port>, station: Station, gauge: Arc<PortStats>) -> Self {
        let now = Instant::now();
        Self {
            key,
            port,
            station,
            gauge,
            up: false,
            busy: now,
            look_at: now,
            blocked: None,
            locked: None,
            dropped_from_peer: 0,
            dropped_from_bus: 0,
            stalls: 0,
            before: Counters::default(),
            told: None,
        }
    }

    /// Ends its part in the bus, until it gets another station: what the peer sends is taken and dropped, and nothing comes from the
    /// bus, whatever becomes of that.
    pub(super) fn unplug(&mut self) {
        self.station.set_link_up(false);
    }

    /// Gives it another station, which may be on another bus. It begins at the present.
    pub(super) fn plug(&mut self, station: Station) {
        self.before = self.counters();
        (self.dropped_from_peer, self.dropped_from_bus, self.stalls) = (0, 0, 0);
        (self.station, self.blocked, self.locked) = (station, None, None);
    }

    /// The bus of its station.
    pub(super) fn bus(&self) -> &Bus {
        self.station.bus()
    }

    /// Whether the bus it takes part in is gone.
    fn has_lost_its_bus(&self) -> bool {
        self.station.is_link_up() && self.station.bus().is_lost()
    }

    /// Moves a burst to the bus, and to the peer what is there for it; whether anything moved.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        if !self.up {
            return false;
        }
        let from_peer = self.take_from_peer(now);
        let from_bus = self.give_to_peer();
        self.dropped_from_peer += from_peer.dropped as u64;
        self.dropped_from_bus += from_bus.dropped as u64;
        self.note_room(from_bus, now);
        let moved = from_peer.frames + from_peer.dropped + from_bus.frames + from_bus.dropped > 0;
        if moved {
            self.busy = now;
        }
        moved
    }

    fn give_to_peer(&mut self) -> Moved {
        let mut all = Moved::default();
        for _ in 0..CATCH_UP {
            let moved = self.port.egress(&mut self.station);
            all.frames += moved.frames;
            all.dropped += moved.dropped;
            all.blocked = moved.blocked;
            if moved.blocked || moved.frames + moved.dropped < MANY {
                break;
            }
        }
        all
    }

    fn take_from_peer(&mut self, now: Instant) -> Moved {
        if let Some(locked) = &mut self.locked {
            if locked.until.is_some_and(|until| now < until) {
                return Moved::default();
            }
            locked.until = None;
        }
        match self.port.ingress(&mut self.station) {
            Ok(moved) => {
                // A peer with nothing to send finds out nothing: that is no reason to take the next lock for this one.
                if self.locked.is_some() && (moved.frames > 0 || !self.station.bus().state().locked) {
                    self.note_unlocked();
                }
                moved
            }
            Err(NotSent { moved, source: SendError::Busy { source, .. } }) => {
                self.note_locked(source);
                moved
            }
            Err(NotSent { moved, source }) => {
                self.tell_once(&source.to_string());
                moved
            }
        }
    }

    /// Leaves the peer to itself, and says who has the lock once that has lasted.
    fn note_locked(&mut self, who: Busy) {
        self.station.set_lock_timeout(SHORT_LOCK_TIMEOUT);
        let now = Instant::now();
        let locked = self.locked.get_or_insert(Locked { since: now, until: None, told: false });
        locked.until = Some(now + HOLD_OFF);
        let waited = now.saturating_duration_since(locked.since);
        if waited >= LOCKED_LONG && !std::mem::replace(&mut locked.told, true) {
            let remedy = if matches!(who, Busy::Unknown { .. }) { " ('busctl repair' does)" } else { "" };
            let text = format!("{}: {}{remedy}", self.station.bus().path().display(), who.after(waited));
            self.tell(&text);
        }
    }

    fn note_unlocked(&mut self) {
        let Some(locked) = self.locked.take() else { return };
        self.station.set_lock_timeout(LOCK_TIMEOUT);
        if locked.told {
            self.tell(&format!("{} is free again", self.station.bus().path().display()));
        }
    }

    fn note_room(&mut self, moved: Moved, now: Instant) {
        if !moved.blocked || moved.frames > 0 {
            self.blocked = None;
            return;
        }
        let blocked = self.blocked.get_or_insert(Blocked { since: now, retry: FIRST_RETRY });
        if now.saturating_duration_since(blocked.since) >= STALL {
            self.station.discard_pending();
            self.blocked = None;
            self.stalls += 1;
        }
    }

    /// Whether frames have just begun to wait for the peer to make room.
    pub(super) fn awaits_room(&self, now: Instant) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| now.saturating_duration_since(blocked.since) < GRACE)
    }

    /// Looks after the connection, if that is due.
    ///
    /// # Errors
    /// When the bus or the port is gone.
    pub(super) fn service(&mut self, epoll: &Epoll) -> Result<(), Gone> {
        if self.has_lost_its_bus() {
            return Err(Gone::Bus(self.station.bus().path().display().to_string()));
        }
        if self.port.wants_service() {
            self.unwatch_port(epoll);
            self.port.service(&mut output::note);
            self.watch_port(epoll);
            if let Some(why) = self.port.gone() {
                return Err(Gone::Port(why));
            }
        }
        self.up = self.port.is_up();
        self.stay_present();
        self.publish();
        Ok(())
    }

    /// While there is no peer, what is on the bus is old news by the time there is one. A peer that comes knows that it is
    /// connected a little before this end does, and may have told others: so this is not for the moment when it has come,
    /// but for all the time before.
    fn stay_present(&mut self) {
        if !self.up {
            self.station.discard_pending();
            self.blocked = None;
        }
    }

    /// Lets others see how it is.
    fn publish(&self) {
        self.gauge.set_up(self.up);
        self.gauge.set_counters(self.counters());
    }

    fn counters(&self) -> Counters {
        let stats = self.station.stats();
        // Of what came from the peer and is not on the bus, some was refused by the bus, the rest was no frame for it.
        let busy = stats.tx_busy.min(self.dropped_from_peer);
        self.before.plus(Counters {
            rx_packets: stats.tx_packets,
            rx_bytes: stats.tx_bytes,
            rx_dropped: busy + stats.tx_link_down,
            rx_errors: self.dropped_from_peer - busy,
            tx_packets: stats.rx_packets,
            tx_bytes: stats.rx_bytes,
            tx_dropped: self.dropped_from_bus + self.stalls + stats.overruns,
            tx_errors: stats.corrupt,
        })
    }

    /// Whether it has been quiet for long enough.
    pub(super) fn may_sleep(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.busy);
        match self.port.rx_mode() {
            _ if !self.up => true,
            RxMode::Polling => false,
            RxMode::Adaptive => quiet >= LINGER,
            RxMode::Interrupt => true,
        }
    }

    /// Prepares for a sleep; `true`: there is something to do, and it is awake still.
    ///
    /// # Errors
    /// When the bus is gone.
    pub(super) fn fall_asleep(&mut self, now: Instant) -> Result<bool, Gone> {
        self.publish();
        let mut there = false;
        if self.up {
            // What waits on the bus for a peer without room is no reason to stay awake.
            // Nor is a bus it takes no part in.
            if self.blocked.is_none() && self.station.is_link_up() {
                there = self.arm_station()?;
            }
            // Nor is what the peer keeps while it is left to itself.
            if !self.holds_off() {
                there |= self.port.arm();
            }
        }
        if there {
            self.wake(now);
        } else {
            let first = self.port.first_look();
            self.look_at = now + self.longest_sleep(now).min(first);
        }
        Ok(there)
    }

    fn arm_station(&mut self) -> Result<bool, Gone> {
        match self.station.arm() {
            Ok(there) => Ok(there),
            Err(WaitError::Lost { path }) => Err(Gone::Bus(path.display().to_string())),
            Err(error) => {
                self.tell_once(&format!("{error}; frames from the bus will be late"));
                Ok(false)
            }
        }
    }

    /// Whether the peer is left to itself.
    fn holds_off(&self) -> bool {
        self.locked.as_ref().is_some_and(|locked| locked.until.is_some())
    }

    /// How long to sleep at most: a wake-up may be lost, a peer may make room, or it has been left to itself for long enough.
    fn longest_sleep(&mut self, now: Instant) -> Duration {
        let mut longest = self.port.longest_sleep().min(MAX_SLEEP);
        if let Some(until) = self.locked.as_ref().and_then(|locked| locked.until) {
            longest = longest.min(until.saturating_duration_since(now));
        }
        if let Some(blocked) = &mut self.blocked {
            longest = longest.min(blocked.retry);
            blocked.retry = (blocked.retry * 2).min(LAST_RETRY);
        }
        longest
    }

    /// While it is asleep: when it is to be looked at.
    pub(super) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// Looks without having been woken. Everything stays armed, so that an idle member costs next to nothing; `true`: wake it.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        self.stay_present();
        let (was_blocked, was_held_off) = (self.blocked.is_some(), self.holds_off());
        let moved = self.turn(now);
        // While the peer had no room, the station was not armed: nobody would tell what comes for it from now on. Nor was the
        // port, while it was left to itself.
        let has_room = was_blocked && self.blocked.is_none();
        let is_heard = was_held_off && !self.holds_off();
        if moved || has_room || is_heard || self.port.wants_service() || self.has_lost_its_bus() {
            return true;
        }
        self.look_at = now + self.longest_sleep(now);
        false
    }

    /// Ends a sleep.
    pub(super) fn wake(&mut self, now: Instant) {
        self.station.disarm();
        self.port.disarm();
        self.busy = now;
    }

    fn event(&self) -> EpollEvent {
        EpollEvent::new(EpollFlags::EPOLLIN, self.key)
    }

    /// Moves into a thread: there its descriptors are watched, and its station sleeps.
    pub(super) fn move_in(&mut self, epoll: &Epoll, wait_set: &WaitSet) {
        self.watch_port(epoll);
        // A node never has as many members as there are addresses.
        self.station.join_wait_set(wait_set, usize::try_from(self.key).unwrap_or(usize::MAX));
    }

    /// Watches the port's descriptors, which stay the same until it is tended.
    fn watch_port(&mut self, epoll: &Epoll) {
        let mut trouble = None;
        self.port.descriptors(&mut |descriptor| match epoll.add(descriptor, self.event()) {
            // Regular files are always ready, and cannot be waited for.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(error) => trouble = Some(error),
        });
        if let Some(error) = trouble {
            self.tell_once(&format!("cannot be watched: {error}; it is looked at ten times a second"));
        }
    }

    fn unwatch_port(&self, epoll: &Epoll) {
        // What was not watched cannot be unwatched, and need not.
        self.port.descriptors(&mut |descriptor| {
            let _ = epoll.delete(descriptor);
        });
    }

    /// Takes it out of the thread that served it.
    pub(super) fn leave(&mut self, epoll: &Epoll) {
        self.unwatch_port(epoll);
        self.wake(Instant::now());
        self.up = false;
        self.publish();
    }

    fn tell(&self, text: &str) {
        output::note(&format!("{}: {text}", self.port.name()));
    }

    /// Trouble that lasts is told once.
    fn tell_once(&mut self, text: &str) {
        if self.told.as_deref() != Some(text) {
            self.tell(text);
            self.told = Some(text.to_owned());
        }
    }
}

impl Drop for AttachedPort {
    fn drop(&mut self) {
        tracing::info!(
            port = self.port.name(),
            counters = ?self.gauge.counters(),
            bus = ?self.station.stats(),
            stalls = self.stalls,
            "port closed"
        );
    }
}
