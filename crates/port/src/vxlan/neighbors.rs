//! Which Ethernet address an IP address has behind a remote (`suppress=on`): questions of the bus for
//! it are answered here, and do not go to all remotes.
//!
//! What is known comes from the ARP packets and neighbor advertisements of the remotes. Probes for an
//! address that is to be taken go to all, as the one who has it is to answer by itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use shmbus::offload::Checksum;

use super::table::{Mac, is_of_one};

/// After this time without news of it an address is forgotten.
const MAX_AGE: Duration = Duration::from_mins(5);
/// The most addresses of one remote, and of all.
const MAX_OF_REMOTE: usize = 4_096;
const MAX_OF_ALL: usize = 65_536;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// An ARP packet about IPv4 over Ethernet begins with this.
const ARP_HEAD: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// The flags of an advertisement: it is an answer, and newer than what is known.
const SOLICITED_OVERRIDE: u8 = 0x60;
const TARGET_ADDRESS: u8 = 2;

/// The longest answer in bytes.
pub(super) const MAX_ANSWER: usize = 86;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Neighbors {
    known: HashMap<IpAddr, Known>,
    counts: HashMap<usize, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    mac: Mac,
    remote: usize,
    at: Instant,
}

/// What a frame says or asks about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// The address has this Ethernet address.
    Is(IpAddr, Mac),
    /// Which one has it, for whom to know?
    Who { target: IpAddr, asker: IpAddr, asker_mac: Mac },
}

impl Neighbors {
    /// Learns from a frame that has come from a remote.
    pub(super) fn learn(&mut self, frame: &[u8], remote: usize, now: Instant) {
        let (address, mac) = match message(frame) {
            Some(Message::Is(address, mac)) => (address, mac),
            // Who asks says its own.
            Some(Message::Who { asker, asker_mac, .. }) => (asker, asker_mac),
            None => return,
        };
        if !is_of_one(mac) || address.is_unspecified() || address.is_multicast() {
            return;
        }
        self.forget(address);
        let count = self.counts.entry(remote).or_default();
        if *count < MAX_OF_REMOTE && self.known.len() < MAX_OF_ALL {
            *count += 1;
            self.known.insert(address, Known { mac, remote, at: now });
        }
    }

    /// Notes that a frame has come from the bus: what it says of itself is no more behind a remote.
    /// Returns the length of the answer that was written to `answer`, if the frame is a question and
    /// the answer is known.
    pub(super) fn answer(
        &mut self,
        frame: &[u8],
        now: Instant,
        answer: &mut [u8; MAX_ANSWER],
    ) -> Option<usize> {
        let (target, asker, asker_mac) = match message(frame)? {
            Message::Is(address, _) => {
                self.forget(address);
                return None;
            }
            Message::Who { target, asker, asker_mac } => (target, asker, asker_mac),
        };
        self.forget(asker);
        let known = self.known.get(&target)?;
        if asker.is_unspecified() || now.saturating_duration_since(known.at) >= MAX_AGE {
            return None;
        }
        match (target, asker) {
            (IpAddr::V4(target), IpAddr::V4(asker)) => {
                Some(arp_reply(known.mac, target, asker_mac, asker, answer))
            }
            (IpAddr::V6(target), IpAddr::V6(asker)) => {
                Some(advertisement(known.mac, target, asker_mac, asker, answer))
            }
            _ => None,
        }
    }

    fn forget(&mut self, address: IpAddr) {
        if let Some(known) = self.known.remove(&address)
            && let Some(count) = self.counts.get_mut(&known.remote)
        {
            *count -= 1;
        }
    }

    /// Forgets what is too old.
    pub(super) fn age(&mut self, now: Instant) {
        let old = |known: &Known| now.saturating_duration_since(known.at) >= MAX_AGE;
        let gone: Vec<IpAddr> = self
            .known
            .iter()
            .filter(|(_, known)| old(known))
            .map(|(address, _)| *address)
            .collect();
        for address in gone {
            self.forget(address);
        }
    }

    /// Forgets what a remote has said.
    pub(super) fn forget_remote(&mut self, remote: usize) {
        self.known.retain(|_, known| known.remote != remote);
        self.counts.remove(&remote);
    }
}

/// Reads what a frame says or asks.
fn message(frame: &[u8]) -> Option<Message> {
    let ether_type: [u8; 2] = *frame.get(12..)?.first_chunk()?;
    match ether_type {
        ARP => arp(frame.get(14..)?),
        IPV6 => neighbor_discovery(frame.get(6..12)?.try_into().ok()?, frame.get(14..)?),
        _ => None,
    }
}

fn arp(packet: &[u8]) -> Option<Message> {
    let packet: &[u8; 28] = packet.first_chunk()?;
    if packet[..6] != ARP_HEAD || packet[6] != 0 {
        return None;
    }
    let mac = |at: usize| -> Mac { std::array::from_fn(|byte| packet[at + byte]) };
    let address =
        |at: usize| -> Ipv4Addr { <[u8; 4]>::into(std::array::from_fn(|byte| packet[at + byte])) };
    let (sender_mac, sender, target) = (mac(8), address(14), address(24));
    match packet[7] {
        // A host that announces itself.
        ARP_REQUEST if sender == target => Some(Message::Is(sender.into(), sender_mac)),
        ARP_REQUEST => Some(Message::Who {
            target: target.into(),
            asker: sender.into(),
            asker_mac: sender_mac,
        }),
        ARP_REPLY => Some(Message::Is(sender.into(), sender_mac)),
        _ => None,
    }
}

fn neighbor_discovery(source_mac: Mac, packet: &[u8]) -> Option<Message> {
    let (header, body) = packet.split_first_chunk::<40>()?;
    let body = body.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let (fixed, options) = body.split_first_chunk::<24>()?;
    // A router between would have lowered the hop limit.
    if header[6] != ICMPV6 || header[7] != 255 || fixed[1] != 0 {
        return None;
    }
    let address = |bytes: &[u8]| -> Option<Ipv6Addr> {
        bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes))
    };
    let (source, destination) = (address(&header[8..])?, address(&header[24..])?);
    let sum = Checksum::pseudo_v6(source, destination, ICMPV6, u32::try_from(body.len()).ok()?);
    if !sum.with(body).is_good() {
        return None;
    }
    let target = address(&fixed[8..])?;
    match fixed[0] {
        SOLICITATION => Some(Message::Who {
            target: target.into(),
            asker: source.into(),
            asker_mac: source_mac,
        }),
        ADVERTISEMENT => {
            let mac = link_address(options, TARGET_ADDRESS)?;
            Some(Message::Is(target.into(), mac))
        }
        _ => None,
    }
}

/// Returns the Ethernet address in the option of this type.
fn link_address(mut options: &[u8], of: u8) -> Option<Mac> {
    while let [kind, len, ..] = *options
        && len > 0
    {
        let option = options.get(..8 * usize::from(len))?;
        if kind == of && len == 1 {
            return option[2..].first_chunk().copied();
        }
        options = &options[option.len()..];
    }
    None
}

fn arp_reply(
    mac: Mac,
    target: Ipv4Addr,
    asker_mac: Mac,
    asker: Ipv4Addr,
    frame: &mut [u8; MAX_ANSWER],
) -> usize {
    let parts: [&[u8]; 9] = [
        &asker_mac,
        &mac,
        &ARP,
        &ARP_HEAD,
        &[0, ARP_REPLY],
        &mac,
        &target.octets(),
        &asker_mac,
        &asker.octets(),
    ];
    write(&parts, frame)
}

fn advertisement(
    mac: Mac,
    target: Ipv6Addr,
    asker_mac: Mac,
    asker: Ipv6Addr,
    frame: &mut [u8; MAX_ANSWER],
) -> usize {
    const LEN: u16 = 32;
    let head = [ADVERTISEMENT, 0, 0, 0, SOLICITED_OVERRIDE, 0, 0, 0];
    let sum = Checksum::pseudo_v6(target, asker, ICMPV6, u32::from(LEN))
        .with(&head)
        .with(&target.octets())
        .with(&[TARGET_ADDRESS, 1])
        .with(&mac);
    let [high, low] = sum.value().to_be_bytes();
    let parts: [&[u8]; 10] = [
        &asker_mac,
        &mac,
        &IPV6,
        &[0x60, 0, 0, 0, 0, LEN.to_be_bytes()[1], ICMPV6, 255],
        &target.octets(),
        &asker.octets(),
        &[ADVERTISEMENT, 0, high, low, SOLICITED_OVERRIDE, 0, 0, 0],
        &target.octets(),
        &[TARGET_ADDRESS, 1],
        &mac,
    ];
    write(&parts, frame)
}

/// Writes the parts one behind the other, and returns their length.
fn write(parts: &[&[u8]], frame: &mut [u8; MAX_ANSWER]) -> usize {
    let mut len = 0;
    for part in parts {
        frame[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Mac = [2, 0, 0, 0, 0, 0xa];
    const BOB: Mac = [2, 0, 0, 0, 0, 0xb];
    const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];

    fn v6(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
    }

    fn arp_question(asker: Ipv4Addr, mac: Mac, target: Ipv4Addr) -> Vec<u8> {
        let mut frame = [&[0xff; 6][..], &mac, &ARP, &ARP_HEAD, &[0, ARP_REQUEST], &mac].concat();
        frame.extend(asker.octets());
        frame.extend([0; 6]);
        frame.extend(target.octets());
        frame
    }

    fn solicitation(asker: Ipv6Addr, mac: Mac, target: Ipv6Addr) -> Vec<u8> {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, target.segments()[7]);
        let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        body.extend(target.octets());
        body.extend([1, 1]);
        body.extend(mac);
        let sum = Checksum::pseudo_v6(asker, group, ICMPV6, 32).with(&body).value();
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = [&[0x33, 0x33, 0xff, 0, 0, 1][..], &mac, &IPV6].concat();
        frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
        frame.extend(asker.octets());
        frame.extend(group.octets());
        frame.extend(body);
        frame
    }

    fn asked(neighbors: &mut Neighbors, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
        let mut answer = [0; MAX_ANSWER];
        neighbors.answer(frame, now, &mut answer).map(|len| answer[..len].to_vec())
    }

    #[test]
    fn a_question_is_answered_once_the_answer_is_known() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        let question = arp_question(V4[1], BOB, V4[0]);
        assert_eq!(asked(&mut neighbors, &question, now), None);
        // Alice asked for someone, behind a remote.
        neighbors.learn(&arp_question(V4[0], ALICE, [10, 0, 0, 9].into()), 0, now);
        let answer = asked(&mut neighbors, &question, now).expect("known");
        assert_eq!((&answer[..6], &answer[6..12]), (&BOB[..], &ALICE[..]));
        assert_eq!(message(&answer), Some(Message::Is(V4[0].into(), ALICE)));

        let question = solicitation(v6(2), BOB, v6(1));
        assert_eq!(asked(&mut neighbors, &question, now), None);
        neighbors.learn(&solicitation(v6(1), ALICE, v6(9)), 0, now);
        let answer = asked(&mut neighbors, &question, now).expect("known");
        assert_eq!(answer.len(), MAX_ANSWER);
        // Its checksum is right, too.
        assert_eq!(message(&answer), Some(Message::Is(v6(1).into(), ALICE)));
        assert_eq!(asked(&mut neighbors, &question, now + MAX_AGE), None);
    }

    #[test]
    fn probes_and_those_that_moved_are_not_answered() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.learn(&arp_question(V4[0], ALICE, V4[1]), 0, now);
        neighbors.learn(&solicitation(v6(1), ALICE, v6(9)), 0, now);
        let probe = arp_question(Ipv4Addr::UNSPECIFIED, BOB, V4[0]);
        assert_eq!(asked(&mut neighbors, &probe, now), None);
        let probe = solicitation(Ipv6Addr::UNSPECIFIED, BOB, v6(1));
        assert_eq!(asked(&mut neighbors, &probe, now), None);
        // Alice announces herself on the bus.
        assert_eq!(asked(&mut neighbors, &arp_question(V4[0], ALICE, V4[0]), now), None);
        assert_eq!(asked(&mut neighbors, &arp_question(V4[1], BOB, V4[0]), now), None);
        neighbors.forget_remote(0);
        assert!(neighbors.known.is_empty());
    }

    #[test]
    fn a_remote_has_a_share_of_the_room() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        for number in 0..10_000_u32 {
            let address = Ipv4Addr::from(0x0a00_0000 + number);
            neighbors.learn(&arp_question(address, ALICE, V4[1]), 0, now);
        }
        assert_eq!(neighbors.known.len(), MAX_OF_REMOTE);
        neighbors.age(now + MAX_AGE);
        assert_eq!((neighbors.known.len(), neighbors.counts[&0]), (0, 0));
    }

    #[test]
    fn any_bytes_are_read() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        let seeds = [arp_question(V4[0], ALICE, V4[1]), solicitation(v6(1), ALICE, v6(2))];
        for _ in 0..20_000 {
            let mut frame = seeds[random.usize(..2)].clone();
            for _ in 0..random.usize(..4) {
                let at = random.usize(..frame.len());
                frame[at] = random.u8(..);
            }
            frame.truncate(random.usize(..=frame.len()));
            neighbors.learn(&frame, random.usize(..3), now);
            asked(&mut neighbors, &frame, now);
        }
    }
}
