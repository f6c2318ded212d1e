//! Watches for what comes of ICMP echo requests: replies, good and damaged, and errors that quote a
//! request. The stack's own sockets pass on no errors, no hop limit and nothing that is damaged.

use std::collections::VecDeque;
use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};

use crate::icmp_error::PingError;
use neighbor::frame::{IPV6_HEADER, is_icmp_checksum_good};

/// Bytes of an echo message before its data, and of an error before what it quotes.
pub(crate) const ECHO_HEADER: usize = 8;
/// The most events between two looks at them.
const MAX_EVENTS: usize = 4_096;

/// Types of echo messages.
pub(crate) const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
pub(crate) const V6_REQUEST: u8 = 128;
pub(crate) const V6_REPLY: u8 = 129;

/// An ICMP message that a host has received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'m> {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) hop_limit: u8,
    pub(crate) bytes: &'m [u8],
}

/// What is wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The checksum is wrong.
    Checksum,
    /// It has another number of bytes than the request.
    Length,
    /// A byte of the data is not what was sent.
    Byte {
        /// The first such byte, counted from 0.
        at: usize,
        /// What was sent.
        sent: u8,
        /// What came back.
        received: u8,
    },
}

/// What has come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EchoEvent {
    /// It has left.
    Left { sequence: u16 },
    /// A reply.
    Reply { sequence: u16, hop_limit: u8, len: usize, damage: Option<Damage> },
    /// An error, from the host `from`.
    Error { sequence: u16, from: IpAddr, error: PingError },
}

/// The requests with one identifier to one host.
#[derive(Debug)]
pub(crate) struct EchoWatch {
    pub(crate) ident: u16,
    pub(crate) target: IpAddr,
    /// The data of every request.
    pub(crate) data: Vec<u8>,
    events: VecDeque<EchoEvent>,
}

impl EchoWatch {
    pub(crate) fn new(ident: u16, target: IpAddr, data: Vec<u8>) -> Self {
        Self { ident, target, data, events: VecDeque::new() }
    }

    /// Notes an event. The oldest is dropped when too many wait.
    pub(crate) fn note(&mut self, event: EchoEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Returns the next event.
    pub(crate) fn next_event(&mut self) -> Option<EchoEvent> {
        self.events.pop_front()
    }

    /// Takes a message, if it concerns a request.
    pub(crate) fn take(&mut self, message: &Message<'_>) {
        let bytes = message.bytes;
        let v6 = message.from.is_ipv6();
        let Some(&[kind, code, _, _, a, b, c, d]) = bytes.first_chunk::<ECHO_HEADER>() else {
            return;
        };
        let is_good = is_icmp_checksum_good(bytes, message.from, message.to);
        if kind == (if v6 { V6_REPLY } else { V4_REPLY }) {
            if message.from == self.target && u16::from_be_bytes([a, b]) == self.ident {
                let damage = if is_good {
                    self.damage(&bytes[ECHO_HEADER..])
                } else {
                    Some(Damage::Checksum)
                };
                self.note(EchoEvent::Reply {
                    sequence: u16::from_be_bytes([c, d]),
                    hop_limit: message.hop_limit,
                    len: bytes.len(),
                    damage,
                });
            }
        } else if PingError::is_error(v6, kind)
            && is_good
            && let Some(sequence) = self.quoted(&bytes[ECHO_HEADER..], message.to)
        {
            let rest = u32::from_be_bytes([a, b, c, d]);
            let error = PingError::Icmp { v6, kind, code, rest };
            self.note(EchoEvent::Error { sequence, from: message.from, error });
        }
    }

    fn damage(&self, data: &[u8]) -> Option<Damage> {
        let mut pairs = self.data.iter().zip(data).enumerate();
        match pairs.find(|(_, (sent, received))| sent != received) {
            Some((at, (&sent, &received))) => Some(Damage::Byte { at, sent, received }),
            None => (data.len() != self.data.len()).then_some(Damage::Length),
        }
    }

    /// Returns the number of the request that `packet` is the begin of, if it is one of `own`.
    fn quoted(&self, packet: &[u8], own: IpAddr) -> Option<u16> {
        let (from, to, echo): (IpAddr, IpAddr, _) = if own.is_ipv4() {
            let header = Ipv4Packet::new_unchecked(packet.get(..20).map(|_| packet)?);
            let is_first = header.frag_offset() == 0 && header.next_header() == IpProtocol::Icmp;
            let echo = packet.get(usize::from(header.header_len())..).filter(|_| is_first)?;
            (header.src_addr().into(), header.dst_addr().into(), echo)
        } else {
            let header = Ipv6Packet::new_unchecked(packet.get(..IPV6_HEADER).map(|_| packet)?);
            let rest = &packet[IPV6_HEADER..];
            // A long request leaves in fragments.
            let echo = match header.next_header() {
                IpProtocol::Icmpv6 => rest,
                IpProtocol::Ipv6Frag if rest.get(2..4)? == [0, 1] => rest.get(8..)?,
                _ => return None,
            };
            (header.src_addr().into(), header.dst_addr().into(), echo)
        };
        let &[kind, _, _, _, a, b, c, d] = echo.first_chunk()?;
        let is_request = kind == if own.is_ipv4() { V4_REQUEST } else { V6_REQUEST };
        let is_ours = from == own && to == self.target && u16::from_be_bytes([a, b]) == self.ident;
        (is_request && is_ours).then(|| u16::from_be_bytes([c, d]))
    }
}

/// Returns whether a message of this type is none of the stack's business: it is a reply, or an
/// error.
pub(crate) fn is_watched(v6: bool, kind: u8) -> bool {
    kind == (if v6 { V6_REPLY } else { V4_REPLY }) || PingError::is_error(v6, kind)
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::EthernetAddress;

    use super::*;
    use neighbor::frame::{self, ETHERNET_HEADER, fill_icmp_checksum};

    const IDENT: u16 = 0x1234;

    fn ends(v6: bool) -> (IpAddr, IpAddr) {
        if v6 {
            ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap())
        } else {
            ([10, 0, 0, 2].into(), [10, 0, 0, 1].into())
        }
    }

    fn watch(v6: bool) -> EchoWatch {
        EchoWatch::new(IDENT, ends(v6).1, (0..40).collect())
    }

    fn echo(kind: u8, sequence: u16, data: &[u8], ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend(IDENT.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(data);
        fill_icmp_checksum(&mut bytes, ends.1, ends.0);
        bytes
    }

    fn take(watch: &mut EchoWatch, from: IpAddr, bytes: &[u8]) -> Option<EchoEvent> {
        let to = ends(from.is_ipv6()).0;
        watch.take(&Message { from, to, hop_limit: 61, bytes });
        watch.next_event()
    }

    #[test]
    fn replies_are_good_or_damaged_or_of_others() {
        for v6 in [false, true] {
            let mut watch = watch(v6);
            let target = watch.target;
            let kind = if v6 { V6_REPLY } else { V4_REPLY };
            let data: Vec<u8> = (0..40).collect();
            let reply =
                |damage, len| Some(EchoEvent::Reply { sequence: 5, hop_limit: 61, len, damage });
            let good = echo(kind, 5, &data, ends(v6));
            assert_eq!(take(&mut watch, target, &good), reply(None, 48));
            let mut changed = data.clone();
            changed[20] = 0xee;
            let damage = Damage::Byte { at: 20, sent: 20, received: 0xee };
            let bytes = echo(kind, 5, &changed, ends(v6));
            assert_eq!(take(&mut watch, target, &bytes), reply(Some(damage), 48));
            let short = echo(kind, 5, &data[..30], ends(v6));
            assert_eq!(take(&mut watch, target, &short), reply(Some(Damage::Length), 38));
            let mut wrong = good.clone();
            wrong[2] ^= 1;
            assert_eq!(take(&mut watch, target, &wrong), reply(Some(Damage::Checksum), 48));
            let other = if v6 { "fd00::9".parse().unwrap() } else { [10, 0, 0, 9].into() };
            assert_eq!(take(&mut watch, other, &good), None);
            let mut ident = good.clone();
            ident[4] ^= 1;
            assert_eq!(take(&mut watch, target, &ident), None);
            assert_eq!(take(&mut watch, target, &good[..7]), None);
        }
    }

    #[test]
    fn errors_count_when_they_quote_a_request() {
        for v6 in [false, true] {
            let mut watch = watch(v6);
            let (own, target) = ends(v6);
            let (kind, code, request) = if v6 { (1, 3, V6_REQUEST) } else { (3, 1, V4_REQUEST) };
            let protocol = if v6 { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
            let macs = (EthernetAddress([2; 6]), EthernetAddress([4; 6]));
            let mut sent = frame::ip(macs, (own, target), protocol, 64, 48);
            let at = sent.len() - 48;
            let data: Vec<u8> = (0..40).collect();
            sent[at..].copy_from_slice(&echo(request, 9, &data, (target, own)));
            let error = |packet: &[u8]| {
                let mut bytes = vec![kind, code, 0, 0, 0, 0, 2, 88];
                bytes.extend(packet);
                fill_icmp_checksum(&mut bytes, target, own);
                bytes
            };
            let packet = &sent[ETHERNET_HEADER..];
            let whole = packet.len();
            let heard = take(&mut watch, target, &error(&packet[..whole - 40]));
            let right = PingError::Icmp { v6, kind, code, rest: 600 };
            let right = EchoEvent::Error { sequence: 9, from: target, error: right };
            assert_eq!(heard, Some(right));
            for len in 0..whole - 40 {
                assert_eq!(take(&mut watch, target, &error(&packet[..len])), None, "{len}");
            }
            let mut foreign = packet.to_vec();
            foreign[whole - 44] ^= 1;
            assert_eq!(take(&mut watch, target, &error(&foreign)), None, "another identifier");
        }
    }
}
