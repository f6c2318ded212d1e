//! What the port of an IP peer needs to know of a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use neighbor::frame::{IPV4, IPV4_HEADER, IPV6, IPV6_HEADER};

/// The number of `ICMPv6`.
const ICMPV6: u8 = 58;
/// The types of its messages that are neighbor discovery, routers' messages and redirects included.
const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// The header of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Bytes of the whole packet. What follows is padding.
    pub(super) len: usize,
    /// The hop limit; of IPv4 the time to live.
    pub(super) hop_limit: u8,
    /// It is a message of neighbor discovery.
    pub(super) is_discovery: bool,
}

impl Packet {
    /// Reads the packet that `bytes` begin with; `None` when they hold no whole packet.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::read_v4(bytes),
            6 => Self::read_v6(bytes),
            _ => None,
        }
    }

    fn read_v4(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; IPV4_HEADER] = bytes.first_chunk()?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_whole = (IPV4_HEADER..=len).contains(&header_len) && len <= bytes.len();
        let address = |at: usize| {
            let bits = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            IpAddr::V4(Ipv4Addr::from(bits))
        };
        is_whole.then(|| Self {
            source: address(12),
            destination: address(16),
            len,
            hop_limit: header[8],
            is_discovery: false,
        })
    }

    fn read_v6(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; IPV6_HEADER] = bytes.first_chunk()?;
        let len = IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let address = |at: usize| {
            let bits: [u8; 16] = header[at..].first_chunk().copied()?;
            Some(IpAddr::V6(Ipv6Addr::from(bits)))
        };
        let payload = bytes.get(IPV6_HEADER..len)?;
        let kind = payload.first().filter(|_| header[6] == ICMPV6);
        Some(Self {
            source: address(8)?,
            destination: address(24)?,
            len,
            hop_limit: header[7],
            is_discovery: kind.is_some_and(|kind| DISCOVERY.contains(kind)),
        })
    }

    /// Returns the `EtherType` of such packets.
    pub(super) fn ether_type(&self) -> [u8; 2] {
        match self.source {
            IpAddr::V4(_) => IPV4,
            IpAddr::V6(_) => IPV6,
        }
    }
}

#[cfg(test)]
mod tests {
    use neighbor::frame::{self, ETHERNET_HEADER};
    use smoltcp::wire::{EthernetAddress, IpProtocol};

    use super::*;

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);

    fn packet(from: &str, to: &str, protocol: IpProtocol) -> Vec<u8> {
        let ends = (from.parse().expect("valid"), to.parse().expect("valid"));
        frame::ip((MAC, MAC), ends, protocol, 9, 8)[ETHERNET_HEADER..].to_vec()
    }

    #[test]
    fn a_header_is_read_and_padding_is_not() {
        let mut bytes = packet("10.0.0.1", "10.0.0.2", IpProtocol::Udp);
        bytes.extend([0; 18]);
        let read = Packet::read(&bytes).expect("whole");
        assert_eq!((read.len, read.hop_limit, read.ether_type()), (28, 9, IPV4));
        assert_eq!((read.source, read.destination), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        let mut bytes = packet("fd00::1", "fd00::2", IpProtocol::Icmpv6);
        for (kind, is_discovery) in [(128, false), (133, true), (137, true), (138, false)] {
            bytes[IPV6_HEADER] = kind;
            let read = Packet::read(&bytes).expect("whole");
            assert_eq!((read.len, read.is_discovery), (48, is_discovery));
            assert_eq!(read.destination, "fd00::2".parse::<IpAddr>().expect("valid"));
        }
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_no_packet() {
        for whole in [
            packet("10.0.0.1", "10.0.0.2", IpProtocol::Udp),
            packet("fd00::1", "fd00::2", IpProtocol::Udp),
        ] {
            for len in 0..whole.len() {
                assert_eq!(Packet::read(&whole[..len]), None, "{len} bytes");
            }
        }
        let good = packet("10.0.0.1", "10.0.0.2", IpProtocol::Udp);
        for (at, value) in [(0, 0x44), (0, 0x4f), (0, 0x55), (3, 19), (2, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Packet::read(&bad), None, "{at}");
        }
    }
}
