//! Ethernet frames that carry IP: where things are in them, and how they are made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv4Packet, Ipv6Packet, checksum};

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// Bytes of an IPv6 header.
pub const IPV6_HEADER: usize = 40;
/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// The most bytes after the Ethernet header: what an IPv4 packet can have.
pub const MAX_PACKET: usize = u16::MAX as usize;

/// The `EtherType` of ARP.
pub const ARP: [u8; 2] = [0x08, 0x06];
/// The `EtherType` of IPv4.
pub const IPV4: [u8; 2] = [0x08, 0x00];
/// The `EtherType` of IPv6.
pub const IPV6: [u8; 2] = [0x86, 0xdd];

/// All nodes on this link.
pub const ALL_NODES_OF_LINK: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Returns the address that the frame is for.
///
/// # Panics
/// When the frame has no whole Ethernet header.
#[must_use]
pub fn destination(frame: &[u8]) -> EthernetAddress {
    EthernetAddress::from_bytes(&frame[..6])
}

/// Returns the address that the frame is from.
///
/// # Panics
/// When the frame has no whole Ethernet header.
#[must_use]
pub fn source(frame: &[u8]) -> EthernetAddress {
    EthernetAddress::from_bytes(&frame[6..12])
}

/// Makes a frame of `len` bytes of payload, which are 0.
#[must_use]
pub fn ethernet(to: EthernetAddress, from: EthernetAddress, kind: [u8; 2], len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + len);
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&kind);
    frame.resize(ETHERNET_HEADER + len, 0);
    frame
}

/// Makes a frame with an IP header of the family of `from` and `to`, which have the same. Its
/// payload is `len` bytes that are 0: [`ETHERNET_HEADER`] and the IP header are before it.
#[must_use]
pub fn ip(
    macs: (EthernetAddress, EthernetAddress),
    (from, to): (IpAddr, IpAddr),
    protocol: IpProtocol,
    hop_limit: u8,
    len: usize,
) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut frame = ethernet(macs.1, macs.0, IPV6, IPV6_HEADER + len);
            let mut packet = Ipv6Packet::new_unchecked(&mut frame[ETHERNET_HEADER..]);
            packet.set_version(6);
            packet.set_payload_len(u16::try_from(len).unwrap_or(u16::MAX));
            packet.set_next_header(protocol);
            packet.set_hop_limit(hop_limit);
            packet.set_src_addr(from);
            packet.set_dst_addr(to);
            frame
        }
        (from, to) => {
            let v4 = |address| match address {
                IpAddr::V4(address) => address,
                IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
            };
            let mut frame = ethernet(macs.1, macs.0, IPV4, IPV4_HEADER + len);
            let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET_HEADER..]);
            packet.set_version(4);
            packet.set_header_len(20);
            packet.set_total_len(u16::try_from(IPV4_HEADER + len).unwrap_or(u16::MAX));
            packet.set_next_header(protocol);
            packet.set_hop_limit(hop_limit);
            packet.set_src_addr(v4(from));
            packet.set_dst_addr(v4(to));
            packet.fill_checksum();
            frame
        }
    }
}

/// Writes the checksum of an ICMP message, whose checksum field is 0.
///
/// # Panics
/// When the message has less than 4 bytes.
pub fn fill_icmp_checksum(message: &mut [u8], from: IpAddr, to: IpAddr) {
    let sum = !icmp_sum(message, from, to);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Returns whether the checksum of an ICMP message is right.
#[must_use]
pub fn is_icmp_checksum_good(message: &[u8], from: IpAddr, to: IpAddr) -> bool {
    icmp_sum(message, from, to) == 0xffff
}

fn icmp_sum(message: &[u8], from: IpAddr, to: IpAddr) -> u16 {
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
            let pseudo = checksum::pseudo_header_v6(&from, &to, IpProtocol::Icmpv6, len);
            checksum::combine(&[pseudo, checksum::data(message)])
        }
        _ => checksum::data(message),
    }
}

/// Returns the Ethernet address of an IPv4 multicast group (RFC 1112).
#[must_use]
pub fn group_mac_v4(group: Ipv4Addr) -> EthernetAddress {
    let [_, a, b, c] = group.octets();
    EthernetAddress([0x01, 0x00, 0x5e, a & 0x7f, b, c])
}

/// Returns the Ethernet address of an IPv6 multicast group (RFC 2464).
#[must_use]
pub fn group_mac(group: Ipv6Addr) -> EthernetAddress {
    let [.., a, b, c, d] = group.octets();
    EthernetAddress([0x33, 0x33, a, b, c, d])
}

/// Returns the multicast group in which hosts look for the owner of `address`.
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let [low, high] = [u16::from(a) | 0xff00, u16::from_be_bytes([b, c])];
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const B: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_made_frame_is_one_that_a_stack_accepts() {
        let (from, to) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let frame = ip((A, B), (from, to), IpProtocol::Icmp, 64, 8);
        assert_eq!((source(&frame), destination(&frame), frame.len()), (A, B, 42));
        let packet = Ipv4Packet::new_checked(&frame[ETHERNET_HEADER..]).unwrap();
        assert!(packet.verify_checksum());
        let (from, to): (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mut frame = ip((A, B), (from, to), IpProtocol::Icmpv6, 64, 8);
        let message = &mut frame[ETHERNET_HEADER + IPV6_HEADER..];
        message[0] = 128;
        fill_icmp_checksum(message, from, to);
        assert!(is_icmp_checksum_good(message, from, to));
        message[7] ^= 1;
        assert!(!is_icmp_checksum_good(message, from, to));
    }

    #[test]
    fn an_address_is_looked_for_in_its_group() {
        let group = solicited_node("fd00::1:2:a3b4:c5d6".parse().unwrap());
        assert_eq!(group, "ff02::1:ffb4:c5d6".parse::<Ipv6Addr>().unwrap());
        assert_eq!(group_mac(group), EthernetAddress([0x33, 0x33, 0xff, 0xb4, 0xc5, 0xd6]));
        let group = Ipv4Addr::new(239, 0x82, 3, 4);
        assert_eq!(group_mac_v4(group), EthernetAddress([1, 0, 0x5e, 2, 3, 4]));
    }
}
