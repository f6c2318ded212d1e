//! Summarizes a frame in one line: source and destination, the innermost protocol, and what it
//! says.
//!
//! Frames are untrusted input. A frame that is damaged is shown as far as it can be parsed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use etherparse::icmpv6::Icmpv6PayloadSlice;
use etherparse::{
    ArpOperation, ArpPacketSlice, EtherType, IcmpEchoHeader, Icmpv4Slice, Icmpv4Type, Icmpv6Slice,
    Icmpv6Type, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice, TransportSlice,
};

/// The smallest `EtherType`. A smaller number in its place is the length of an IEEE 802.3 frame.
const FIRST_ETHER_TYPE: u16 = 0x0600;

/// Displays an Ethernet frame in one line, `SOURCE > DESTINATION, CONTENTS`.
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

/// A MAC address in lower case with colons, as `tcpdump` prints it.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(packet) = LaxSlicedPacket::from_ethernet(self.0) else {
            return f.write_str("too short for Ethernet");
        };
        let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else {
            return f.write_str("not Ethernet");
        };
        write!(f, "{} > {}, ", Mac(ethernet.source()), Mac(ethernet.destination()))?;
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
        match &packet.net {
            Some(LaxNetSlice::Arp(arp)) => write_arp(f, arp),
            Some(LaxNetSlice::Ipv4(ip)) => {
                let header = ip.header();
                let ends = Ends(header.source_addr().into(), header.destination_addr().into());
                write_ip(
                    f,
                    &packet,
                    ends,
                    ip.payload().ip_number.keyword_str(),
                    ip.payload().ip_number.0,
                )
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                let header = ip.header();
                let ends = Ends(header.source_addr().into(), header.destination_addr().into());
                write_ip(
                    f,
                    &packet,
                    ends,
                    ip.payload().ip_number.keyword_str(),
                    ip.payload().ip_number.0,
                )
            }
            None => write_unknown(f, ether_type, packet.stop_err.is_some()),
        }
    }
}

fn write_unknown(f: &mut fmt::Formatter<'_>, ether_type: EtherType, damaged: bool) -> fmt::Result {
    let damage = if damaged { ", damaged" } else { "" };
    match ether_type {
        EtherType(length) if length < FIRST_ETHER_TYPE => write!(f, "802.3, length {length}"),
        EtherType::IPV4 => write!(f, "IPv4{damage}"),
        EtherType::IPV6 => write!(f, "IPv6{damage}"),
        EtherType::ARP => write!(f, "ARP{damage}"),
        EtherType(number) => write!(f, "EtherType {number:#06x}{damage}"),
    }
}

fn write_arp(f: &mut fmt::Formatter<'_>, arp: &ArpPacketSlice<'_>) -> fmt::Result {
    let Ok(arp) = arp.to_packet().try_eth_ipv4() else {
        return f.write_str("ARP, not for IPv4 on Ethernet");
    };
    let (sender, target) = (arp.sender_ipv4_addr(), arp.target_ipv4_addr());
    match arp.operation {
        ArpOperation::REQUEST if sender == target => write!(f, "ARP announcement of {sender}"),
        ArpOperation::REQUEST => write!(f, "ARP who has {target}, tell {sender}"),
        ArpOperation::REPLY => {
            write!(f, "ARP reply {sender} is at {}", Mac(arp.sender_mac))
        }
        ArpOperation(other) => write!(f, "ARP operation {other}"),
    }
}

/// The addresses of source and destination.
struct Ends(IpAddr, IpAddr);

fn write_ip(
    f: &mut fmt::Formatter<'_>,
    packet: &LaxSlicedPacket<'_>,
    Ends(source, destination): Ends,
    protocol: Option<&str>,
    number: u8,
) -> fmt::Result {
    let payload = packet.net.as_ref().and_then(LaxNetSlice::ip_payload_ref);
    let ports = |source_port, destination_port| {
        let ends =
            (SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port));
        format!("{} > {}", ends.0, ends.1)
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            write!(f, "{}: TCP ", ports(tcp.source_port(), tcp.destination_port()))?;
            write_tcp(f, tcp)
        }
        Some(TransportSlice::Udp(udp)) => {
            let ends = ports(udp.source_port(), udp.destination_port());
            write!(f, "{ends}: UDP, length {}", udp.payload().len())
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
            write!(f, "{source} > {destination}: ")?;
            match protocol {
                Some(keyword) => f.write_str(keyword)?,
                None => write!(f, "protocol {number}")?,
            }
            if payload.is_some_and(|payload| payload.fragmented) {
                f.write_str(", fragment")?;
            } else if packet.stop_err.is_some() {
                f.write_str(", damaged")?;
            }
            write!(f, ", length {}", payload.map_or(0, |payload| payload.payload.len()))
        }
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
    write!(f, ", win {}, length {}", tcp.window_size(), tcp.payload().len())
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
        check(&arp(9), "ARP operation 9");
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
                assert!(!text.contains(char::is_control) && text.len() < 300, "{text:?}");
            }
        }
    }
}
