//! IPv6's extension headers: what stands between the IPv6 header and what it carries (RFC 8200).
//!
//! The stack knows none of them. The link reads them and removes them.

use std::num::NonZeroUsize;

use neighbor::frame::IPV6_HEADER;

/// Extension headers, by their numbers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Nothing follows.
const NOTHING: u8 = 59;

/// The most extension headers of a packet. No honest one has as many.
const MAX_HEADERS: usize = 8;
/// Where the IPv6 header says what follows it.
const FIRST: usize = 6;

/// Options that say nothing to a host: padding, and an alert for routers.
const PADDING_1: u8 = 0;
const KNOWN_OPTIONS: [u8; 2] = [1, 5];

/// What the extension headers of a packet lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// The headers are fine, or there are none.
    Payload {
        /// The protocol.
        protocol: u8,
        /// Where the packet says so, in bytes from the IPv6 header's begin.
        named_at: usize,
        /// Where the payload begins.
        begin: usize,
    },
    /// There is a fragment header. The headers before it are fine.
    Fragment {
        /// Where the header before it says that it follows.
        named_at: usize,
        /// Where it begins.
        begin: usize,
    },
    /// The packet is dropped.
    Dropped,
    /// The packet is dropped, and the sender hears about it.
    Refused {
        /// The code of the `ICMPv6` parameter problem.
        code: u8,
        /// What was wrong, in bytes from the IPv6 header's begin.
        pointer: usize,
        /// Whether a multicast packet, too, is answered.
        also_multicast: bool,
    },
}

/// The parameter problem's codes.
const WRONG_FIELD: u8 = 0;
pub(crate) const UNKNOWN_NEXT_HEADER: u8 = 1;
const UNKNOWN_OPTION: u8 = 2;

/// Reads the extension headers of an IPv6 packet, which has a whole IPv6 header.
pub(crate) fn read(packet: &[u8]) -> Chain {
    let mut named_at = FIRST;
    let mut begin = IPV6_HEADER;
    for count in 0..=MAX_HEADERS {
        let kind = packet[named_at];
        match kind {
            FRAGMENT => return Chain::Fragment { named_at, begin },
            // It may only be the first.
            HOP_BY_HOP if count > 0 => {
                return Chain::Refused {
                    code: UNKNOWN_NEXT_HEADER,
                    pointer: named_at,
                    also_multicast: false,
                };
            }
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {}
            NOTHING => return Chain::Dropped,
            protocol => return Chain::Payload { protocol, named_at, begin },
        }
        let Some(header) = packet.get(begin..).and_then(whole_header) else {
            return Chain::Dropped;
        };
        if kind == ROUTING {
            // A host that is the destination skips it; as an intermediate stop it has no route.
            if header[3] != 0 {
                return Chain::Refused {
                    code: WRONG_FIELD,
                    pointer: begin + 2,
                    also_multicast: false,
                };
            }
        } else if let Some(refusal) = read_options(header, begin) {
            return refusal;
        }
        named_at = begin;
        begin += header.len();
    }
    Chain::Dropped
}

/// Returns the extension header at the begin of `bytes`, if all of it is there.
fn whole_header(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..usize::from(*bytes.get(1)?) * 8 + 8)
}

/// Returns what to do about the options of a header at `begin` if the packet must not be accepted.
fn read_options(header: &[u8], begin: usize) -> Option<Chain> {
    let mut at = 2;
    while let Some(&option) = header.get(at) {
        if option == PADDING_1 {
            at += 1;
            continue;
        }
        let Some(len) = header.get(at + 1).map(|len| usize::from(*len) + 2) else {
            return Some(Chain::Dropped);
        };
        if at + len > header.len() {
            return Some(Chain::Dropped);
        }
        if !KNOWN_OPTIONS.contains(&option) {
            let refused = |also_multicast| Chain::Refused {
                code: UNKNOWN_OPTION,
                pointer: begin + at,
                also_multicast,
            };
            // The option's own highest bits say what a host does that does not know it.
            match option >> 6 {
                0 => {}
                1 => return Some(Chain::Dropped),
                2 => return Some(refused(true)),
                _ => return Some(refused(false)),
            }
        }
        at += len;
    }
    None
}

/// Returns the frame without the bytes from the end of the IPv6 header to the payload. `ip` is
/// where the IPv6 header begins, and `begin` the payload, counted from there.
pub(crate) fn removed(frame: &[u8], ip: usize, protocol: u8, begin: usize) -> Option<Vec<u8>> {
    let extra = NonZeroUsize::new(begin.checked_sub(IPV6_HEADER)?)?.get();
    let mut plain = [&frame[..ip + IPV6_HEADER], frame.get(ip + begin..)?].concat();
    let len = u16::from_be_bytes([frame[ip + 4], frame[ip + 5]]);
    let len = len.checked_sub(u16::try_from(extra).ok()?)?;
    plain[ip + 4..ip + 6].copy_from_slice(&len.to_be_bytes());
    plain[ip + FIRST] = protocol;
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: u8 = 17;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; IPV6_HEADER];
        packet[5] = u8::try_from(rest.len()).unwrap();
        packet[FIRST] = first;
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn headers_that_say_nothing_to_a_host_are_skipped_and_removed() {
        let plain = packet(UDP, b"payload");
        assert_eq!(read(&plain), Chain::Payload { protocol: UDP, named_at: 6, begin: 40 });
        for rest in [
            &[UDP, 0, 1, 4, 0, 0, 0, 0][..],
            &[UDP, 0, 0, 0, 0, 0, 0, 0],
            &[UDP, 0, 5, 2, 0, 0, 1, 0],
            &[UDP, 0, 0x1e, 4, 9, 9, 9, 9],
        ] {
            for first in [HOP_BY_HOP, DESTINATION_OPTIONS] {
                let long = packet(first, &[rest, b"payload"].concat());
                assert_eq!(read(&long), Chain::Payload { protocol: UDP, named_at: 40, begin: 48 });
                assert_eq!(removed(&long, 0, UDP, 48), Some(plain.clone()));
            }
        }
        let routed = packet(ROUTING, &[60, 0, 0, 0, 0, 0, 0, 0, UDP, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(read(&routed), Chain::Payload { protocol: UDP, named_at: 48, begin: 56 });
    }

    #[test]
    fn unknown_options_say_themselves_what_happens() {
        for (option, right) in [
            (0x40, Chain::Dropped),
            (0x80, Chain::Refused { code: 2, pointer: 42, also_multicast: true }),
            (0xc9, Chain::Refused { code: 2, pointer: 42, also_multicast: false }),
        ] {
            let options = [UDP, 0, option, 4, 0, 0, 0, 0];
            assert_eq!(read(&packet(DESTINATION_OPTIONS, &options)), right);
        }
    }

    #[test]
    fn what_cannot_be_is_dropped_or_refused() {
        let refused = |code, pointer| Chain::Refused { code, pointer, also_multicast: false };
        let padding = [1, 4, 0, 0, 0, 0];
        let then = |next: u8| [&[next, 0][..], &padding].concat();
        for (first, rest, right) in [
            (ROUTING, vec![UDP, 0, 9, 1, 0, 0, 0, 0], refused(0, 42)),
            (DESTINATION_OPTIONS, [then(HOP_BY_HOP), then(UDP)].concat(), refused(1, 40)),
            (NOTHING, vec![], Chain::Dropped),
            (DESTINATION_OPTIONS, vec![UDP, 1, 1, 4, 0, 0, 0, 0], Chain::Dropped),
            (DESTINATION_OPTIONS, vec![UDP, 0, 1, 5, 0, 0, 0, 0], Chain::Dropped),
            (DESTINATION_OPTIONS, vec![], Chain::Dropped),
            (DESTINATION_OPTIONS, then(DESTINATION_OPTIONS).repeat(20), Chain::Dropped),
        ] {
            assert_eq!(read(&packet(first, &rest)), right, "{first} {rest:?}");
        }
        let fragmented = packet(HOP_BY_HOP, &[then(FRAGMENT), vec![UDP, 0, 0, 1]].concat());
        assert_eq!(read(&fragmented), Chain::Fragment { named_at: 40, begin: 48 });
        assert_eq!(removed(&fragmented, 0, UDP, 400), None);
    }
}
