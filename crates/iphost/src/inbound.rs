//! What a host does with a frame before its stack gets it: most frames pass, and what the stack
//! would do wrong, or not at all, is done here.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use shmbus::offload::{Capabilities, verify};
use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv4Packet, Ipv6FragmentHeader, Ipv6Packet};

use crate::dhcp::DhcpReplies;
use crate::echo_watch::{EchoWatch, Message, V4_REQUEST, V6_REQUEST, is_watched};
use crate::extension::{self, Chain, UNKNOWN_NEXT_HEADER};
use crate::flow::Flow;
use crate::icmp_error::IcmpError;
use crate::mss;
use crate::reassembly::{Fragment, PacketId, Reassembly};
use crate::resolver::Resolver;
use crate::vlan;
use neighbor::Destination;
use neighbor::frame::{self, ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER};
use neighbor::icmp_error::Limit;

/// Bytes of IPv6's fragment header.
const FRAGMENT_HEADER: usize = 8;
/// How many ICMP errors a host sends in a second at most.
const MAX_ERRORS: u32 = 50;
/// Types of messages of neighbor discovery: from a router's solicitation to a redirect.
const NDISC: std::ops::RangeInclusive<u8> = 133..=137;

/// A frame that the stack gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The frame, if it is not the one that came.
    pub(crate) instead: Option<Vec<u8>>,
    /// It was for a group, so the stack sends no error about it.
    pub(crate) is_for_group: bool,
}

impl Passed {
    /// Sets the frame that the stack gets, unless it gets another already.
    fn instead(mut self, frame: Option<Vec<u8>>) -> Self {
        self.instead = self.instead.or(frame);
        self
    }
}

/// The way in.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) resolver: Resolver,
    pub(crate) watches: Vec<EchoWatch>,
    /// Present when the host asks for an address by DHCP.
    pub(crate) dhcp: Option<DhcpReplies>,
    reassembly: Reassembly,
    errors: Limit,
    /// The flow of the latest packet of TCP.
    flow: Option<Flow>,
    /// Bytes of the longest packet that fits a frame.
    mtu: usize,
    now: Instant,
}

/// An IP packet that is for the host.
struct Received<'f> {
    /// The whole frame. It ends with the packet.
    frame: &'f [u8],
    from: IpAddr,
    to: IpAddr,
    is_own: bool,
    protocol: IpProtocol,
    /// Where its payload begins in the frame.
    payload: usize,
    hop_limit: u8,
}

impl Inbound {
    pub(crate) fn new(resolver: Resolver, mtu: usize, now: Instant) -> Self {
        Self {
            resolver,
            watches: Vec::new(),
            dhcp: None,
            reassembly: Reassembly::default(),
            errors: Limit::new(MAX_ERRORS),
            flow: None,
            mtu,
            now,
        }
    }

    /// Sets the largest packet that the device sends.
    pub(crate) fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
    }

    /// Sets the time for what follows, and does what is due.
    pub(crate) fn service(&mut self, now: Instant) {
        self.now = now;
        self.resolver.service(now);
        if self.reassembly.is_empty() {
            return;
        }
        for first in self.reassembly.expire(now) {
            let Some((from, to)) = ends(&first) else { continue };
            let error = IcmpError::reassembly_timeout(from.is_ipv4());
            self.refuse(&first, (from, to), error);
        }
    }

    /// Returns when there is something to do next: at once, when there is something to send.
    pub(crate) fn due(&self) -> Option<Instant> {
        let sends = !self.resolver.answers.is_empty()
            || !self.resolver.resolved.is_empty()
            || self.resolver.configuration.is_changed();
        if sends { Some(self.now) } else { self.resolver.due() }
    }

    /// Looks at a frame from the device. Returns `None` when the stack does not get it.
    pub(crate) fn take(&mut self, frame: &[u8]) -> Option<Passed> {
        if let Some(flow) = self.flow.as_ref().filter(|flow| flow.has(frame))
            && self.resolver.is_latest(flow.from, flow.mac, self.now)
        {
            return Some(Passed { instead: None, is_for_group: false });
        }
        if frame.len() < ETHERNET_HEADER || !frame::source(frame).is_unicast() {
            return None;
        }
        let to = frame::destination(frame);
        if to != self.resolver.identity().mac && !is_group(to) {
            return None;
        }
        match vlan::untagged(frame)? {
            Cow::Borrowed(frame) => self.take_untagged(frame),
            Cow::Owned(plain) => Some(self.take_untagged(&plain)?.instead(Some(plain))),
        }
    }

    fn take_untagged(&mut self, frame: &[u8]) -> Option<Passed> {
        match [*frame.get(12)?, *frame.get(13)?] {
            frame::IPV4 => self.take_v4(frame),
            frame::IPV6 => self.take_v6(frame),
            frame::ARP => {
                self.resolver.take_arp(frame, self.now);
                None
            }
            _ => None,
        }
    }

    fn take_v4(&mut self, frame: &[u8]) -> Option<Passed> {
        let packet = Ipv4Packet::new_checked(&frame[ETHERNET_HEADER..]).ok()?;
        let header_len = usize::from(packet.header_len());
        if packet.version() != 4 || header_len < IPV4_HEADER {
            return None;
        }
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let identity = self.resolver.identity();
        if let Some(dhcp) = &mut self.dhcp
            && !identity.is_martian(from.into())
            && dhcp.take(frame, identity.mac)
        {
            return Some(Passed { instead: None, is_for_group: true });
        }
        let is_own = self.is_accepted(from.into(), to.into(), frame)?;
        let frame = &frame[..ETHERNET_HEADER + usize::from(packet.total_len())];
        if packet.more_frags() || packet.frag_offset() != 0 {
            if !is_own || !packet.verify_checksum() {
                return None;
            }
            let whole = self.add_v4(frame, &packet)?;
            return Some(self.take_v4(&whole)?.instead(Some(whole)));
        }
        self.take_packet(&Received {
            frame,
            from: from.into(),
            to: to.into(),
            is_own,
            protocol: packet.next_header(),
            payload: ETHERNET_HEADER + header_len,
            hop_limit: packet.hop_limit(),
        })
    }

    /// Adds a fragment; returns the frame of a whole packet.
    fn add_v4(&mut self, frame: &[u8], packet: &Ipv4Packet<&[u8]>) -> Option<Vec<u8>> {
        let data = ETHERNET_HEADER + usize::from(packet.header_len());
        let fragment = Fragment {
            id: PacketId {
                from: packet.src_addr().into(),
                to: packet.dst_addr().into(),
                protocol: packet.next_header().into(),
                identification: packet.ident().into(),
            },
            offset: packet.frag_offset().into(),
            more: packet.more_frags(),
            data: &frame[data..],
            head: &frame[..data],
            frame,
        };
        let mut whole = self.reassembly.add(&fragment, self.now)?;
        let len = u16::try_from(whole.len() - ETHERNET_HEADER).ok()?;
        let mut packet = Ipv4Packet::new_unchecked(&mut whole[ETHERNET_HEADER..]);
        packet.set_total_len(len);
        packet.clear_flags();
        packet.set_frag_offset(0);
        packet.fill_checksum();
        // A device that checks checksums cannot check those of fragments.
        (!verify(&whole, Capabilities::RX).is_bad()).then_some(whole)
    }

    fn take_v6(&mut self, frame: &[u8]) -> Option<Passed> {
        let packet = Ipv6Packet::new_checked(&frame[ETHERNET_HEADER..]).ok()?;
        if packet.version() != 6 {
            return None;
        }
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let frame = &frame[..ETHERNET_HEADER + packet.total_len()];
        if from.is_unspecified() || self.resolver.identity().has(from.into()) {
            self.take_claim(frame, &packet);
            return None;
        }
        let is_own = self.is_accepted(from.into(), to.into(), frame)?;
        match extension::read(&frame[ETHERNET_HEADER..]) {
            Chain::Payload { protocol, named_at, begin } => {
                self.take_v6_payload(frame, (from, to), is_own, (protocol, named_at, begin))
            }
            Chain::Fragment { named_at, begin } => {
                let whole = self.add_v6(frame, (from, to), is_own, (named_at, begin))?;
                self.take_whole_v6(whole)
            }
            Chain::Refused { code, pointer, also_multicast } => {
                if also_multicast || (is_own && !is_group(frame::destination(frame))) {
                    let error = IcmpError::parameter_problem(code, pointer);
                    self.refuse(frame, (from.into(), to.into()), error);
                }
                None
            }
            Chain::Dropped => None,
        }
    }

    /// Takes a packet of a host that has no address yet, or uses one of this host's: it can only ask
    /// whether an address is free, or say that it is its own.
    fn take_claim(&mut self, frame: &[u8], packet: &Ipv6Packet<&[u8]>) {
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        if packet.next_header() == IpProtocol::Icmpv6 {
            let source = frame::source(frame);
            let limit = packet.hop_limit();
            self.resolver.take_ndisc(packet.payload(), (from, to), limit, source, self.now);
        }
    }

    fn take_v6_payload(
        &mut self,
        frame: &[u8],
        (from, to): (Ipv6Addr, Ipv6Addr),
        is_own: bool,
        (protocol, named_at, begin): (u8, usize, usize),
    ) -> Option<Passed> {
        let is_known = [IpProtocol::Icmpv6, IpProtocol::Tcp, IpProtocol::Udp]
            .contains(&IpProtocol::from(protocol));
        if !is_known {
            if is_own && !is_group(frame::destination(frame)) {
                let error = IcmpError::parameter_problem(UNKNOWN_NEXT_HEADER, named_at);
                self.refuse(frame, (from.into(), to.into()), error);
            }
            return None;
        }
        let plain = extension::removed(frame, ETHERNET_HEADER, protocol, begin);
        let passed = self.take_packet(&Received {
            frame: plain.as_deref().unwrap_or(frame),
            from: from.into(),
            to: to.into(),
            is_own,
            protocol: protocol.into(),
            payload: ETHERNET_HEADER + if plain.is_some() { IPV6_HEADER } else { begin },
            hop_limit: frame[ETHERNET_HEADER + 7],
        })?;
        Some(passed.instead(plain))
    }

    /// Adds a fragment; returns the frame of a whole packet. A packet in a single fragment is one by
    /// itself, whatever else waits (RFC 6946).
    fn add_v6(
        &mut self,
        frame: &[u8],
        (from, to): (Ipv6Addr, Ipv6Addr),
        is_own: bool,
        (named_at, begin): (usize, usize),
    ) -> Option<Vec<u8>> {
        let at = ETHERNET_HEADER + begin;
        let header = frame.get(at..at + FRAGMENT_HEADER)?;
        let fields = Ipv6FragmentHeader::new_unchecked(&header[2..]);
        let offset = usize::from(fields.frag_offset()) * 8;
        let more = fields.more_frags();
        let data = &frame[at + FRAGMENT_HEADER..];
        let mut head = frame[..at].to_vec();
        head[ETHERNET_HEADER + named_at] = header[0];
        let mut whole = if offset == 0 && !more {
            [&head, data].concat()
        } else {
            let error = if more && !data.len().is_multiple_of(8) {
                // RFC 8200: the payload's length is the field that is wrong, or the offset's.
                Some(IcmpError::parameter_problem(0, 4))
            } else if offset + data.len() + begin - IPV6_HEADER > frame::MAX_PACKET {
                Some(IcmpError::parameter_problem(0, begin + 2))
            } else {
                None
            };
            if !is_own || error.is_some() {
                if let Some(error) = error.filter(|_| is_own) {
                    self.refuse(frame, (from.into(), to.into()), error);
                }
                return None;
            }
            let id = PacketId {
                from: from.into(),
                to: to.into(),
                protocol: 0,
                identification: fields.ident(),
            };
            let fragment = Fragment { id, offset, more, data, head: &head, frame };
            self.reassembly.add(&fragment, self.now)?
        };
        let len = u16::try_from(whole.len() - ETHERNET_HEADER - IPV6_HEADER).ok()?;
        Ipv6Packet::new_unchecked(&mut whole[ETHERNET_HEADER..]).set_payload_len(len);
        Some(whole)
    }

    /// Takes a packet that was in fragments.
    fn take_whole_v6(&mut self, whole: Vec<u8>) -> Option<Passed> {
        let whole = match extension::read(&whole[ETHERNET_HEADER..]) {
            // RFC 6980: fragments are a way around those who watch over neighbor discovery.
            Chain::Payload { protocol, begin, .. }
                if IpProtocol::from(protocol) == IpProtocol::Icmpv6
                    && NDISC.contains(whole.get(ETHERNET_HEADER + begin)?) =>
            {
                return None;
            }
            Chain::Payload { protocol, begin, .. } => {
                extension::removed(&whole, ETHERNET_HEADER, protocol, begin).unwrap_or(whole)
            }
            // Nothing makes fragments of fragments.
            Chain::Fragment { .. } => return None,
            Chain::Refused { .. } | Chain::Dropped => whole,
        };
        // A device that checks checksums cannot check those of fragments.
        if verify(&whole, Capabilities::RX).is_bad() {
            return None;
        }
        Some(self.take_v6(&whole)?.instead(Some(whole)))
    }

    /// Returns whether a packet is for one of the host's own addresses, and `None` when it is not
    /// for the host, or from where none can be.
    fn is_accepted(&self, from: IpAddr, to: IpAddr, frame: &[u8]) -> Option<bool> {
        let identity = self.resolver.identity();
        if identity.is_martian(from) {
            return None;
        }
        match identity.destination(to) {
            // RFC 1122: what all stations get is not for one address.
            Destination::Own if to.is_ipv4() && is_group(frame::destination(frame)) => None,
            Destination::Own => Some(true),
            Destination::Group => Some(false),
            Destination::Other => None,
        }
    }

    /// Takes a packet without extension headers or fragments.
    fn take_packet(&mut self, received: &Received<'_>) -> Option<Passed> {
        let Received { frame, from, to, is_own, .. } = *received;
        let v6 = from.is_ipv6();
        let bytes = &frame[received.payload..];
        let kind = bytes.first().copied();
        let is_icmp = received.protocol == if v6 { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
        if is_icmp {
            if v6 && kind.is_some_and(|kind| NDISC.contains(&kind)) {
                let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) else { return None };
                let (limit, source) = (received.hop_limit, frame::source(frame));
                self.resolver.take_ndisc(bytes, (from, to), limit, source, self.now);
                return None;
            }
            if kind.is_some_and(|kind| is_watched(v6, kind)) {
                let message = Message { from, to, hop_limit: received.hop_limit, bytes };
                if is_own {
                    self.resolver.heard(from, frame::source(frame), self.now);
                    self.watches.iter_mut().for_each(|watch| watch.take(&message));
                }
                return None;
            }
        }
        // For a group there are datagrams, and IPv6's echo requests. An IPv4 host does not answer
        // those: a storm would follow.
        let is_for_groups =
            received.protocol == IpProtocol::Udp || (v6 && is_icmp && kind == Some(V6_REQUEST));
        if !is_own && !is_for_groups {
            return None;
        }
        let clamped = mss::is_too_large(frame, self.mtu).then(|| {
            let mut clamped = frame.to_vec();
            mss::clamp(&mut clamped, self.mtu);
            clamped
        });
        let is_answered = is_own || is_icmp;
        let frame = clamped.as_deref().unwrap_or(frame);
        if is_answered && !self.resolver.admit(from, frame, self.now) {
            return None;
        }
        let is_for_group = !is_own || is_group(frame::destination(frame));
        if received.protocol == IpProtocol::Tcp && !is_for_group {
            self.flow = Flow::of(frame, from);
        }
        Some(Passed { instead: clamped, is_for_group })
    }

    /// Tells the sender of a frame what is wrong with it.
    fn refuse(&mut self, frame: &[u8], (from, to): (IpAddr, IpAddr), error: IcmpError) {
        let identity = self.resolver.identity();
        let routed = || self.resolver.configuration.source_for(from, self.now);
        let own = if identity.has(to) { Some(to) } else { routed() };
        let mac = identity.mac;
        if !is_about_error(frame)
            && let Some(own) = own
            && self.errors.take(self.now)
        {
            self.resolver.answers.push(error.frame((own, mac), from, frame));
        }
    }
}

/// Returns whether the frame is for a group of stations.
fn is_group(mac: EthernetAddress) -> bool {
    mac.0[0] & 1 != 0
}

/// Returns whether a frame carries an ICMP error, about which no other is sent.
fn is_about_error(frame: &[u8]) -> bool {
    let packet = &frame[ETHERNET_HEADER..];
    let (protocol, at) = if frame[12..14] == frame::IPV4 {
        (packet[9], usize::from(packet[0] & 0x0f) * 4)
    } else {
        (packet[6], IPV6_HEADER)
    };
    let kind = packet.get(at).copied();
    match IpProtocol::from(protocol) {
        IpProtocol::Icmp => kind != Some(V4_REQUEST),
        IpProtocol::Icmpv6 => kind.is_none_or(|kind| kind < 128),
        _ => false,
    }
}

/// Returns the ends of the packet in a frame.
fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let packet = &frame[ETHERNET_HEADER..];
    if frame[12..14] == frame::IPV4 {
        let [from, to] = [12, 16].map(|at| packet.get(at..)?.first_chunk::<4>().copied());
        Some((Ipv4Addr::from(from?).into(), Ipv4Addr::from(to?).into()))
    } else {
        let [from, to] = [8, 24].map(|at| packet.get(at..)?.first_chunk::<16>().copied());
        Some((Ipv6Addr::from(from?).into(), Ipv6Addr::from(to?).into()))
    }
}
