//! What a peer learns of a packet that is longer than a frame of the bus: an ICMP message with the
//! longest that passes (RFC 1191, RFC 4443). TCP and others then send shorter packets. Without it, a
//! connection that has begun well hangs at its first long packet.
//!
//! The port has no IPv4 address of its own, so the message comes from where the packet was to go, as
//! if a router there had no room for it. IPv4 packets that routers may cut are dropped without a word:
//! the port does not cut them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use neighbor::frame::{self, ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER};
use smoltcp::wire::{EthernetAddress, IpProtocol};

use super::packet::Packet;

/// The most messages in [`WINDOW`]. One for each destination is enough, and what the peer sends may
/// claim to be for any.
const MOST: usize = 32;
const WINDOW: Duration = Duration::from_secs(1);
/// Bytes of an ICMP message before the packet that it is about.
const ICMP_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;
/// The longest messages: what every host takes whole.
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = 1_280;

/// The messages for a peer.
#[derive(Debug, Default)]
pub(super) struct TooBig {
    waiting: Vec<Vec<u8>>,
    /// When the current window began, and how many messages were made in it.
    window: Option<(Instant, usize)>,
}

impl TooBig {
    /// Makes the message about a packet that is longer than `mtu` bytes, if there is to be one.
    pub(super) fn note(&mut self, packet: &Packet, bytes: &[u8], mtu: usize, now: Instant) {
        if !deserves_message(packet, bytes) {
            return;
        }
        let (began, made) = match self.window {
            Some((began, made)) if now.saturating_duration_since(began) < WINDOW => (began, made),
            _ => (now, 0),
        };
        if made < MOST {
            self.window = Some((began, made + 1));
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
    let is_v6 = packet.source.is_ipv6();
    let (header, longest, protocol) = if is_v6 {
        (IPV6_HEADER, LONGEST_V6, IpProtocol::Icmpv6)
    } else {
        (IPV4_HEADER, LONGEST_V4, IpProtocol::Icmp)
    };
    let quoted = &bytes[..packet.len.min(longest - header - ICMP_HEADER)];
    let ends = (packet.destination, packet.source);
    let macs = (EthernetAddress::default(), EthernetAddress::default());
    let mut made = frame::ip(macs, ends, protocol, HOP_LIMIT, ICMP_HEADER + quoted.len());
    made.drain(..ETHERNET_HEADER);
    let icmp = &mut made[header..];
    if is_v6 {
        // Packet too big.
        icmp[0] = 2;
        icmp[4..8].copy_from_slice(&u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes());
    } else {
        // Destination unreachable: fragmentation needed.
        [icmp[0], icmp[1]] = [3, 4];
        icmp[6..8].copy_from_slice(&u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes());
    }
    icmp[ICMP_HEADER..].copy_from_slice(quoted);
    frame::fill_icmp_checksum(icmp, ends.0, ends.1);
    made
}
