//! Cuts packets that are too long for a frame into fragments (RFC 791, RFC 8200).

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6FragmentHeader, Ipv6Packet, UdpPacket};

use crate::frame::{ETHERNET_HEADER, IPV4, IPV4_HEADER, IPV6_HEADER};

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
