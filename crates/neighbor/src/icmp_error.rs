//! ICMP errors about a packet, of both versions (RFC 792, RFC 4443), and how many are sent.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use smoltcp::wire::{EthernetAddress, IpProtocol};

use crate::frame::{self, IPV4_HEADER, IPV6_HEADER};

/// Bytes of an error before the packet that it quotes.
const HEADER: usize = 8;
/// The longest packets that carry an error, which every host takes whole (RFC 1812, RFC 4443).
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = 1_280;
const HOP_LIMIT: u8 = 64;
/// The time that a [`Limit`] is for.
const WINDOW: Duration = Duration::from_secs(1);

/// Makes the frame with an error from the first of `ends` to the second about `packet`, of which it
/// quotes as much as every host takes. `rest` are the four bytes after the checksum: an MTU or a
/// pointer. Both ends are of the same version of IP.
#[must_use]
pub fn frame(
    macs: (EthernetAddress, EthernetAddress),
    ends: (IpAddr, IpAddr),
    [kind, code]: [u8; 2],
    rest: u32,
    packet: &[u8],
) -> Vec<u8> {
    let (protocol, room) = if ends.1.is_ipv4() {
        (IpProtocol::Icmp, LONGEST_V4 - IPV4_HEADER - HEADER)
    } else {
        (IpProtocol::Icmpv6, LONGEST_V6 - IPV6_HEADER - HEADER)
    };
    let quoted = &packet[..packet.len().min(room)];
    let len = HEADER + quoted.len();
    let mut error = frame::ip(macs, ends, protocol, HOP_LIMIT, len);
    let start = error.len() - len;
    let message = &mut error[start..];
    [message[0], message[1]] = [kind, code];
    message[4..8].copy_from_slice(&rest.to_be_bytes());
    message[HEADER..].copy_from_slice(quoted);
    frame::fill_icmp_checksum(message, ends.0, ends.1);
    error
}

/// Limits how many errors are sent in a second, so that forged packets do not multiply.
#[derive(Debug)]
pub struct Limit {
    most: u32,
    begin: Option<Instant>,
    sent: u32,
}

impl Limit {
    /// Makes a limit of `most` errors a second.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most, begin: None, sent: 0 }
    }

    /// Returns whether one more may be sent.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.begin.is_none_or(|begin| now.saturating_duration_since(begin) >= WINDOW) {
            (self.begin, self.sent) = (Some(now), 0);
        }
        let may = self.sent < self.most;
        self.sent += u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flood_of_packets_makes_one_of_errors() {
        let (mut limit, now) = (Limit::new(50), Instant::now());
        assert_eq!((0..1_000).filter(|_| limit.take(now)).count(), 50);
        assert!(limit.take(now + WINDOW));
    }
}
