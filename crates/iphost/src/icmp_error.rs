//! ICMP errors: those that a host sends itself because its stack does not, and what errors of others
//! say, in the words of ping(8).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use neighbor::frame::{self, ETHERNET_HEADER};
use neighbor::icmp_error;
use smoltcp::wire::EthernetAddress;

/// Types of errors, for IPv4 and IPv6.
const V4_TIME_EXCEEDED: u8 = 11;
const V6_TIME_EXCEEDED: u8 = 3;
const V6_PARAMETER_PROBLEM: u8 = 4;
/// The code for a packet whose fragments did not come in time.
const REASSEMBLY: u8 = 1;

/// An error that a host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    kind: u8,
    code: u8,
    pointer: u32,
}

impl IcmpError {
    /// Fragments of a packet did not come in time.
    pub(crate) fn reassembly_timeout(is_v4: bool) -> Self {
        let kind = if is_v4 { V4_TIME_EXCEEDED } else { V6_TIME_EXCEEDED };
        Self { kind, code: REASSEMBLY, pointer: 0 }
    }

    /// A header of an IPv6 packet is wrong, at `pointer`.
    pub(crate) fn parameter_problem(code: u8, pointer: usize) -> Self {
        let pointer = u32::try_from(pointer).unwrap_or(u32::MAX);
        Self { kind: V6_PARAMETER_PROBLEM, code, pointer }
    }

    /// Makes the frame with the error from `own` about a frame that `to` has sent.
    pub(crate) fn frame(self, own: (IpAddr, EthernetAddress), to: IpAddr, about: &[u8]) -> Vec<u8> {
        let macs = (own.1, frame::source(about));
        let kind = [self.kind, self.code];
        icmp_error::frame(macs, (own.0, to), kind, self.pointer, &about[ETHERNET_HEADER..])
    }
}

/// Why a request was not answered, as an ICMP error says. It displays as ping(8) prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PingError {
    /// No host has the target's address: the pinging host itself has asked.
    AddressUnreachable {
        /// Whether it is an IPv6 address.
        v6: bool,
    },
    /// The error of another host.
    Icmp {
        /// Whether it is `ICMPv6`.
        v6: bool,
        /// The type of the message.
        kind: u8,
        /// Its code.
        code: u8,
        /// The 4 bytes after its checksum: an MTU, a pointer, or an address.
        rest: u32,
    },
}

impl PingError {
    /// Returns whether no reply follows. A router that knows a better way, or is in need of a slower
    /// sender, has passed the request on.
    pub(crate) fn ends_request(self) -> bool {
        !matches!(self, Self::Icmp { v6: false, kind: 4 | 5, .. })
    }

    /// Returns whether a message of this type is an error.
    pub(crate) fn is_error(v6: bool, kind: u8) -> bool {
        if v6 { (1..=4).contains(&kind) } else { matches!(kind, 3 | 4 | 5 | 11 | 12) }
    }
}

impl fmt::Display for PingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AddressUnreachable { v6: false } => f.write_str("Destination Host Unreachable"),
            Self::AddressUnreachable { v6: true } => {
                f.write_str("Destination unreachable: Address unreachable")
            }
            Self::Icmp { v6: false, kind, code, rest } => v4_text(f, kind, code, rest),
            Self::Icmp { v6: true, kind, code, rest } => v6_text(f, kind, code, rest),
        }
    }
}

fn v4_text(f: &mut fmt::Formatter<'_>, kind: u8, code: u8, rest: u32) -> fmt::Result {
    const UNREACHABLE: [&str; 16] = [
        "Destination Net Unreachable",
        "Destination Host Unreachable",
        "Destination Protocol Unreachable",
        "Destination Port Unreachable",
        "Frag needed and DF set",
        "Source Route Failed",
        "Destination Net Unknown",
        "Destination Host Unknown",
        "Source Host Isolated",
        "Destination Net Prohibited",
        "Destination Host Prohibited",
        "Destination Net Unreachable for Type of Service",
        "Destination Host Unreachable for Type of Service",
        "Packet filtered",
        "Precedence Violation",
        "Precedence Cutoff",
    ];
    const REDIRECT: [&str; 4] = [
        "Redirect Network",
        "Redirect Host",
        "Redirect Type of Service and Network",
        "Redirect Type of Service and Host",
    ];
    let index = usize::from(code);
    match (kind, code) {
        (3, 4) => write!(f, "{} (mtu = {})", UNREACHABLE[4], rest & 0xffff),
        (3, _) => match UNREACHABLE.get(index) {
            Some(text) => f.write_str(text),
            None => write!(f, "Dest Unreachable, Bad Code: {code}"),
        },
        (4, _) => f.write_str("Source Quench"),
        (5, _) => {
            match REDIRECT.get(index) {
                Some(text) => f.write_str(text)?,
                None => write!(f, "Redirect, Bad Code: {code}")?,
            }
            write!(f, "(New nexthop: {})", Ipv4Addr::from(rest))
        }
        (11, 0) => f.write_str("Time to live exceeded"),
        (11, 1) => f.write_str("Frag reassembly time exceeded"),
        (11, _) => write!(f, "Time exceeded, Bad Code: {code}"),
        (12, _) => write!(f, "Parameter problem: pointer = {}", rest >> 24),
        _ => write!(f, "Bad ICMP type: {kind}"),
    }
}

fn v6_text(f: &mut fmt::Formatter<'_>, kind: u8, code: u8, rest: u32) -> fmt::Result {
    const UNREACHABLE: [&str; 7] = [
        "No route",
        "Administratively prohibited",
        "Beyond scope of source address",
        "Address unreachable",
        "Port unreachable",
        "Source address failed ingress/egress policy",
        "Reject route to destination",
    ];
    const PROBLEM: [&str; 3] = ["Wrong header field", "Unknown header", "Unknown option"];
    let (title, texts): (_, &[&str]) = match kind {
        1 => ("Destination unreachable: ", &UNREACHABLE),
        2 => return write!(f, "Packet too big: mtu={rest}"),
        3 => ("Time exceeded: ", &["Hop limit", "Defragmentation failure"]),
        4 => ("Parameter problem: ", &PROBLEM),
        _ => return write!(f, "unknown icmp type: {kind}"),
    };
    f.write_str(title)?;
    match texts.get(usize::from(code)) {
        Some(text) => f.write_str(text)?,
        None => write!(f, "code {code}")?,
    }
    if kind == 4 { write!(f, " at {rest}") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use neighbor::frame::{IPV4_HEADER, IPV6_HEADER};
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, Icmpv6Repr, IpProtocol};

    use super::*;

    const OWN: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const PEER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

    #[test]
    fn errors_quote_what_they_are_about_and_fit_any_link() {
        let [own, peer]: [IpAddr; 2] = ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()];
        let about = frame::ip((PEER, OWN), (peer, own), IpProtocol::Udp, 64, 1_400);
        let error = IcmpError::parameter_problem(1, 40).frame((own, OWN), peer, &about);
        assert_eq!(error.len(), ETHERNET_HEADER + 1_280);
        assert_eq!((frame::source(&error), frame::destination(&error)), (OWN, PEER));
        let packet = Icmpv6Packet::new_checked(&error[ETHERNET_HEADER + IPV6_HEADER..]).unwrap();
        let (IpAddr::V6(from), IpAddr::V6(to)) = (own, peer) else { unreachable!() };
        let checksums = ChecksumCapabilities::default();
        assert!(matches!(
            Icmpv6Repr::parse(&from, &to, &packet, &checksums).unwrap(),
            Icmpv6Repr::ParamProblem { pointer: 40, .. }
        ));
        let [own, peer]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let about = frame::ip((PEER, OWN), (peer, own), IpProtocol::Udp, 64, 1_000);
        let error = IcmpError::reassembly_timeout(true).frame((own, OWN), peer, &about);
        assert_eq!(error.len(), ETHERNET_HEADER + 576);
        let packet = Icmpv4Packet::new_checked(&error[ETHERNET_HEADER + IPV4_HEADER..]).unwrap();
        assert!(packet.verify_checksum());
    }

    #[test]
    fn errors_read_as_those_of_ping() {
        let text = |v6, kind, code, rest| PingError::Icmp { v6, kind, code, rest }.to_string();
        for (kind, code, rest, right) in [
            (3, 1, 0, "Destination Host Unreachable"),
            (3, 4, 600, "Frag needed and DF set (mtu = 600)"),
            (3, 13, 0, "Packet filtered"),
            (3, 99, 0, "Dest Unreachable, Bad Code: 99"),
            (4, 0, 0, "Source Quench"),
            (5, 1, 0x0a00_0009, "Redirect Host(New nexthop: 10.0.0.9)"),
            (11, 0, 0, "Time to live exceeded"),
            (11, 1, 0, "Frag reassembly time exceeded"),
            (12, 0, 0x1400_0000, "Parameter problem: pointer = 20"),
        ] {
            assert_eq!(text(false, kind, code, rest), right);
        }
        for (kind, code, rest, right) in [
            (1, 1, 0, "Destination unreachable: Administratively prohibited"),
            (2, 0, 1_280, "Packet too big: mtu=1280"),
            (3, 0, 0, "Time exceeded: Hop limit"),
            (4, 1, 40, "Parameter problem: Unknown header at 40"),
        ] {
            assert_eq!(text(true, kind, code, rest), right);
        }
        let local = |v6| PingError::AddressUnreachable { v6 }.to_string();
        assert_eq!(local(false), "Destination Host Unreachable");
        assert_eq!(local(true), "Destination unreachable: Address unreachable");
    }
}
