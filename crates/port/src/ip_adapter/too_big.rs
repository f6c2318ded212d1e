//! What a peer learns of a packet that is longer than a frame of the bus: an ICMP message with the
//! longest that passes (RFC 1191, RFC 4443). TCP and others then send shorter packets. Without it, a
//! connection that has begun well hangs at its first long packet.
//!
//! The port has no IPv4 address of its own, so the message comes from where the packet was to go, as
//! if a router there had no room for it. IPv4 packets that routers may cut are dropped without a word:
//! the port does not cut them.

use std::net::IpAddr;
use std::time::Instant;

use neighbor::frame::{ETHERNET_HEADER, IPV6_HEADER};
use neighbor::icmp_error::{self, Limit};
use smoltcp::wire::{EthernetAddress, IpProtocol};

use super::packet::Packet;

/// The most messages a second. One for each destination is enough, and what the peer sends may claim to
/// be for any.
const MOST: u32 = 32;

/// The messages for a peer.
#[derive(Debug)]
pub(super) struct TooBig {
    waiting: Vec<Vec<u8>>,
    limit: Limit,
}

impl Default for TooBig {
    fn default() -> Self {
        Self { waiting: Vec::new(), limit: Limit::new(MOST) }
    }
}

impl TooBig {
    /// Makes the message about a packet that is longer than `mtu` bytes, if there is to be one.
    pub(super) fn note(&mut self, packet: &Packet, bytes: &[u8], mtu: usize, now: Instant) {
        if deserves_message(packet, bytes) && self.limit.take(now) {
            self.waiting.push(message(packet, bytes, mtu));
        }
    }

    /// Takes out the packets for the peer.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.waiting)
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// Returns whether routers may not cut the packet, and it is no message about another.
fn deserves_message(packet: &Packet, bytes: &[u8]) -> bool {
    let payload = |header: usize| bytes.get(header).copied();
    match packet.source {
        IpAddr::V4(_) => {
            let header_len = usize::from(bytes[0] & 0xf) * 4;
            let [flags, offset] = [bytes[6] & 0xe0, bytes[6] & 0x1f | bytes[7]];
            let is_error = bytes[9] == u8::from(IpProtocol::Icmp)
                && payload(header_len).is_none_or(|kind| matches!(kind, 3..=5 | 11 | 12));
            flags & 0x40 != 0 && offset == 0 && !is_error
        }
        // Of ICMPv6, errors have types below 128.
        IpAddr::V6(_) => {
            bytes[6] != u8::from(IpProtocol::Icmpv6)
                || payload(IPV6_HEADER).is_some_and(|kind| kind >= 128)
        }
    }
}

fn message(packet: &Packet, bytes: &[u8], mtu: usize) -> Vec<u8> {
    // The peer has no Ethernet.
    let macs = (EthernetAddress::default(), EthernetAddress::default());
    let ends = (packet.destination, packet.source);
    let (kind, mtu) = if packet.source.is_ipv6() {
        // Packet too big.
        ([2, 0], u32::try_from(mtu).unwrap_or(u32::MAX))
    } else {
        // Destination unreachable: fragmentation needed.
        ([3, 4], u16::try_from(mtu).unwrap_or(u16::MAX).into())
    };
    let mut message = icmp_error::frame(macs, ends, kind, mtu, &bytes[..packet.len]);
    message.drain(..ETHERNET_HEADER);
    message
}
