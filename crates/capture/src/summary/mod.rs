//! Summarizes a frame in one line: source and destination, the innermost protocol, and what it
//! says.
//!
//! Frames are untrusted input. A frame that is damaged is shown as far as it can be parsed.

mod control;
mod details;
#[cfg(test)]
mod judged;
mod messages;
mod text;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::icmpv6::Icmpv6PayloadSlice;
use etherparse::{
    ArpOperation, ArpPacketSlice, EtherType, IcmpEchoHeader, Icmpv4Slice, Icmpv4Type, Icmpv6Slice,
    Icmpv6Type, IpNumber, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice,
    TransportSlice,
};

pub use self::details::{Details, PacketDetails};
use self::text::{Mac, half, word};

/// The smallest `EtherType`. A smaller number in its place is the length of an IEEE 802.3 frame.
const FIRST_ETHER_TYPE: u16 = 0x0600;

/// Displays an Ethernet frame in one line, `SOURCE > DESTINATION, CONTENTS`.
///
/// The alternate form, `{:#}`, leaves the addresses of the frame out. Packets in packets (VXLAN, GRE,
/// MPLS, `PPPoE`) are followed some levels deep.
///
/// It never fails: a damaged frame is shown as far as it can be parsed. The line holds no control
/// characters, whatever the frame holds.
///
/// ```
/// use capture::Summary;
///
/// let frame = b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5hello";
/// assert_eq!(
///     Summary(frame).to_string(),
///     "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, EtherType 0x88b5",
/// );
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a>(pub &'a [u8]);

/// Displays an IP packet in one line, as [`Summary`] does with `{:#}` for the frame that carries it.
///
/// ```
/// use capture::PacketSummary;
///
/// assert_eq!(PacketSummary(b"\0").to_string(), "no IP packet");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PacketSummary<'a>(pub &'a [u8]);

impl fmt::Display for PacketSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (LaxSlicedPacket::from_ip(self.0), self.0.first().map(|byte| byte >> 4)) {
            (Ok(packet), _) if packet.net.is_some() => write_packet(f, &packet, 0),
            (_, Some(4)) => write_damaged(f, EtherType::IPV4, self.0),
            (_, Some(6)) => write_damaged(f, EtherType::IPV6, self.0),
            _ => f.write_str("no IP packet"),
        }
    }
}

/// Packets in packets are followed so deep.
const MAX_DEPTH: usize = 3;

/// The numbers of protocols in IP that carry other packets.
const IPV4_INSIDE: u8 = 4;
const IPV6_INSIDE: u8 = 41;
const GRE: u8 = 47;
const ETHER_IP: u8 = 97;
const MPLS_IN_IP: u8 = 137;
const ETHERNET: u8 = 143;

/// The numbers of protocols that begin with the ports of both ends.
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Types of Ethernet frames that carry others.
const ETHERNET_INSIDE: u16 = 0x6558;
const VLAN_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const PPPOE_DISCOVERY: u16 = 0x8863;
const PPPOE_SESSION: u16 = 0x8864;
const MPLS: [u16; 2] = [0x8847, 0x8848];
const NETWORK_SERVICE_HEADER: u16 = 0x894f;

/// What GRE says it carries, where that is no type of Ethernet frames: PPP, Ethernet as `MikroTik`'s
/// routers send it, and packets behind a header of WCCP.
const PPP_IN_GRE: u16 = 0x880b;
const ETHERNET_OF_MIKROTIK: u16 = 0x6400;
const WCCP_IN_GRE: u16 = 0x883e;

/// The UDP ports of VXLAN, of its extension for any protocol, and of Geneve.
const VXLAN: u16 = 4789;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_frame(f, self.0, !f.alternate(), 0)
    }
}

/// Writes a frame, with its addresses or without. It lies in `depth` others.
fn write_frame(
    f: &mut fmt::Formatter<'_>,
    frame: &[u8],
    has_addresses: bool,
    depth: usize,
) -> fmt::Result {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        return f.write_str("too short for Ethernet");
    };
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else {
        return f.write_str("not Ethernet");
    };
    if has_addresses {
        write!(f, "{} > {}, ", Mac(ethernet.source()), Mac(ethernet.destination()))?;
    }
    let mut ether_type = ethernet.ether_type();
    for tag in &packet.link_exts {
        match tag {
            LaxLinkExtSlice::Vlan(vlan) => {
                write!(f, "VLAN {}, ", vlan.vlan_identifier().value())?;
                ether_type = vlan.ether_type();
            }
            LaxLinkExtSlice::Macsec(macsec) => {
                f.write_str("MACsec, ")?;
                match macsec.next_ether_type() {
                    Some(inner) => ether_type = inner,
                    None => return f.write_str("encrypted"),
                }
            }
        }
    }
    if packet.net.is_some() {
        return write_packet(f, &packet, depth);
    }
    let damaged = packet.stop_err.is_some();
    match packet.ether_payload() {
        Some(payload) if !damaged => write_payload(f, ether_type.0, payload.payload, depth),
        Some(payload) => write_damaged(f, ether_type, payload.payload),
        None => write_unknown(f, ether_type, damaged),
    }
}

/// Writes what a frame of this type carries.
fn write_payload(
    f: &mut fmt::Formatter<'_>,
    ether_type: u16,
    payload: &[u8],
    depth: usize,
) -> fmt::Result {
    match ether_type {
        length if length < FIRST_ETHER_TYPE => match control::write_llc(f, length, payload)? {
            Some((ether_type, packet)) => write_inner(f, ether_type, packet, depth),
            None => Ok(()),
        },
        tag if VLAN_TAGS.contains(&tag) => match (half(payload, 0), half(payload, 2)) {
            (Some(tag), Some(ether_type)) => {
                write!(f, "VLAN {}, ", tag & 0xfff)?;
                write_inner(f, ether_type, &payload[4..], depth)
            }
            _ => f.write_str("VLAN, damaged"),
        },
        PPPOE_DISCOVERY => write_pppoe_discovery(f, payload),
        PPPOE_SESSION => write_pppoe_session(f, payload, depth),
        PPP_IN_GRE => write_ppp(f, payload, depth),
        label if MPLS.contains(&label) => write_mpls(f, payload, depth),
        0x88cc => control::write_lldp(f, payload),
        0x8809 => control::write_slow(f, payload),
        0x888e => f.write_str("EAPOL"),
        0x8808 => f.write_str("MAC control, pause"),
        other => write_unknown(f, EtherType(other), false),
    }
}

/// Writes what another protocol carries: a packet with the type that it would have in Ethernet.
fn write_inner(
    f: &mut fmt::Formatter<'_>,
    ether_type: u16,
    packet: &[u8],
    depth: usize,
) -> fmt::Result {
    let depth = depth + 1;
    if depth > MAX_DEPTH {
        return f.write_str("more inside");
    }
    match EtherType(ether_type) {
        EtherType(ETHERNET_INSIDE) => write_frame(f, packet, true, depth),
        ip @ (EtherType::IPV4 | EtherType::IPV6) => match LaxSlicedPacket::from_ip(packet) {
            Ok(slices) if slices.net.is_some() => write_packet(f, &slices, depth),
            _ => write_damaged(f, ip, packet),
        },
        other => write_payload(f, other.0, packet, depth),
    }
}

fn write_pppoe_discovery(f: &mut fmt::Formatter<'_>, payload: &[u8]) -> fmt::Result {
    let (Some(code), Some(session)) = (payload.get(1), half(payload, 2)) else {
        return f.write_str("PPPoE, damaged");
    };
    let name = match code {
        0x09 => "PADI",
        0x07 => "PADO",
        0x19 => "PADR",
        0x65 => "PADS",
        0xa7 => "PADT",
        _ => "discovery",
    };
    write!(f, "PPPoE {name}, session {session}")
}

fn write_pppoe_session(f: &mut fmt::Formatter<'_>, payload: &[u8], depth: usize) -> fmt::Result {
    let (Some(session), Some(length), Some(padded)) =
        (half(payload, 2), half(payload, 4), payload.get(6..))
    else {
        return f.write_str("PPPoE, damaged");
    };
    write!(f, "PPPoE session {session}, ")?;
    write_ppp(f, padded.get(..length.into()).unwrap_or(padded), depth)
}

/// Writes a frame of PPP, with its header of HDLC or without.
fn write_ppp(f: &mut fmt::Formatter<'_>, frame: &[u8], depth: usize) -> fmt::Result {
    let frame = match frame {
        [0xff, _, frame @ ..] => frame,
        _ => frame,
    };
    // Both ends can agree on one byte for the protocol, which is then odd.
    let (protocol, packet) = match frame {
        [protocol, packet @ ..] if protocol & 1 == 1 => (u16::from(*protocol), packet),
        [high, low, packet @ ..] => (u16::from_be_bytes([*high, *low]), packet),
        _ => return f.write_str("PPP, damaged"),
    };
    match protocol {
        0x0021 => write_inner(f, EtherType::IPV4.0, packet, depth),
        0x0057 => write_inner(f, EtherType::IPV6.0, packet, depth),
        0x0281 | 0x0283 => write_mpls(f, packet, depth),
        0x8021 => f.write_str("IPCP"),
        0x8057 => f.write_str("IPV6CP"),
        0x80fd => f.write_str("CCP"),
        0xc021 => f.write_str("LCP"),
        0xc023 => f.write_str("PAP"),
        0xc223 => f.write_str("CHAP"),
        other => write!(f, "PPP {other:#06x}, length {}", packet.len()),
    }
}

fn write_mpls(f: &mut fmt::Formatter<'_>, mut payload: &[u8], depth: usize) -> fmt::Result {
    f.write_str("MPLS ")?;
    // As many labels as a stack may reasonably have; a line has an end.
    for index in 0..16 {
        let Some(entry) = word(payload, 0) else { return f.write_str("damaged") };
        payload = &payload[4..];
        write!(f, "{}{}", if index == 0 { "" } else { "/" }, entry >> 12)?;
        if entry & 0x100 != 0 {
            f.write_str(", ")?;
            // Nothing says what follows. Its first bits do.
            return match payload.first().map(|byte| byte >> 4) {
                Some(4) => write_inner(f, EtherType::IPV4.0, payload, depth),
                Some(6) => write_inner(f, EtherType::IPV6.0, payload, depth),
                // A control word, before a frame.
                Some(0) if payload.len() >= 18 => {
                    write_inner(f, ETHERNET_INSIDE, &payload[4..], depth)
                }
                // The header of a control channel.
                Some(0 | 1) => write!(f, "length {}", payload.len()),
                // A frame without a control word.
                _ if payload.len() >= 14 => write_inner(f, ETHERNET_INSIDE, payload, depth),
                _ => write!(f, "length {}", payload.len()),
            };
        }
    }
    f.write_str("/...")
}

fn write_gre(f: &mut fmt::Formatter<'_>, payload: &[u8], depth: usize) -> fmt::Result {
    let (Some(flags), Some(protocol)) = (half(payload, 0), half(payload, 2)) else {
        return f.write_str("GRE, damaged");
    };
    // Each field is there when its flag is set. The routes need an offset, which comes with the
    // checksum. Only PPTP, which carries PPP, has an acknowledgment.
    let has = |flag: u16| flags & flag != 0;
    let field = |is_there: bool| if is_there { 4 } else { 0 };
    let has_routes = has(0x4000);
    let key_at = 4 + field(has(0x8000) || has_routes);
    let acknowledgment = field(has(0x0080) && protocol == PPP_IN_GRE);
    let after_key = key_at + field(has(0x2000));
    let mut end = Some(after_key + field(has(0x1000)) + acknowledgment);
    if has_routes {
        end = end.and_then(|end| end_of_routes(payload, end));
    }
    f.write_str("GRE")?;
    if after_key > key_at
        && let Some(key) = word(payload, key_at)
    {
        write!(f, " key {key}")?;
    }
    f.write_str(": ")?;
    let Some(packet) = end.and_then(|end| payload.get(end..)) else {
        return f.write_str("damaged");
    };
    match protocol {
        ETHERNET_OF_MIKROTIK => write_inner(f, ETHERNET_INSIDE, packet, depth),
        WCCP_IN_GRE if packet.len() > 4 => write_inner(f, EtherType::IPV4.0, &packet[4..], depth),
        _ => write_inner(f, protocol, packet, depth),
    }
}

/// Returns where the list of routes ends that begins at `at`: each has its length in its fourth byte,
/// and the last has none.
fn end_of_routes(payload: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let len = usize::from(*payload.get(at + 3)?);
        at += 4 + len;
        if len == 0 {
            return Some(at);
        }
    }
}

/// Writes what a UDP payload says: a packet in it, or a message.
fn write_udp_payload(
    f: &mut fmt::Formatter<'_>,
    ports: [u16; 2],
    payload: &[u8],
    depth: usize,
) -> fmt::Result {
    match ports[1] {
        VXLAN | VXLAN_GPE | GENEVE => write_udp_tunnel(f, ports[1], payload, depth),
        _ => messages::write_udp(f, ports, payload),
    }
}

/// Writes a tunnel in UDP: 8 bytes with a network's number, and a frame or packet.
fn write_udp_tunnel(
    f: &mut fmt::Formatter<'_>,
    port: u16,
    payload: &[u8],
    depth: usize,
) -> fmt::Result {
    let (Some(head), Some(next), Some(vni)) =
        (half(payload, 0), half(payload, 2), word(payload, 4))
    else {
        return Ok(());
    };
    let (name, options, ether_type) = match port {
        VXLAN => ("VXLAN", 0, ETHERNET_INSIDE),
        VXLAN_GPE => {
            let ether_type = match next & 0xff {
                1 => EtherType::IPV4.0,
                2 => EtherType::IPV6.0,
                3 => ETHERNET_INSIDE,
                4 => NETWORK_SERVICE_HEADER,
                5 => MPLS[0],
                _ => 0,
            };
            ("VXLAN-GPE", 0, ether_type)
        }
        _ => ("Geneve", usize::from(head >> 8 & 0x3f) * 4, next),
    };
    write!(f, ", {name} {}: ", vni >> 8)?;
    match payload.get(8 + options..) {
        Some(packet) if ether_type > 0 => write_inner(f, ether_type, packet, depth),
        Some(packet) => write!(f, "protocol {}, length {}", next & 0xff, packet.len()),
        None => f.write_str("damaged"),
    }
}

/// Writes a packet that was recognised.
fn write_packet(
    f: &mut fmt::Formatter<'_>,
    packet: &LaxSlicedPacket<'_>,
    depth: usize,
) -> fmt::Result {
    let (ends, number) = match &packet.net {
        Some(LaxNetSlice::Arp(arp)) => return write_arp(f, arp),
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let ends = Ends(header.source_addr().into(), header.destination_addr().into());
            (ends, ip.payload().ip_number)
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let ends = Ends(header.source_addr().into(), header.destination_addr().into());
            (ends, ip.payload().ip_number)
        }
        None => return Ok(()),
    };
    write_ip(f, packet, &ends, number, depth)
}

/// Writes a packet whose header is damaged or cut, with those of its addresses that are there.
fn write_damaged(f: &mut fmt::Formatter<'_>, ether_type: EtherType, packet: &[u8]) -> fmt::Result {
    let is_ip = matches!(ether_type, EtherType::IPV4 | EtherType::IPV6);
    let version = packet.first().filter(|_| is_ip).map(|first| first >> 4);
    let (head, source, destination) = (word(packet, 0), word(packet, 12), word(packet, 16));
    match (version, head, source) {
        (Some(4), Some(head), Some(source)) => {
            let (header_len, len) = ((head >> 24 & 15) * 4, head & 0xffff);
            // A header that is longer than what there is of the packet, else its length is wrong.
            if header_len >= 20 && (len >= header_len || len == 0) {
                write!(f, "{}", Ipv4Addr::from_bits(source))?;
                match destination.map(Ipv4Addr::from_bits) {
                    Some(destination) => write!(f, " > {destination}: ")?,
                    None => f.write_str(": ")?,
                }
            }
            write_unknown(f, EtherType::IPV4, true)
        }
        (Some(6), ..) => {
            let source = packet.get(8..).and_then(<[u8]>::first_chunk::<16>);
            if let Some(source) = source {
                write!(f, "{}: ", Ipv6Addr::from(*source))?;
            }
            write_unknown(f, EtherType::IPV6, true)
        }
        _ => write_unknown(f, ether_type, true),
    }
}

fn write_unknown(f: &mut fmt::Formatter<'_>, ether_type: EtherType, damaged: bool) -> fmt::Result {
    let damage = if damaged { ", damaged" } else { "" };
    match ether_type {
        EtherType(length) if length < FIRST_ETHER_TYPE => write!(f, "802.3, length {length}"),
        EtherType::IPV4 => write!(f, "IPv4{damage}"),
        EtherType::IPV6 => write!(f, "IPv6{damage}"),
        EtherType::ARP => write!(f, "ARP{damage}"),
        EtherType(0x8035) => f.write_str("RARP"),
        EtherType(number) => write!(f, "EtherType {number:#06x}{damage}"),
    }
}

fn write_arp(f: &mut fmt::Formatter<'_>, arp: &ArpPacketSlice<'_>) -> fmt::Result {
    if arp.proto_addr_type() != EtherType::IPV4 {
        return f.write_str("ARP, not for IPv4");
    }
    let [sender, target] = [arp.sender_protocol_addr(), arp.target_protocol_addr()]
        .map(|address| <[u8; 4]>::try_from(address).ok().map(Ipv4Addr::from));
    let (Some(sender), Some(target)) = (sender, target) else {
        return f.write_str("ARP, damaged");
    };
    match arp.operation() {
        ArpOperation::REQUEST if sender == target => write!(f, "ARP announcement of {sender}"),
        ArpOperation::REQUEST => write!(f, "ARP who has {target}, tell {sender}"),
        ArpOperation::REPLY => match arp.sender_hw_addr().try_into() {
            Ok(address) => write!(f, "ARP reply {sender} is at {}", Mac(address)),
            // Not a link of Ethernet.
            Err(_) => write!(f, "ARP reply from {sender}"),
        },
        ArpOperation(other) => write!(f, "ARP operation {other} from {sender}"),
    }
}

/// The addresses of source and destination.
struct Ends(IpAddr, IpAddr);

/// Writes the ports of both ends.
fn write_ports(f: &mut fmt::Formatter<'_>, ends: &Ends, ports: [u16; 2]) -> fmt::Result {
    let [source, destination] = ports;
    write!(f, "{} > {}", SocketAddr::new(ends.0, source), SocketAddr::new(ends.1, destination))
}

fn write_ip(
    f: &mut fmt::Formatter<'_>,
    packet: &LaxSlicedPacket<'_>,
    ends: &Ends,
    number: IpNumber,
    depth: usize,
) -> fmt::Result {
    let Ends(source, destination) = ends;
    let payload = packet.net.as_ref().and_then(LaxNetSlice::ip_payload_ref);
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let ports = [tcp.source_port(), tcp.destination_port()];
            write_ports(f, ends, ports)?;
            f.write_str(": TCP ")?;
            write_tcp(f, tcp)?;
            messages::write_tcp(f, ports, tcp.payload())
        }
        Some(TransportSlice::Udp(udp)) => {
            let ports = [udp.source_port(), udp.destination_port()];
            write_ports(f, ends, ports)?;
            write!(f, ": UDP, length {}", udp.payload().len())?;
            write_udp_payload(f, ports, udp.payload(), depth)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            write!(f, "{source} > {destination}: ICMP ")?;
            write_icmpv4(f, icmp)
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            write!(f, "{source} > {destination}: ICMPv6 ")?;
            write_icmpv6(f, icmp)
        }
        Some(TransportSlice::Igmp(_)) => write!(f, "{source} > {destination}: IGMP"),
        None => {
            let is_fragment = payload.is_some_and(|payload| payload.fragmented);
            let bytes = payload.map_or(&[][..], |payload| payload.payload);
            let ports = first_ports(packet, number, bytes);
            match ports {
                Some(ports) => write_ports(f, ends, ports)?,
                _ => write!(f, "{source} > {destination}")?,
            }
            f.write_str(": ")?;
            let is_readable = packet.stop_err.is_none() && (!is_fragment || is_first(packet));
            if is_readable && carries_packets(number) {
                if is_fragment {
                    f.write_str("fragment, ")?;
                }
                return write_carried(f, number.0, bytes, depth);
            }
            match number.keyword_str() {
                Some(keyword) => f.write_str(keyword)?,
                None => write!(f, "protocol {}", number.0)?,
            }
            if is_fragment {
                f.write_str(", fragment")?;
            } else if packet.stop_err.is_some() {
                f.write_str(", damaged")?;
            }
            write!(f, ", length {}", bytes.len())?;
            match (ports, bytes.get(8..)) {
                // Its header is that of UDP.
                (Some(ports), Some(payload)) if number.0 == UDP_LITE && !is_fragment => {
                    write_udp_payload(f, ports, payload, depth)
                }
                _ => Ok(()),
            }
        }
    }
}

fn carries_packets(number: IpNumber) -> bool {
    matches!(number.0, GRE | MPLS_IN_IP | IPV4_INSIDE | IPV6_INSIDE | ETHER_IP | ETHERNET)
}

/// Writes what a protocol of this number carries, one of those that carry packets.
fn write_carried(
    f: &mut fmt::Formatter<'_>,
    number: u8,
    bytes: &[u8],
    depth: usize,
) -> fmt::Result {
    match number {
        GRE => write_gre(f, bytes, depth),
        MPLS_IN_IP => write_mpls(f, bytes, depth),
        IPV4_INSIDE => write_inner(f, EtherType::IPV4.0, bytes, depth),
        IPV6_INSIDE => write_inner(f, EtherType::IPV6.0, bytes, depth),
        // Its header has two bytes.
        ETHER_IP => write_inner(f, ETHERNET_INSIDE, bytes.get(2..).unwrap_or_default(), depth),
        _ => write_inner(f, ETHERNET_INSIDE, bytes, depth),
    }
}

/// Returns the ports in the first fragment of a packet, or in one that is damaged: they are the first
/// four bytes of each protocol that has ports.
fn first_ports(packet: &LaxSlicedPacket<'_>, number: IpNumber, bytes: &[u8]) -> Option<[u16; 2]> {
    let has_ports = matches!(number.0, TCP | UDP | DCCP | SCTP | UDP_LITE);
    if is_first(packet) && has_ports { Some([half(bytes, 0)?, half(bytes, 2)?]) } else { None }
}

/// Returns whether a packet is the first fragment of one, or whole.
fn is_first(packet: &LaxSlicedPacket<'_>) -> bool {
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => ip.header().fragments_offset().value() == 0,
        Some(LaxNetSlice::Ipv6(ip)) => {
            let extensions = ip.extensions();
            let first = extensions.first_header().map_or(0, |first| first.0);
            is_first_fragment(first, extensions.slice())
        }
        _ => false,
    }
}

/// Returns whether the extension headers of an IPv6 packet, which begin with one of this number, are
/// those of the first fragment or of no fragment.
///
/// They are walked by hand: etherparse's iterator reads beyond the end of those that are cut.
fn is_first_fragment(mut number: u8, mut headers: &[u8]) -> bool {
    loop {
        let (Some(next), Some(len)) = (headers.first(), headers.get(1)) else { return true };
        let len = match IpNumber(number) {
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                return half(headers, 2).is_none_or(|offset| offset >> 3 == 0);
            }
            IpNumber::AUTHENTICATION_HEADER => 4 * (usize::from(*len) + 2),
            _ => 8 * (usize::from(*len) + 1),
        };
        number = *next;
        headers = headers.get(len..).unwrap_or_default();
    }
}

fn write_tcp(f: &mut fmt::Formatter<'_>, tcp: &TcpSlice<'_>) -> fmt::Result {
    let flags = [
        (tcp.syn(), 'S'),
        (tcp.fin(), 'F'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.urg(), 'U'),
        (tcp.ece(), 'E'),
        (tcp.cwr(), 'W'),
        (tcp.ack(), '.'),
    ];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
    write!(f, "[{flags}], seq {}", tcp.sequence_number())?;
    if tcp.ack() {
        write!(f, ", ack {}", tcp.acknowledgment_number())?;
    }
    write!(f, ", win {}", tcp.window_size())?;
    messages::write_tcp_options(f, tcp.options())?;
    write!(f, ", length {}", tcp.payload().len())
}

fn write_icmpv4(f: &mut fmt::Formatter<'_>, icmp: &Icmpv4Slice<'_>) -> fmt::Result {
    match icmp.icmp_type() {
        Icmpv4Type::EchoRequest(echo) => write_echo(f, "request", echo),
        Icmpv4Type::EchoReply(echo) => write_echo(f, "reply", echo),
        Icmpv4Type::DestinationUnreachable(_) => {
            write!(f, "destination unreachable, code {}", icmp.code_u8())
        }
        Icmpv4Type::TimeExceeded(_) => f.write_str("time exceeded"),
        Icmpv4Type::Redirect(_) => f.write_str("redirect"),
        _ => write!(f, "type {}, code {}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn write_icmpv6(f: &mut fmt::Formatter<'_>, icmp: &Icmpv6Slice<'_>) -> fmt::Result {
    match icmp.icmp_type() {
        Icmpv6Type::EchoRequest(echo) => write_echo(f, "request", echo),
        Icmpv6Type::EchoReply(echo) => write_echo(f, "reply", echo),
        Icmpv6Type::DestinationUnreachable(_) => {
            write!(f, "destination unreachable, code {}", icmp.code_u8())
        }
        Icmpv6Type::PacketTooBig { mtu } => write!(f, "packet too big, mtu {mtu}"),
        Icmpv6Type::TimeExceeded(_) => f.write_str("time exceeded"),
        Icmpv6Type::RouterSolicitation => f.write_str("router solicitation"),
        Icmpv6Type::RouterAdvertisement(_) => f.write_str("router advertisement"),
        Icmpv6Type::NeighborSolicitation => match icmp.payload_slice() {
            Ok(Icmpv6PayloadSlice::NeighborSolicitation(message)) => {
                write!(f, "neighbor solicitation, who has {}", message.target_address())
            }
            _ => f.write_str("neighbor solicitation, damaged"),
        },
        Icmpv6Type::NeighborAdvertisement(_) => match icmp.payload_slice() {
            Ok(Icmpv6PayloadSlice::NeighborAdvertisement(message)) => {
                write!(f, "neighbor advertisement, {} is here", message.target_address())
            }
            _ => f.write_str("neighbor advertisement, damaged"),
        },
        _ => write!(f, "type {}, code {}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn write_echo(f: &mut fmt::Formatter<'_>, kind: &str, echo: IcmpEchoHeader) -> fmt::Result {
    write!(f, "echo {kind}, id {}, seq {}", echo.id, echo.seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::specimens;

    const MACS: &str = "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ";

    /// Returns a frame of this type with this payload.
    fn frame(ether_type: u16, parts: &[&[u8]]) -> Vec<u8> {
        let header = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &ether_type.to_be_bytes()].concat();
        [header, parts.concat()].concat()
    }

    fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(20 + payload.len()).unwrap();
        let header = [0x45, 0, 0, len, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        frame(0x0800, &[&header, payload])
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).unwrap();
        let mut header = [0; 40];
        (header[0], header[5], header[6], header[7]) = (0x60, len, next, 64);
        (header[8], header[23], header[24], header[39]) = (0xfd, 1, 0xfd, 2);
        frame(0x86dd, &[&header, payload])
    }

    #[track_caller]
    fn check(frame: &[u8], expected: &str) {
        assert_eq!(Summary(frame).to_string(), format!("{MACS}{expected}"));
    }

    #[test]
    fn address_resolution_names_its_target() {
        let arp = |operation| {
            let ends =
                [&[2, 0, 0, 0, 0, 1, 10, 0, 0, 1][..], &[0, 0, 0, 0, 0, 0, 10, 0, 0, 2]].concat();
            frame(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, operation], &ends])
        };
        check(&arp(1), "ARP who has 10.0.0.2, tell 10.0.0.1");
        check(&arp(2), "ARP reply 10.0.0.1 is at 02:00:00:00:00:01");
        check(&arp(9), "ARP operation 9 from 10.0.0.1");
        let target = [&[0; 4][..], &[0xfd; 16]].concat();
        let solicitation = [&[135, 0, 0, 0][..], &target].concat();
        let fd = "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd";
        let expected = format!("fd00::1 > fd00::2: ICMPv6 neighbor solicitation, who has {fd}");
        check(&ipv6(58, &solicitation), &expected);
    }

    #[test]
    fn ip_shows_both_ends_and_the_message() {
        let echo = [8, 0, 0, 0, 0, 7, 0, 9];
        check(&ipv4(1, &echo), "10.0.0.1 > 10.0.0.2: ICMP echo request, id 7, seq 9");
        check(
            &ipv6(58, &[129, 0, 0, 0, 0, 7, 0, 9]),
            "fd00::1 > fd00::2: ICMPv6 echo reply, id 7, seq 9",
        );
        let udp = [0x30, 0x39, 0, 7, 0, 11, 0, 0, 1, 2, 3];
        check(&ipv4(17, &udp), "10.0.0.1:12345 > 10.0.0.2:7: UDP, length 3");
        check(&ipv6(17, &udp), "[fd00::1]:12345 > [fd00::2]:7: UDP, length 3");
        let tcp = [0, 80, 0, 81, 0, 0, 0, 5, 0, 0, 0, 6, 0x50, 0x12, 1, 0, 0, 0, 0, 0];
        check(
            &ipv4(6, &tcp),
            "10.0.0.1:80 > 10.0.0.2:81: TCP [S.], seq 5, ack 6, win 256, length 0",
        );
        check(&ipv4(89, &[0; 4]), "10.0.0.1 > 10.0.0.2: OSPFIGP, length 4");
        let mut fragment = ipv4(17, &udp);
        fragment[14 + 7] = 1;
        check(&fragment, "10.0.0.1 > 10.0.0.2: UDP, fragment, length 11");
    }

    #[test]
    fn what_is_inside_is_shown() {
        let lines: Vec<String> =
            specimens::frames().iter().map(|frame| format!("{:#}", Summary(frame))).collect();
        let inner = "02:00:00:00:00:01 > 02:00:00:00:00:02, 10.0.0.1:7 > 10.0.0.2:9: UDP, length 6";
        for expected in [
            &format!("10.0.0.1:50000 > 10.0.0.2:4789: UDP, length 56, VXLAN 42: {inner}"),
            &format!("10.0.0.1:50000 > 10.0.0.2:6081: UDP, length 56, Geneve 42: {inner}"),
            &format!("10.0.0.1 > 10.0.0.2: GRE: {inner}"),
            "10.0.0.1 > 10.0.0.2: 10.0.0.1:11 > 10.0.0.2:12: TCP [S], seq 5, win 4096, length 0",
            "10.0.0.1:40000 > 10.0.0.2:80: TCP [S], seq 5, win 4096, options [mss 1460,sackOK,TS val 9 ecr 0,wscale 7], length 0",
            "10.0.0.1:5353 > 10.0.0.2:53: UDP, length 29, DNS query 0x1234, A example.org",
            "10.0.0.1:53 > 10.0.0.2:5353: UDP, length 45, DNS answer 0x1234, A example.org, 1 record",
            "10.0.0.1:68 > 255.255.255.255:67: UDP, length 250, DHCP discover from 02:00:00:00:00:01, wants 10.0.0.9",
            "10.0.0.1:67 > 10.0.0.2:68: UDP, length 250, DHCP ack of 10.0.0.9 to 02:00:00:00:00:01",
            "10.0.0.1:7000 > 10.0.0.2:7001: UDP, fragment, length 32",
            "10.0.0.1 > 10.0.0.2: UDP, fragment, length 32",
            "[fd00::1]:7004 > [fd00::2]:7005: UDP, fragment, length 24",
            "fd00::1 > fd00::2: UDP, fragment, length 16",
            "MPLS 100/125, [fd00::1]:40000 > [fd00::2]:80: TCP [P.], seq 5, ack 6, win 4096, length 18",
            "PPPoE PADI, session 0",
            "PPPoE session 7, 10.0.0.1:40000 > 10.0.0.2:80: TCP [P.], seq 5, ack 6, win 4096, length 18",
            "PPPoE session 7, LCP",
            "LLDP, chassis 02:00:00:00:00:01, port eth0, ttl 120, name sw1",
            "LACPv1, actor 02:00:00:00:00:01 key 7 port 2 [AGYCD], partner 02:00:00:00:00:02 key 8 port 3 [AGYCD]",
            "STP root 8000.02:00:00:00:00:02, cost 4, bridge 8001.02:00:00:00:00:01, port 0x8002, topology change",
            "RSTP root 8000.02:00:00:00:00:02, cost 4, bridge 8001.02:00:00:00:00:01, port 0x8002",
            "STP topology change notification",
            "VLAN 100, VLAN 5, 10.0.0.1:40000 > 10.0.0.2:80: TCP [P.], seq 5, ack 6, win 4096, length 18",
            "SNAP, 10.0.0.1:1 > 10.0.0.2:2: UDP, length 0",
            "IS-IS, length 11",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:#?}");
        }
    }

    #[test]
    fn other_protocols_are_named() {
        check(&frame(0x88b5, &[]), "EtherType 0x88b5");
        check(&frame(0x0026, &[&[0; 38]]), "802.3, length 38");
        check(&frame(0x8100, &[&[0, 5, 0x88, 0xb5]]), "VLAN 5, EtherType 0x88b5");
        check(&frame(0x0800, &[&[0x45, 0]]), "IPv4, damaged");
        assert_eq!(Summary(&[0; 13]).to_string(), "too short for Ethernet");
    }

    #[test]
    fn no_frame_makes_it_panic_or_break_the_line() {
        let mut random = fastrand::Rng::with_seed(1);
        let frames = [
            ipv4(6, &[0; 40]),
            ipv6(58, &[135; 40]),
            frame(0x8100, &[&[0; 60]]),
            frame(0x0806, &[&[0; 28]]),
        ];
        for whole in frames {
            for _ in 0..5000 {
                let mut frame = whole.clone();
                for _ in 0..random.usize(1..5) {
                    let at = random.usize(..frame.len());
                    frame[at] = random.u8(..);
                }
                frame.truncate(random.usize(..=frame.len()));
                let text = Summary(&frame).to_string();
                assert!(!text.contains(char::is_control) && text.len() < 700, "{text:?}");
            }
        }
    }
}
