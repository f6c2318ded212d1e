//! One port of a node, and its station.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::bail;
use shmbus::{Interface, WaitError};

use crate::output;
use crate::port::{Moved, Patience, Port};

/// How long a peer may leave frames waiting. Then they are given up: what is new is worth more than what is old, and
/// one frame that never fits must not block the port for ever.
const STALL: Duration = Duration::from_secs(1);
/// Nobody says when a peer has made room: it is looked for this soon, then ever less often.
const FIRST_RETRY: Duration = Duration::from_micros(100);
const LAST_RETRY: Duration = Duration::from_millis(10);

/// A port with its station, and what is to be remembered about them.
pub(super) struct Member {
    port: Box<dyn Port>,
    station: Interface,
    up: bool,
    blocked: Option<Blocked>,
    counters: Counters,
    /// The latest trouble with the bus that was told.
    told: Option<String>,
}

/// The peer has no room.
struct Blocked {
    since: Instant,
    retry: Duration,
}

/// What went through a port, in frames.
#[derive(Debug, Default)]
struct Counters {
    to_bus: u64,
    from_bus: u64,
    dropped: u64,
    stalls: u64,
}

impl Member {
    pub(super) fn new(port: Box<dyn Port>, station: Interface) -> Self {
        Self { port, station, up: false, blocked: None, counters: Counters::default(), told: None }
    }

    pub(super) fn patience(&self) -> Patience {
        self.port.patience()
    }

    /// Moves a burst each way; whether anything moved.
    pub(super) fn turn(&mut self) -> bool {
        if !self.up {
            return false;
        }
        let to_bus = match self.port.ingress(&mut self.station) {
            Ok(moved) => moved,
            Err(not_sent) => {
                self.tell_once(&not_sent.source.to_string());
                not_sent.moved
            }
        };
        let from_bus = self.port.egress(&mut self.station);
        self.counters.to_bus += to_bus.frames as u64;
        self.counters.from_bus += from_bus.frames as u64;
        self.counters.dropped += (to_bus.dropped + from_bus.dropped) as u64;
        self.note_room(from_bus);
        to_bus.frames + to_bus.dropped + from_bus.frames + from_bus.dropped > 0
    }

    fn note_room(&mut self, moved: Moved) {
        if !moved.blocked || moved.frames > 0 {
            self.blocked = None;
            return;
        }
        let blocked =
            self.blocked.get_or_insert_with(|| Blocked { since: Instant::now(), retry: FIRST_RETRY });
        if blocked.since.elapsed() >= STALL {
            self.station.skip_to_present();
            self.blocked = None;
            self.counters.stalls += 1;
        }
    }

    /// Looks after the connection.
    ///
    /// # Errors
    /// When the bus is gone.
    pub(super) fn tend(&mut self, tell: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        if self.is_lost() {
            bail!("bus {} is gone: its file was cut short", self.station.bus().path().display());
        }
        self.port.tend(tell);
        self.up = self.port.is_up();
        self.stay_present();
        Ok(())
    }

    /// While there is no peer, what is on the bus is old news by the time there is one. A peer that comes knows that it is
    /// connected a little before this end does, and may have told others: so this is not for the moment when it has come,
    /// but for all the time before.
    pub(super) fn stay_present(&mut self) {
        if !self.up {
            self.station.skip_to_present();
            self.blocked = None;
        }
    }

    /// Prepares for a sleep; `true`: there is something to do.
    pub(super) fn arm(&mut self) -> Result<bool, WaitError> {
        if !self.up {
            return Ok(false);
        }
        // What waits on the bus for a peer without room is no reason to stay awake.
        let there = self.blocked.is_none() && self.station.arm()?;
        Ok(there | self.port.arm())
    }

    pub(super) fn disarm(&mut self) {
        self.station.disarm();
        self.port.disarm();
    }

    /// The descriptors to sleep on.
    pub(super) fn descriptors<'m>(&'m self, watch: &mut dyn FnMut(BorrowedFd<'m>)) {
        self.port.descriptors(watch);
        if self.up
            && self.blocked.is_none()
            && let Some(descriptor) = self.station.poll_fd()
        {
            watch(descriptor);
        }
    }

    /// How long to sleep at most before the peer is asked for room again.
    pub(super) fn retry(&mut self) -> Option<Duration> {
        let blocked = self.blocked.as_mut()?;
        let retry = blocked.retry;
        blocked.retry = (retry * 2).min(LAST_RETRY);
        Some(retry)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.station.bus().is_lost()
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Trouble that lasts is told once.
    pub(super) fn tell_once(&mut self, text: &str) {
        if self.told.as_deref() != Some(text) {
            output::note(&format!("{}: {text}", self.port.name()));
            self.told = Some(text.to_owned());
        }
    }

    pub(super) fn log_counters(&self) {
        let stats = self.station.stats();
        tracing::info!(port = self.port.name(), counters = ?self.counters, bus = ?stats, "port closed");
    }
}
