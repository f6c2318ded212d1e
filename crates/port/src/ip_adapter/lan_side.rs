//! An IP peer as a station on a LAN: which Ethernet header its packets get, which frames are for it,
//! and what the port says and answers in its place. No I/O, and no clock.
//!
//! What a peer sends passes if it comes from one of the peer's addresses, or from a network behind the
//! peer. A packet from another address of the LAN is forged, or has come around a loop: two such ports
//! of one bus whose peers are each other would pass it on for ever, because no hop counts. So a peer
//! cannot route between hosts of one network: it needs a port for each network that it joins.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use neighbor::arp::Arp;
use neighbor::frame::{self, ETHERNET_HEADER, IPV6_HEADER};
use neighbor::ndisc::Ndisc;
use neighbor::{AddressConflict, Claims, Heard, Identity, link_local};
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::next_hops::{NextHops, Way};
use super::packet::Packet;
use super::too_big::TooBig;
use crate::ip_peer::IpPeer;

/// The most frames of the port itself that wait to be sent. What is lost is asked again.
const MAX_SAID: usize = 256;

/// An Ethernet header.
pub(super) type Header = [u8; ETHERNET_HEADER];

/// What becomes of a packet of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FromPeer {
    /// Its first bytes, as many as are given, leave with this header.
    Send(Header, usize),
    /// It waits for the station that it is for. So many others are dropped for it.
    Wait { dropped: usize },
    /// It is dropped.
    Drop(Reason),
}

/// Why a packet of the peer is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It is no whole packet of IP.
    NoPacket,
    /// It is neighbor discovery, which the port does itself.
    Discovery,
    /// It comes from an address that no host behind the peer can have.
    Source(IpAddr),
    /// It is for an address that no other host can have.
    Destination(IpAddr),
    /// No router leads there.
    NoRoute(IpAddr),
    /// Too many unknown stations are asked for.
    Busy,
    /// It is longer than a frame of the bus.
    TooLong,
}

/// What becomes of a frame on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FromBus {
    /// The peer gets the packet, of so many bytes behind the Ethernet header.
    Packet(usize),
    /// The peer does not get it: it is for others, or for the port itself.
    NotForPeer,
    /// It says that it is IP, and is no whole packet.
    Damaged,
}

/// The port's side of the LAN.
#[derive(Debug)]
pub(super) struct LanSide {
    /// The peer's addresses, and with IPv6 a link-local one of the port's own.
    identity: Identity,
    peer: IpPeer,
    /// Bytes of the longest frame.
    longest: usize,
    claims: Claims,
    next_hops: NextHops,
    /// Where the latest packet went: the next is likely to go there, too.
    latest: Option<Latest>,
    /// What the port says itself.
    said: Vec<Vec<u8>>,
    /// Packets of the peer whose station has answered.
    released: VecDeque<Vec<u8>>,
    too_big: TooBig,
    is_up: bool,
}

#[derive(Debug)]
struct Latest {
    ends: (IpAddr, IpAddr),
    header: Header,
    until: Instant,
}

impl LanSide {
    pub(super) fn new(peer: IpPeer) -> Self {
        Self {
            identity: Identity::new(EthernetAddress([0; 6]), Vec::new()),
            peer,
            longest: usize::MAX,
            claims: Claims::default(),
            next_hops: NextHops::default(),
            latest: None,
            said: Vec::new(),
            released: VecDeque::new(),
            too_big: TooBig::default(),
            is_up: false,
        }
    }

    /// Begins anew as the station `mac` of a bus, which carries frames of `longest` bytes.
    pub(super) fn attach(&mut self, mac: EthernetAddress, longest: usize, now: Instant) {
        let own = self.peer.addresses.iter();
        let own = own.map(|own| IpCidr::new(own.addr().into(), own.prefix_len()));
        let link_local = self.peer.has_v6().then(|| link_local(mac));
        self.identity = Identity::new(mac, own.chain(link_local).collect());
        self.longest = longest;
        let is_up = std::mem::take(&mut self.is_up);
        self.set_up(is_up, now);
    }

    /// Follows the link of the peer. When that comes up, the port asks whether other stations have
    /// the peer's addresses, and announces them.
    pub(super) fn set_up(&mut self, is_up: bool, now: Instant) {
        if is_up == std::mem::replace(&mut self.is_up, is_up) {
            return;
        }
        (self.claims, self.next_hops) = Default::default();
        self.latest = None;
        self.said.clear();
        self.released.clear();
        self.too_big.clear();
        if is_up {
            self.claims.begin();
            self.claims.link_changed(now);
        }
    }

    /// Returns whether the port still asks whether the peer's addresses are free. The peer's packets
    /// are not to be taken until then.
    pub(super) fn is_tentative(&self) -> bool {
        self.claims.is_tentative()
    }

    /// Returns the next conflict about an address of the peer, each once.
    pub(super) fn next_conflict(&mut self) -> Option<AddressConflict> {
        self.claims.next_conflict()
    }

    /// Returns whether frames wait to be sent.
    pub(super) fn has_frames(&self) -> bool {
        !(self.said.is_empty() && self.released.is_empty())
    }

    /// Passes the frames that wait to be sent to `send`.
    pub(super) fn drain_frames(&mut self, send: &mut dyn FnMut(&[u8])) {
        self.said.drain(..).chain(self.released.drain(..)).for_each(|frame| send(&frame));
    }

    /// Does what is due. Returns how many packets are dropped because the stations that they are for
    /// are not there.
    pub(super) fn service(&mut self, now: Instant) -> usize {
        let Self { identity, claims, next_hops, said, .. } = self;
        claims.speak(identity, now, said);
        let dropped = next_hops.service(now, &mut |host| said.extend(identity.question(host)));
        said.truncate(MAX_SAID);
        if dropped > 0 {
            self.latest = None;
        }
        dropped
    }

    /// Returns when the next [`service`](Self::service) is due.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.claims.due(), self.next_hops.due()].into_iter().flatten().min()
    }

    /// Decides about a packet of the peer.
    #[inline]
    pub(super) fn take_packet(&mut self, bytes: &[u8], now: Instant) -> FromPeer {
        let Some(packet) = Packet::read(bytes) else { return FromPeer::Drop(Reason::NoPacket) };
        if ETHERNET_HEADER + packet.len > self.longest {
            self.note_too_long(&packet, bytes, now);
            return FromPeer::Drop(Reason::TooLong);
        }
        let ends = (packet.source, packet.destination);
        if !packet.is_discovery
            && let Some(latest) = &self.latest
            && latest.ends == ends
            && now < latest.until
        {
            return FromPeer::Send(latest.header, packet.len);
        }
        self.route(&packet, bytes, now)
    }

    /// Makes a message to the peer about a packet that is too long, if it could have passed otherwise.
    #[cold]
    fn note_too_long(&mut self, packet: &Packet, bytes: &[u8], now: Instant) {
        let to = packet.destination;
        if self.may_come_from(packet.source)
            && self.group(to).is_none()
            && !self.identity.is_martian(to)
        {
            self.too_big.note(packet, bytes, self.longest - ETHERNET_HEADER, now);
        }
    }

    /// Returns whether the peer may send from an address: one of its own, or of a network behind it.
    fn may_come_from(&self, source: IpAddr) -> bool {
        self.is_own(source) || !(self.identity.is_martian(source) || self.identity.reaches(source))
    }

    /// Takes out the packets that the port itself has for the peer.
    pub(super) fn take_messages(&mut self) -> Vec<Vec<u8>> {
        self.too_big.take()
    }

    fn route(&mut self, packet: &Packet, bytes: &[u8], now: Instant) -> FromPeer {
        let Packet { source, destination, len, .. } = *packet;
        if packet.is_discovery {
            return FromPeer::Drop(Reason::Discovery);
        }
        if !self.may_come_from(source) {
            return FromPeer::Drop(Reason::Source(source));
        }
        if let Some(group) = self.group(destination) {
            return FromPeer::Send(self.header(group, packet), len);
        }
        // Its own addresses are among these.
        if self.identity.is_martian(destination) {
            return FromPeer::Drop(Reason::Destination(destination));
        }
        let Some(hop) = self.next_hop(destination) else {
            return FromPeer::Drop(Reason::NoRoute(destination));
        };
        match self.next_hops.find(hop, now) {
            Way::Known(mac, until) => {
                let header = self.header(mac, packet);
                self.latest = Some(Latest { ends: (source, destination), header, until });
                FromPeer::Send(header, len)
            }
            Way::Asked => {
                let header = self.header(EthernetAddress([0; 6]), packet);
                let frame = [&header[..], &bytes[..len]].concat();
                FromPeer::Wait { dropped: self.next_hops.wait(hop, frame) }
            }
            Way::Busy => FromPeer::Drop(Reason::Busy),
        }
    }

    /// Decides about a frame on the bus, and takes what it says of other stations.
    #[inline]
    pub(super) fn take_frame(&mut self, frame: &[u8], now: Instant) -> FromBus {
        let Some(payload) = frame.get(ETHERNET_HEADER..) else { return FromBus::NotForPeer };
        let to = frame::destination(frame);
        if to.is_unicast() && to != self.identity.mac {
            return FromBus::NotForPeer;
        }
        let kind = [frame[12], frame[13]];
        if kind == frame::ARP {
            self.take_arp(frame, now);
            return FromBus::NotForPeer;
        }
        if kind != frame::IPV4 && kind != frame::IPV6 {
            return FromBus::NotForPeer;
        }
        let packet = Packet::read(payload).filter(|packet| packet.ether_type() == kind);
        let Some(packet) = packet else { return FromBus::Damaged };
        if packet.is_discovery {
            self.take_discovery(&packet, payload, frame::source(frame), now);
            return FromBus::NotForPeer;
        }
        let is_for_peer = self.is_own(packet.destination)
            || self.group(packet.destination).is_some()
            // Behind the peer. Such a packet in a frame for all is for none (RFC 1122).
            || to.is_unicast() && !self.identity.has(packet.destination);
        if is_for_peer { FromBus::Packet(packet.len) } else { FromBus::NotForPeer }
    }

    fn take_arp(&mut self, frame: &[u8], now: Instant) {
        let Some(arp) = Arp::read(frame) else { return };
        let heard = self.claims.take_arp(&self.identity, &arp, now, &mut self.said);
        self.learn(heard, now);
    }

    fn take_discovery(
        &mut self,
        packet: &Packet,
        payload: &[u8],
        source: EthernetAddress,
        now: Instant,
    ) {
        let (IpAddr::V6(from), IpAddr::V6(to)) = (packet.source, packet.destination) else {
            return;
        };
        let message = &payload[IPV6_HEADER..packet.len];
        let Some(said) = Ndisc::read(message, from, to, packet.hop_limit) else { return };
        let sender = (from, source);
        let heard = self.claims.take_ndisc(&self.identity, said, sender, now, &mut self.said);
        self.learn(heard, now);
    }

    fn learn(&mut self, heard: Option<Heard>, now: Instant) {
        self.said.truncate(MAX_SAID);
        let Some(Heard { address, mac, is_for_us, overrides }) = heard else { return };
        self.latest = None;
        self.released.extend(self.next_hops.learn(address, mac, (is_for_us, overrides), now));
    }

    /// Returns whether an address is one of the peer's.
    fn is_own(&self, address: IpAddr) -> bool {
        self.peer.addresses.iter().any(|own| own.addr() == address)
    }

    /// Returns the Ethernet address of a group: of all stations, or of a multicast group.
    fn group(&self, destination: IpAddr) -> Option<EthernetAddress> {
        match destination {
            IpAddr::V4(address) if self.identity.is_broadcast(address) => {
                Some(EthernetAddress::BROADCAST)
            }
            IpAddr::V4(address) if address.is_multicast() => Some(frame::group_mac_v4(address)),
            IpAddr::V6(address) if address.is_multicast() => Some(frame::group_mac(address)),
            _ => None,
        }
    }

    /// Returns the host on the LAN that a packet is sent to.
    fn next_hop(&self, destination: IpAddr) -> Option<IpAddr> {
        if self.identity.reaches(destination) {
            return Some(destination);
        }
        let is_local = match destination {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        let v6 = destination.is_ipv6();
        self.peer.gateways.iter().copied().find(|router| router.is_ipv6() == v6 && !is_local)
    }

    fn header(&self, to: EthernetAddress, packet: &Packet) -> Header {
        let mut header = [0; ETHERNET_HEADER];
        header[..6].copy_from_slice(&to.0);
        header[6..12].copy_from_slice(&self.identity.mac.0);
        header[12..].copy_from_slice(&packet.ether_type());
        header
    }
}

#[cfg(test)]
mod tests;
