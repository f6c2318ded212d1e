//! An adapter that puts a peer without Ethernet on a LAN (`mode=ip`): a wrapper around any port whose
//! peer sends and receives bare IP packets.
//!
//! The peer's addresses are configured ([`IpPeer`]), and the port is their station: it asks whether
//! another station has them, announces and defends them, and answers ARP and neighbor discovery for
//! them. A packet of the peer gets the Ethernet address of the host that it is for, or of the router;
//! the port asks for it, and packets wait meanwhile. Of the frames on the bus the peer gets those with
//! IP that are for it, for hosts behind it, and for groups. What is decided is in `lan_side`, without
//! I/O.
//!
//! Packets are staged on both ways, because the header that a packet gets depends on bytes that the
//! peer may still be writing. There is no allocation for a packet, except for those that wait.

mod lan_side;
mod next_hops;
mod packet;
mod too_big;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use neighbor::frame::ETHERNET_HEADER;
use shmbus::offload::{Offload, TxRequest};
use shmbus::{Burst, SendError, Station};
use smoltcp::wire::EthernetAddress;

use self::lan_side::{FromBus, FromPeer, LanSide, Reason};
use crate::forwarding::forward;
use crate::ip_peer::IpPeer;
use crate::port::{BURST, Moved, NotSent, Port};
use crate::report_once::LineBudget;

/// How long a peer may have no room before the frames that are held for it are dropped.
const PEER_FULL_TIMEOUT: Duration = Duration::from_secs(1);
/// The most lines that wait to be reported.
const MAX_LINES: usize = 16;

/// A port around a port whose peer sends and receives IP packets without an Ethernet header.
#[derive(Debug)]
pub struct IpAdapter<P> {
    port: P,
    lan: LanSide,
    stage: Stage,
    /// Frames from the bus, and how many of them are done with.
    burst: Burst,
    done: usize,
    /// Since when the peer has no room for the next.
    blocked: Option<Instant>,
    /// Where the packets of a burst lie among its frames: kept for the memory it has.
    places: Vec<usize>,
    /// What [`take`](Port::take) has dropped.
    dropped: Moved,
    reports: Reports,
}

impl<P: Port> IpAdapter<P> {
    /// Wraps `port`, whose peer is `peer` on the LAN.
    #[must_use]
    pub fn new(port: P, peer: IpPeer) -> Self {
        Self {
            port,
            lan: LanSide::new(peer),
            stage: Stage::default(),
            burst: Burst::new(BURST),
            done: 0,
            blocked: None,
            places: Vec::with_capacity(BURST),
            dropped: Moved::default(),
            reports: Reports::default(),
        }
    }

    /// Stages what is to be sent to the bus: what the port says, and a burst of the peer.
    fn collect(&mut self, now: Instant) -> Moved {
        let Self { port, lan, stage, reports, .. } = self;
        stage.clear();
        lan.drain_frames(&mut |frame| stage.push(&[], frame));
        let mut moved = std::mem::take(&mut self.dropped);
        if !lan.is_tentative() {
            port.take(&mut |request: TxRequest<'_>| match lan.take_packet(request.frame, now) {
                FromPeer::Send(header, len) => stage.push(&header, &request.frame[..len]),
                FromPeer::Wait { dropped } => {
                    moved.queued = true;
                    moved.dropped += dropped;
                }
                FromPeer::Drop(reason) => {
                    moved.dropped += 1;
                    moved.too_long += usize::from(reason == Reason::TooLong);
                    reports.note_drop(reason);
                }
            });
        }
        let messages = lan.take_messages();
        if !messages.is_empty() {
            // A peer without room does without.
            port.put_burst(&mut messages.iter().map(Vec::as_slice));
        }
        moved.plus(port.dropped())
    }

    /// Does what is due on the LAN, once all is heard that was said there.
    fn service_lan(&mut self, now: Instant) {
        self.dropped.dropped += self.lan.service(now);
        let is_tentative = self.lan.is_tentative();
        while let Some(conflict) = self.lan.next_conflict() {
            self.reports.add(if is_tentative {
                format!("{conflict}; packets of the peer wait until the address is free")
            } else {
                format!("{conflict}; both are hard to reach")
            });
        }
    }

    /// Forgets what is on its way to the peer.
    fn clear(&mut self) {
        self.burst.clear();
        (self.done, self.blocked) = (0, None);
    }
}

impl<P: Port> Port for IpAdapter<P> {
    fn wants_service(&self) -> bool {
        self.reports.has_lines() || self.port.wants_service()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        self.port.service(report);
        let is_up = self.port.is_up();
        self.lan.set_up(is_up, Instant::now());
        if !is_up {
            self.clear();
            self.reports.forget();
        }
        for line in self.reports.lines.drain(..) {
            report(&format!("{}: {line}", self.port.name()));
        }
    }

    /// The peer is one station: it needs no frames for others.
    fn attach(&mut self, station: &mut Station) {
        station.set_promiscuous(false);
        self.port.attach(station);
        let mac = EthernetAddress(station.mac().into_array());
        self.lan.attach(mac, station.max_frame(), Instant::now());
        self.clear();
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        let mut moved = self.collect(Instant::now());
        let count = self.stage.len();
        if count == 0 {
            return Ok(moved);
        }
        match station.send_burst(self.stage.frames()) {
            Ok(_) => {
                moved.frames += count;
                Ok(moved)
            }
            Err(source) => {
                let sent = match &source {
                    SendError::Busy { sent, .. } => *sent,
                    _ => 0,
                };
                moved.frames += sent;
                moved.dropped += count - sent;
                Err(NotSent { moved, source })
            }
        }
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        let now = Instant::now();
        let Self { port, lan, burst, places, .. } = self;
        if self.done == burst.len() {
            self.done = 0;
            station.recv_burst(burst);
        }
        let left = &mut burst.iter().skip(self.done).map(|frame| frame.bytes);
        let (done, mut moved) = pass(port, lan, places, left, now);
        self.done += done;
        if !moved.blocked || moved.frames > 0 {
            self.blocked = None;
        }
        if moved.blocked {
            let since = *self.blocked.get_or_insert(now);
            if now.saturating_duration_since(since) >= PEER_FULL_TIMEOUT {
                // New frames are worth more than old ones.
                moved.dropped += self.burst.len() - self.done;
                self.done = self.burst.len();
            }
        }
        self.service_lan(now);
        moved
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        self.put_burst(&mut std::iter::once(frame)) == 1
    }

    fn put_burst(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
        let now = Instant::now();
        let (done, moved) = pass(&mut self.port, &mut self.lan, &mut self.places, frames, now);
        self.dropped.dropped += moved.dropped;
        self.service_lan(now);
        done
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        self.dropped = self.collect(Instant::now());
        self.stage.frames().for_each(|staged| frame(TxRequest::new(staged, Offload::new())));
        self.stage.len()
    }

    fn dropped(&mut self) -> Moved {
        std::mem::take(&mut self.dropped)
    }

    /// While the port asks whether the peer's addresses are free, what the peer sends is no reason to
    /// stay awake.
    fn arm(&mut self) -> bool {
        let is_ready = self.lan.has_frames();
        is_ready || !self.lan.is_tentative() && self.port.arm()
    }

    fn due(&self) -> Option<Instant> {
        if self.lan.has_frames() {
            return Some(Instant::now());
        }
        [self.lan.due(), self.port.due()].into_iter().flatten().min()
    }

    forward! {
        name is_up link_state refusals closed rx_mode disarm max_sleep first_poll impair_handle
        remotes peer_details descriptors
    }
}

/// Gives the peer the packets of frames on the bus. Returns how many frames are done with, and what
/// became of them. `places` is memory to use.
fn pass<P: Port>(
    port: &mut P,
    lan: &mut LanSide,
    places: &mut Vec<usize>,
    frames: &mut dyn Iterator<Item = &[u8]>,
    now: Instant,
) -> (usize, Moved) {
    places.clear();
    let (mut seen, mut damaged) = (0, 0);
    let mut packets = frames.filter_map(|frame| {
        seen += 1;
        match lan.take_frame(frame, now) {
            FromBus::Packet(len) => {
                places.push(seen - 1);
                Some(&frame[ETHERNET_HEADER..ETHERNET_HEADER + len])
            }
            FromBus::NotForPeer => None,
            FromBus::Damaged => {
                damaged += 1;
                None
            }
        }
    });
    let taken = port.put_burst(&mut packets);
    // The first that the peer had no room for comes again.
    let done = places.get(taken).copied().unwrap_or(seen);
    (done, Moved { frames: taken, dropped: damaged, blocked: done < seen, ..Moved::default() })
}

/// Frames on their way to the bus, one behind the other in memory that is kept.
#[derive(Debug, Default)]
struct Stage {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Stage {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    fn push(&mut self, header: &[u8], rest: &[u8]) {
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(rest);
        self.ends.push(self.bytes.len());
    }

    fn frames(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end])
    }
}

/// Lines for the user: each kind of trouble once for each peer that connects, and a limited number for
/// peers that come and go.
#[derive(Debug, Default)]
struct Reports {
    lines: Vec<String>,
    budget: LineBudget,
    has_source: bool,
    has_route: bool,
}

impl Reports {
    fn has_lines(&self) -> bool {
        !self.lines.is_empty()
    }

    fn add(&mut self, line: String) {
        if self.lines.len() < MAX_LINES && self.budget.take(Instant::now()) {
            self.lines.push(line);
        }
    }

    /// Says what the user can do about packets that are dropped.
    #[inline]
    fn note_drop(&mut self, reason: Reason) {
        match reason {
            Reason::Source(from) if !self.has_source => self.note_source(from),
            Reason::NoRoute(to) if !self.has_route => self.note_route(to),
            _ => {}
        }
    }

    #[cold]
    fn note_source(&mut self, from: IpAddr) {
        self.has_source = true;
        self.add(format!(
            "packets of the peer from {from} are dropped: it is an address of this network and not \
             one of the peer's; add it to ip= if it is, and give a peer that routes a port on each \
             network that it joins"
        ));
    }

    #[cold]
    fn note_route(&mut self, to: IpAddr) {
        self.has_route = true;
        self.add(format!(
            "packets of the peer to {to} are dropped: it is on no network of ip=; name a router with \
             gateway="
        ));
    }

    /// Forgets what was reported: the next peer may be another.
    fn forget(&mut self) {
        (self.has_source, self.has_route) = (false, false);
    }
}
