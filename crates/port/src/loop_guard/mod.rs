//! The loop guard: a wrapper around any port that finds out whether the port closes a loop, and
//! blocks it while it does.
//!
//! Buses are joined by ports in ways that no record shows: through other buses, memif peers, the
//! kernel's bridges, tunnels. A frame on a loop of them goes round for ever. So a guarded port that
//! comes up beside other ports first listens for a moment, and no frame passes. Its [`detector`]
//! decides how that ends. What the peer sends meanwhile is kept, and what others send waits on the
//! bus.
//!
//! While frames pass, the guard costs a look at the clock for each burst. It reads the bus only
//! while it takes a sample, of some hundred frames a second, or waits for a probe of its own.
//!
//! The probes go to the peer, and never to the bus of the port: a station there hears one only
//! where a loop brings it. So a station can keep a port blocked only if it can send on the port's
//! bus and hear what the port's peer hears; such a station can join the two anyway. Each forged
//! probe costs the port some seconds.

mod detector;
mod hearing;
mod held;
mod probe;
mod sample;

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shmbus::offload::TxRequest;
use shmbus::{Bus, Station, Tap, random_mac};

use self::detector::{Change, Detector};
use self::hearing::{Hearing, has_other_ports};
use self::held::Held;
pub use self::probe::PROBE_ETHERTYPE;
use self::probe::{Identity, Probe};
use self::sample::Printer;
use crate::forwarding::forward;
use crate::port::{LinkState, Moved, NotSent, Port, fits_untagged};

/// The most frames on the bus that are looked at in one call.
const MAX_LOOK: usize = 1_024;

/// The most VLANs of a trunk that are searched for loops: each takes a probe of its own.
const MAX_PROBED_VLANS: usize = 16;

/// A port around a port that is blocked while it would close a loop.
///
/// It is [`LinkState::Listening`] for a moment when its peer comes, and [`LinkState::Blocked`]
/// while there is a loop.
#[derive(Debug)]
pub struct LoopGuard<P> {
    port: P,
    detector: Detector,
    /// Shows the frames on the bus, while the detector wants to hear them.
    tap: Option<Tap>,
    printer: Printer,
    held: Held,
    /// What the next service reports.
    report: Option<String>,
}

impl<P: Port> LoopGuard<P> {
    /// Wraps `port`.
    #[must_use]
    pub fn new(port: P) -> Self {
        let detector = Detector::new(random_mac().into_array());
        let (printer, held) = (Printer::default(), Held::default());
        Self { port, detector, tap: None, printer, held, report: None }
    }

    /// Forgets everything: there is no peer, or the port is on another bus.
    fn reset(&mut self) {
        self.detector.down();
        self.tap = None;
        self.held.clear();
    }

    /// Hears and sends probes. Returns the state of the link after that.
    #[inline]
    fn advance(&mut self, station: &mut Station) -> LinkState {
        let now = Instant::now();
        if self.detector.is_down() {
            // Of two ports that come up at once, the later to say so sees the other.
            station.set_joins(true);
            self.detector.up(now, new_identity(), !has_other_ports(station));
        }
        if self.tap.is_some() {
            self.hear_bus(station, now);
        }
        let before = self.detector.state();
        let is_probe_due = self.detector.is_probe_due(now);
        if self.detector.is_hearing() && (is_probe_due || self.tap.is_none()) {
            self.hear_and_probe(station, now, is_probe_due);
        }
        let state = self.detector.state();
        if state != before {
            self.change_state(station, state);
        }
        state
    }

    /// Drops what is out of date when the state has changed.
    #[cold]
    fn change_state(&mut self, station: &mut Station, state: LinkState) {
        match state {
            LinkState::Up if self.held.is_kept() => {}
            _ => {
                self.held.clear();
                station.discard_pending();
            }
        }
        if let Some(change) = self.detector.take_change() {
            let (name, bus) = (self.port.name(), station.bus().path().display());
            self.report = Some(match change {
                Change::Blocked => format!(
                    "{name}: blocked: what leaves {bus} by this port comes back to it, a loop; \
                     tried again every 5 s"
                ),
                Change::Healed => format!("{name}: the loop is gone; frames pass again"),
            });
        }
    }

    #[cold]
    fn hear_bus(&mut self, station: &mut Station, now: Instant) {
        let Some(tap) = self.tap.as_mut().filter(|_| self.detector.is_hearing()) else {
            self.tap = None;
            return;
        };
        let printer = Some(&self.printer).filter(|_| self.detector.is_sampling());
        let mut hearing = Hearing::new(station, printer);
        tap.recv_into(&mut hearing, MAX_LOOK);
        let before = self.detector.state();
        self.detector.hear_frames(&hearing.prints);
        let is_in_no_vlan = station.vlan().is_none();
        for (vlan, probe) in hearing.probes {
            if is_in_no_vlan && vlan.is_some() && self.detector.is_own(&probe) {
                // It left without a tag, and an access port has put it into a VLAN. It comes back
                // there once, and not again and again.
                continue;
            }
            if let Some(relayed) = self.detector.hear_on_bus(probe, now) {
                self.port.put(&relayed.to_frame(vlan));
            }
        }
        let state = self.detector.state();
        if state != before {
            self.change_state(station, state);
        }
    }

    #[cold]
    fn hear_and_probe(&mut self, station: &Station, now: Instant, is_probe_due: bool) {
        if self.tap.is_none() {
            let bus = station.bus();
            if bus.state().locked {
                // To find the newest packet might take long.
                return;
            }
            self.tap = Bus::open_read_only(bus.path()).and_then(Tap::new).ok();
        }
        if is_probe_due {
            let tags: Vec<Option<u16>> = match station.vlan() {
                None => vec![None],
                Some(vlan) => vlan.tags().take(MAX_PROBED_VLANS).collect(),
            };
            for tag in tags {
                let probe = self.detector.probe(now);
                self.port.put(&probe.to_frame(tag));
            }
        }
    }

    /// Takes what the peer sends while no frame passes: relays probes, and keeps the rest if frames
    /// are to pass later.
    #[cold]
    fn withhold(&mut self, station: &mut Station) -> Moved {
        let mut moved = Moved::default();
        let keeps = self.detector.keeps_frames();
        self.held.set_kept(keeps);
        if keeps && self.held.is_full() {
            return moved;
        }
        let longest = station.max_frame();
        let (detector, held) = (&mut self.detector, &mut self.held);
        self.port.take(&mut |request: TxRequest<'_>| {
            if let Some((vlan, probe)) = Probe::parse(request.frame) {
                if let Some(relayed) = detector.hear_from_peer(probe) {
                    // Another is sent soon when the bus is busy.
                    let _ = station.send(&relayed.to_frame(vlan));
                }
            } else if request.offload.is_nothing() && request.frame.len() > longest {
                moved.dropped += 1;
                moved.too_long += 1;
                moved.tagged +=
                    usize::from(fits_untagged(request.frame, request.frame.len(), longest));
            } else if !(keeps && held.push(request)) {
                moved.withheld += 1;
            }
        });
        moved
    }
}

/// Returns an identity for a port that comes up now.
fn new_identity() -> Identity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = RandomState::new().hash_one(now);
    now.as_millis() << 64 | u128::from(random)
}

impl<P: Port> Port for LoopGuard<P> {
    fn link_state(&self) -> LinkState {
        if self.port.is_up() { self.detector.state() } else { LinkState::Down }
    }

    fn wants_service(&self) -> bool {
        self.report.is_some() || self.port.wants_service()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        self.port.service(report);
        if let Some(line) = self.report.take() {
            report(&line);
        }
        if !self.port.is_up() {
            self.reset();
        }
    }

    /// The new station may be on another bus, so the port listens again.
    fn attach(&mut self, station: &mut Station) {
        self.port.attach(station);
        self.reset();
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        if !station.is_link_up() {
            return self.port.ingress(station);
        }
        if self.advance(station) != LinkState::Up {
            return Ok(self.withhold(station));
        }
        let held = self.held.send(station)?;
        let moved = match self.port.ingress(station) {
            Ok(moved) => moved,
            Err(NotSent { moved, source }) => {
                return Err(NotSent { moved: held.plus(moved), source });
            }
        };
        self.detector.note_frames(moved.frames);
        Ok(held.plus(moved))
    }

    /// While the port listens, frames wait on the bus.
    fn egress(&mut self, station: &mut Station) -> Moved {
        if !station.is_link_up() {
            return self.port.egress(station);
        }
        match self.detector.state() {
            LinkState::Up => self.port.egress(station),
            LinkState::Blocked => {
                station.discard_pending();
                Moved::default()
            }
            LinkState::Listening | LinkState::Down => Moved { blocked: true, ..Moved::default() },
        }
    }

    fn arm(&mut self) -> bool {
        // What cannot be kept waits at the peer, and is no reason to stay awake.
        !(self.detector.keeps_frames() && self.held.is_full()) && self.port.arm()
    }

    /// While no frame passes, those that wait in the port are not asked for.
    fn due(&self) -> Option<Instant> {
        self.port.due().filter(|_| self.detector.state() == LinkState::Up)
    }

    fn max_sleep(&self) -> Duration {
        self.port.max_sleep().min(self.detector.pause(Instant::now()))
    }

    fn first_poll(&self) -> Duration {
        self.port.first_poll().min(self.detector.pause(Instant::now()))
    }

    forward! {
        name is_up refusals closed put put_burst take dropped rx_mode disarm impair_handle remotes peer_details descriptors
    }
}
