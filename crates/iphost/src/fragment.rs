//! Cuts packets that are too long for a frame into fragments (RFC 791, RFC 8200).

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6FragmentHeader, Ipv6Packet, UdpPacket};

use neighbor::frame::{ETHERNET_HEADER, IPV4, IPV4_HEADER, IPV6_HEADER};

/// Bytes of IPv6's fragment header, and its number as a next header.
const FRAGMENT_HEADER: usize = 8;
const FRAGMENT: u8 = 44;

/// Cuts a frame whose IP packet is over `mtu` bytes into frames whose packets are not. The packet
/// has a header without options or extension headers, and whole checksums, except that of an IPv4
/// header. `identification` tells the packet from others between the same hosts.
pub(crate) fn cut(frame: &[u8], mtu: usize, identification: u32) -> Vec<Vec<u8>> {
    let (ethernet, packet) = frame.split_at(ETHERNET_HEADER);
    let is_v4 = ethernet[12..] == IPV4;
    let header_len = if is_v4 { IPV4_HEADER } else { IPV6_HEADER };
    let extra = if is_v4 { 0 } else { FRAGMENT_HEADER };
    let (header, payload) = packet.split_at(header_len);
    // All but the last have a multiple of 8 bytes.
    let most = (mtu - header_len - extra) & !7;
    let mut fragments = Vec::with_capacity(payload.len().div_ceil(most));
    for (index, piece) in payload.chunks(most).enumerate() {
        let more = (index + 1) * most < payload.len();
        let mut fragment = Vec::with_capacity(ETHERNET_HEADER + header_len + extra + piece.len());
        fragment.extend_from_slice(ethernet);
        fragment.extend_from_slice(header);
        if is_v4 {
            finish_v4(&mut fragment, piece.len(), index * most, more, identification);
        } else {
            finish_v6(&mut fragment, piece.len(), index * most, more, identification);
        }
        fragment.extend_from_slice(piece);
        fragments.push(fragment);
    }
    fragments
}

fn finish_v4(frame: &mut [u8], len: usize, offset: usize, more: bool, identification: u32) {
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET_HEADER..]);
    packet.set_total_len(short(IPV4_HEADER + len));
    packet.set_ident((identification & 0xffff) as u16);
    packet.clear_flags();
    packet.set_more_frags(more);
    packet.set_frag_offset(short(offset));
    packet.fill_checksum();
}

fn finish_v6(frame: &mut Vec<u8>, len: usize, offset: usize, more: bool, identification: u32) {
    let mut packet = Ipv6Packet::new_unchecked(&mut frame[ETHERNET_HEADER..]);
    let protocol = u8::from(packet.next_header());
    packet.set_next_header(IpProtocol::from(FRAGMENT));
    packet.set_payload_len(short(FRAGMENT_HEADER + len));
    let mut header = [0; FRAGMENT_HEADER];
    header[0] = protocol;
    // smoltcp's header begins after the next header and a reserved byte.
    let mut fields = Ipv6FragmentHeader::new_unchecked(&mut header[2..]);
    fields.set_frag_offset(short(offset / 8));
    fields.set_more_frags(more);
    fields.set_ident(identification);
    frame.extend_from_slice(&header);
}

/// No packet is longer than 16 bits count.
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Writes the checksum of a packet of UDP, whose IP header is as in [`cut`]. A device that does
/// checksums cannot do those of fragments.
pub(crate) fn fill_udp_checksum(frame: &mut [u8]) {
    let is_v4 = frame[12..14] == IPV4;
    let packet = &mut frame[ETHERNET_HEADER..];
    if is_v4 {
        let header = Ipv4Packet::new_unchecked(&*packet);
        let (protocol, from, to) = (header.next_header(), header.src_addr(), header.dst_addr());
        if protocol == IpProtocol::Udp {
            UdpPacket::new_unchecked(&mut packet[IPV4_HEADER..])
                .fill_checksum(&from.into(), &to.into());
        }
    } else {
        let header = Ipv6Packet::new_unchecked(&*packet);
        let (protocol, from, to) = (header.next_header(), header.src_addr(), header.dst_addr());
        if protocol == IpProtocol::Udp {
            UdpPacket::new_unchecked(&mut packet[IPV6_HEADER..])
                .fill_checksum(&from.into(), &to.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use smoltcp::wire::EthernetAddress;

    use super::*;
    use neighbor::frame;

    const MACS: (EthernetAddress, EthernetAddress) =
        (EthernetAddress([2; 6]), EthernetAddress([4; 6]));
    const MTU: usize = 1_500;

    type Ends = (IpAddr, IpAddr);

    fn packet(ends: Ends, len: usize) -> Vec<u8> {
        let mut frame = frame::ip(MACS, ends, IpProtocol::Udp, 64, len);
        let begin = frame.len() - len;
        frame[begin..].iter_mut().zip((0..=250).cycle()).for_each(|(byte, value)| *byte = value);
        frame
    }

    #[test]
    fn fragments_fit_frames_and_hold_all_bytes_in_order() {
        let v4: Ends = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let v6: Ends = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        for (ends, header) in [(v4, IPV4_HEADER), (v6, IPV6_HEADER + FRAGMENT_HEADER)] {
            for len in [1_481, 2_960, 2_961, 65_515] {
                let whole = packet(ends, len);
                let fragments = cut(&whole, MTU, 0x0102_0304);
                let mut data = Vec::new();
                for (index, fragment) in fragments.iter().enumerate() {
                    assert!(fragment.len() <= ETHERNET_HEADER + MTU);
                    let ip = &fragment[ETHERNET_HEADER..];
                    let (offset, more) = if ends == v4 {
                        let ip = Ipv4Packet::new_checked(ip).unwrap();
                        assert!(ip.verify_checksum() && ip.ident() == 0x0304);
                        (usize::from(ip.frag_offset()), ip.more_frags())
                    } else {
                        assert_eq!((ip[6], ip[IPV6_HEADER]), (FRAGMENT, 17));
                        Ipv6Packet::new_checked(ip).unwrap();
                        let fields = Ipv6FragmentHeader::new_unchecked(&ip[IPV6_HEADER + 2..]);
                        assert_eq!(fields.ident(), 0x0102_0304);
                        (usize::from(fields.frag_offset()) * 8, fields.more_frags())
                    };
                    assert_eq!((offset, more), (data.len(), index + 1 < fragments.len()));
                    data.extend_from_slice(&ip[header..]);
                }
                assert_eq!(data, whole[whole.len() - len..]);
            }
        }
    }

    #[test]
    fn only_datagrams_get_a_checksum() {
        let ends: Ends = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut datagram = packet(ends, 2_000);
        let udp = ETHERNET_HEADER + IPV4_HEADER;
        datagram[udp + 4..udp + 8].copy_from_slice(&[7, 208, 0, 0]);
        let mut message = datagram.clone();
        message[ETHERNET_HEADER + 9] = 1;
        fill_udp_checksum(&mut datagram);
        let checked = UdpPacket::new_checked(&datagram[udp..]).unwrap();
        assert!(checked.verify_checksum(&ends.0.into(), &ends.1.into()));
        let before = message.clone();
        fill_udp_checksum(&mut message);
        assert_eq!(message, before);
    }
}
