//! Decides whether a port closes a loop, and whether it is the port that has to stay out of it.
//! Free of I/O and of clocks: its owner passes the time, and the probes that it hears.
//!
//! A port that comes up **listens** first. It sends probes to its peer, and no other frame passes.
//! A probe of its own that another station puts on its bus has come around a loop. Ports that
//! listen at the same time relay the probes of each other, and each relay adds its identity: the
//! port that finds no higher identity than its own in its probe is the one that is **blocked**. The
//! others find no loop any more once that has happened, and are **open**.
//!
//! An open port forwards probes like all other frames. It sends one of its own, at most once a
//! second, after it has received some frames from its peer: on a loop, frames return without end.
//! When such a probe comes around, the port listens again, and the same decision is made. So the
//! last port to come up is blocked, as a rule, and exactly one of a loop.
//!
//! A blocked port listens again every few seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::probe::{Identity, Probe};
use crate::port::LinkState;

/// How long a port listens: far longer than a probe needs around several buses of a busy machine.
const LISTEN: Duration = Duration::from_millis(150);
/// The time between two probes of a port that listens.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// A port on a loop leaves it to a port with a higher identity to be blocked, for this long at
/// most. That port may have been forged.
const MAX_CONTEST: Duration = Duration::from_secs(2);
/// How long a port is blocked before it listens again.
const BLOCKED: Duration = Duration::from_secs(5);

/// An open port sends a probe after this many frames from its peer. Probes of other ports are among
/// these frames, so on a quiet LAN ports must not answer each other's probes for ever.
const FRAMES_BEFORE_PROBE: usize = 32;
/// The time between the first two probes of an open port. It doubles up to the next constant.
const FIRST_OPEN_INTERVAL: Duration = Duration::from_millis(100);
const LAST_OPEN_INTERVAL: Duration = Duration::from_secs(1);
/// How long an open port waits for its probe.
const OPEN_WAIT: Duration = Duration::from_millis(100);

/// How often a port that waits for probes looks for them.
const LOOK: Duration = Duration::from_millis(2);
/// How many relayed probes are remembered, so that none is relayed twice.
const MAX_REMEMBERED: usize = 256;

/// A change that the user should know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The port would close a loop, and is blocked.
    Blocked,
    /// The loop is gone, and frames pass again.
    Healed,
}

/// A side of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Bus,
    Peer,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Detector {
    me: Identity,
    /// The source address of its probes.
    source: [u8; 6],
    count: u32,
    phase: Phase,
    /// Whether the latest reported change is [`Change::Blocked`].
    reported: bool,
    change: Option<Change>,
    /// The probes that were relayed, oldest first, and from where they came.
    relayed: VecDeque<(Identity, u32, Side)>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Down,
    Listening {
        since: Instant,
        until: Instant,
        probe_at: Instant,
        /// Whether the port has come up, and was not on a loop before: frames are worth keeping.
        is_new: bool,
        /// Whether a port with a higher identity is on the loop.
        is_contested: bool,
    },
    Open {
        /// When it may send the next probe.
        probe_at: Instant,
        interval: Duration,
        /// Until when the last probe is waited for.
        wait_until: Instant,
        /// Frames from the peer since the last probe.
        frames: usize,
    },
    Blocked {
        until: Instant,
    },
}

impl Detector {
    /// Makes a detector whose probes have the source address `source`.
    pub(super) fn new(source: [u8; 6]) -> Self {
        Self {
            me: 0,
            source,
            count: 0,
            phase: Phase::Down,
            reported: false,
            change: None,
            relayed: VecDeque::new(),
        }
    }

    /// The port has come up, under this identity.
    pub(super) fn up(&mut self, now: Instant, identity: Identity) {
        self.me = identity;
        self.relayed.clear();
        self.listen(now, true);
    }

    /// The port has gone down.
    pub(super) fn down(&mut self) {
        self.phase = Phase::Down;
        (self.reported, self.change) = (false, None);
    }

    /// What the peer leads to may have changed: an open port sends a probe soon.
    pub(super) fn suspect(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Open { .. }) {
            self.open(now);
            self.note_frames(FRAMES_BEFORE_PROBE);
        }
    }

    fn listen(&mut self, now: Instant, is_new: bool) {
        self.phase = Phase::Listening {
            since: now,
            until: now + LISTEN,
            probe_at: now,
            is_new,
            is_contested: false,
        };
    }

    fn open(&mut self, now: Instant) {
        self.phase = Phase::Open {
            probe_at: now,
            interval: FIRST_OPEN_INTERVAL,
            wait_until: now,
            frames: 0,
        };
    }

    fn block(&mut self, now: Instant) {
        self.phase = Phase::Blocked { until: now + BLOCKED };
        if !std::mem::replace(&mut self.reported, true) {
            self.change = Some(Change::Blocked);
        }
    }

    /// Returns whether it was never [up](Self::up), or is [down](Self::down).
    pub(super) fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down)
    }

    /// Returns the state of a port that has a peer.
    pub(super) fn state(&self) -> LinkState {
        match self.phase {
            Phase::Down | Phase::Listening { .. } => LinkState::Listening,
            Phase::Open { .. } => LinkState::Up,
            Phase::Blocked { .. } => LinkState::Blocked,
        }
    }

    /// Returns whether frames are kept until the port is open.
    pub(super) fn keeps_frames(&self) -> bool {
        matches!(self.phase, Phase::Listening { is_new: true, .. })
    }

    /// Returns whether it wants to hear the probes on the bus.
    pub(super) fn is_waiting(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Listening { .. } => true,
            Phase::Open { wait_until, .. } => now < wait_until,
            Phase::Down | Phase::Blocked { .. } => false,
        }
    }

    /// Returns how long it can be left alone.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        match self.phase {
            Phase::Down => Duration::MAX,
            Phase::Blocked { until } => until.saturating_duration_since(now),
            Phase::Listening { .. } | Phase::Open { .. } if self.is_waiting(now) => LOOK,
            Phase::Listening { .. } | Phase::Open { .. } => Duration::MAX,
        }
    }

    /// Notes frames that came from the peer and passed.
    #[inline]
    pub(super) fn note_frames(&mut self, count: usize) {
        if let Phase::Open { frames, .. } = &mut self.phase {
            *frames = frames.saturating_add(count);
        }
    }

    /// Does what is due. Returns whether a [probe](Self::probe) is to be sent to the peer.
    #[inline]
    pub(super) fn is_probe_due(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Down => false,
            Phase::Open { probe_at, frames, .. } => {
                frames >= FRAMES_BEFORE_PROBE && now >= probe_at
            }
            Phase::Blocked { until } => {
                if now >= until {
                    self.listen(now, false);
                }
                now >= until
            }
            Phase::Listening { until, .. } if now >= until => {
                self.open(now);
                if std::mem::take(&mut self.reported) {
                    self.change = Some(Change::Healed);
                }
                false
            }
            Phase::Listening { since, is_contested: true, .. } if now - since >= MAX_CONTEST => {
                self.block(now);
                false
            }
            Phase::Listening { probe_at, .. } => now >= probe_at,
        }
    }

    /// Returns the next probe to send.
    pub(super) fn probe(&mut self, now: Instant) -> Probe {
        match &mut self.phase {
            Phase::Listening { probe_at, .. } => *probe_at = now + PROBE_INTERVAL,
            Phase::Open { probe_at, interval, wait_until, frames } => {
                (*probe_at, *wait_until, *frames) = (now + *interval, now + OPEN_WAIT, 0);
                *interval = (*interval * 2).min(LAST_OPEN_INTERVAL);
            }
            Phase::Down | Phase::Blocked { .. } => {}
        }
        self.count = self.count.wrapping_add(1);
        let (me, source, count) = (self.me, self.source, self.count);
        Probe { source, origin: me, highest: me, count, hops: 0 }
    }

    /// Hears a probe that another station has put on the bus. Returns what to relay to the peer.
    pub(super) fn hear_on_bus(&mut self, probe: Probe, now: Instant) -> Option<Probe> {
        if probe.origin != self.me {
            return self.relay(probe, Side::Bus);
        }
        match &mut self.phase {
            Phase::Listening { until, is_contested, .. } if probe.highest > self.me => {
                (*until, *is_contested) = (now + LISTEN, true);
            }
            Phase::Listening { .. } => self.block(now),
            Phase::Open { .. } => self.listen(now, false),
            Phase::Down | Phase::Blocked { .. } => {}
        }
        None
    }

    /// Hears a probe from the peer while no frame passes. Returns what to relay to the bus.
    ///
    /// A probe of its own means only that the peer returns what it receives. That is a loop when
    /// there are two such peers; then the other one returns the probe to the bus.
    pub(super) fn hear_from_peer(&mut self, probe: Probe) -> Option<Probe> {
        self.relay(probe, Side::Peer)
    }

    /// Returns the probe as it is passed on, once, while the port listens. An open port forwards
    /// probes with all other frames, and a blocked one forwards none.
    fn relay(&mut self, probe: Probe, side: Side) -> Option<Probe> {
        let key = (probe.origin, probe.count, side);
        if !matches!(self.phase, Phase::Listening { .. }) || self.relayed.contains(&key) {
            return None;
        }
        if self.relayed.len() >= MAX_REMEMBERED {
            self.relayed.pop_front();
        }
        self.relayed.push_back(key);
        probe.relayed_by(self.me)
    }

    /// Returns the latest change, once.
    pub(super) fn take_change(&mut self) -> Option<Change> {
        self.change.take()
    }
}

#[cfg(test)]
mod tests;
