//! Decides whether a port closes a loop, and whether it is the port that has to stay out of it.
//! Free of I/O and of clocks: its owner passes the time, and the probes that it hears.
//!
//! A port that comes up beside other ports **listens** first. It sends probes to its peer, and no
//! other frame passes. A probe of its own that another station puts on its bus has come around a
//! loop. Ports that listen at the same time relay the probes of each other, and each relay adds its
//! identity: the port that finds no higher identity than its own in its probe is the one that is
//! **blocked**. The others find no loop any more once that has happened, and are **open**.
//!
//! An open port forwards probes like all other frames. After it has received some frames from its
//! peer, at most once a second, it takes a [`Sample`] of the frames on the bus. When frames seem to
//! go round, it sends a probe. When that comes around, the port listens again, and the same decision
//! is made. So the last port to come up is blocked, as a rule, and exactly one of a loop.
//!
//! A blocked port listens again every few seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::probe::{Identity, Probe};
use super::sample::{Finding, Print, Sample};
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

/// An open port takes a sample after this many frames from its peer.
const FRAMES_BEFORE_SAMPLE: usize = 32;
/// How long it takes a sample, at most.
const SAMPLE: Duration = Duration::from_millis(250);
/// The time between the first two samples of an open port. It doubles up to the next constant.
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
    sample: Sample,
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
        /// When it may take the next sample.
        sample_at: Instant,
        interval: Duration,
        /// Frames from the peer since the last sample.
        frames: usize,
        stage: Stage,
    },
    Blocked {
        until: Instant,
    },
}

/// What an open port does at the moment.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It waits for frames from the peer.
    Idle,
    /// It takes a sample.
    Sampling { until: Instant },
    /// It is about to send a probe.
    Suspicious,
    /// It waits for its probe.
    Waiting { until: Instant },
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
            sample: Sample::default(),
        }
    }

    /// The port has come up, under this identity. It listens if it is not alone on its bus.
    pub(super) fn up(&mut self, now: Instant, identity: Identity, is_alone: bool) {
        self.me = identity;
        self.relayed.clear();
        if is_alone {
            self.open(now);
        } else {
            self.listen(now, true);
        }
    }

    /// The port has gone down.
    pub(super) fn down(&mut self) {
        self.phase = Phase::Down;
        (self.reported, self.change) = (false, None);
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
            sample_at: now,
            interval: FIRST_OPEN_INTERVAL,
            frames: 0,
            stage: Stage::Idle,
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

    /// Returns whether it wants to hear the bus.
    pub(super) fn is_hearing(&self) -> bool {
        match self.phase {
            Phase::Listening { .. } => true,
            Phase::Open { stage, .. } => !matches!(stage, Stage::Idle),
            Phase::Down | Phase::Blocked { .. } => false,
        }
    }

    /// Returns whether it wants the prints of frames.
    pub(super) fn is_sampling(&self) -> bool {
        matches!(self.phase, Phase::Open { stage: Stage::Sampling { .. }, .. })
    }

    /// Returns how long it can be left alone.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        match self.phase {
            Phase::Blocked { until } => until.saturating_duration_since(now),
            _ if self.is_hearing() => LOOK,
            Phase::Down | Phase::Listening { .. } | Phase::Open { .. } => Duration::MAX,
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
            Phase::Open { .. } => self.is_open_probe_due(now),
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

    fn is_open_probe_due(&mut self, now: Instant) -> bool {
        let Phase::Open { sample_at, interval, frames, stage } = &mut self.phase else {
            return false;
        };
        match *stage {
            Stage::Suspicious => return true,
            Stage::Sampling { until } | Stage::Waiting { until } if now >= until => {
                *stage = Stage::Idle;
            }
            Stage::Idle if *frames >= FRAMES_BEFORE_SAMPLE && now >= *sample_at => {
                *stage = Stage::Sampling { until: now + SAMPLE };
                (*sample_at, *frames) = (now + *interval, 0);
                *interval = (*interval * 2).min(LAST_OPEN_INTERVAL);
                self.sample.clear();
            }
            Stage::Idle | Stage::Sampling { .. } | Stage::Waiting { .. } => {}
        }
        false
    }

    /// Returns the next probe to send.
    pub(super) fn probe(&mut self, now: Instant) -> Probe {
        match &mut self.phase {
            Phase::Listening { probe_at, .. } => *probe_at = now + PROBE_INTERVAL,
            Phase::Open { stage, .. } => *stage = Stage::Waiting { until: now + OPEN_WAIT },
            Phase::Down | Phase::Blocked { .. } => {}
        }
        self.count = self.count.wrapping_add(1);
        let (me, source, count) = (self.me, self.source, self.count);
        Probe { source, origin: me, highest: me, count, hops: 0 }
    }

    /// Returns whether this port has sent the probe.
    pub(super) fn is_own(&self, probe: &Probe) -> bool {
        probe.origin == self.me
    }

    /// Adds frames on the bus to the sample.
    pub(super) fn hear_frames(&mut self, prints: &[Print]) {
        let Phase::Open { stage: stage @ Stage::Sampling { .. }, .. } = &mut self.phase else {
            return;
        };
        for print in prints {
            *stage = match self.sample.add(*print) {
                Finding::Open => continue,
                Finding::Clean => Stage::Idle,
                Finding::Suspicious => Stage::Suspicious,
            };
            return self.sample.clear();
        }
    }

    /// Hears a probe that another station has put on the bus. Returns what to relay to the peer.
    pub(super) fn hear_on_bus(&mut self, probe: Probe, now: Instant) -> Option<Probe> {
        if !self.is_own(&probe) {
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
