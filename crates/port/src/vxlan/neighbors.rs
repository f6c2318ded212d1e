//! Which Ethernet address an IP address has behind a remote (`suppress=on`): questions of the bus for
//! it are answered here, and do not go to all remotes.
//!
//! What is known comes from the ARP packets and neighbor advertisements of the remotes. Probes for an
//! address that is to be taken go to all, as the one who has it is to answer by itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use neighbor::arp::{self, Arp};
use neighbor::frame::{ARP, ETHERNET_HEADER, IPV6, IPV6_HEADER};
use neighbor::ndisc::{self, Ndisc};
use smoltcp::wire::EthernetAddress;

use super::table::{Mac, is_of_one};

/// After this time without news of it an address is forgotten.
const MAX_AGE: Duration = Duration::from_mins(5);
/// The most addresses of one remote, and of all.
const MAX_OF_REMOTE: usize = 4_096;
const MAX_OF_ALL: usize = 65_536;

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
    /// Returns the answer, if the frame is a question and the answer is known.
    pub(super) fn answer(&mut self, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
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
        let [mac, asker_mac] = [known.mac, asker_mac].map(EthernetAddress);
        match (target, asker) {
            (IpAddr::V4(target), IpAddr::V4(asker)) => {
                Some(arp::reply((target, mac), (asker, asker_mac)))
            }
            (IpAddr::V6(target), IpAddr::V6(asker)) => {
                Some(ndisc::advertisement((target, mac), (asker, asker_mac)))
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
    match *frame.get(12..)?.first_chunk()? {
        ARP => {
            let Arp { is_request, sender: (sender, mac), target } = Arp::read(frame)?;
            // A host that announces itself asks for its own address.
            Some(if is_request && sender != target {
                Message::Who { target: target.into(), asker: sender.into(), asker_mac: mac.0 }
            } else {
                Message::Is(sender.into(), mac.0)
            })
        }
        IPV6 => neighbor_discovery(frame),
        _ => None,
    }
}

fn neighbor_discovery(frame: &[u8]) -> Option<Message> {
    const ICMPV6: u8 = 58;
    let (header, body) = frame.get(ETHERNET_HEADER..)?.split_first_chunk::<IPV6_HEADER>()?;
    if header[6] != ICMPV6 {
        return None;
    }
    let body = body.get(..usize::from(u16::from_be_bytes([header[4], header[5]])))?;
    let address =
        |at: usize| -> Ipv6Addr { <[u8; 16]>::into(std::array::from_fn(|byte| header[at + byte])) };
    let source = address(8);
    match Ndisc::read(body, source, address(24), header[7])? {
        Ndisc::Solicitation { target, .. } => Some(Message::Who {
            target: target.into(),
            asker: source.into(),
            asker_mac: neighbor::frame::source(frame).0,
        }),
        Ndisc::Advertisement { target, mac, .. } => Some(Message::Is(target.into(), mac?.0)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ALICE: Mac = [2, 0, 0, 0, 0, 0xa];
    const BOB: Mac = [2, 0, 0, 0, 0, 0xb];
    const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];

    fn v6(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
    }

    fn arp_question(asker: Ipv4Addr, mac: Mac, target: Ipv4Addr) -> Vec<u8> {
        arp::request((asker, EthernetAddress(mac)), target)
    }

    fn solicitation(asker: Ipv6Addr, mac: Mac, target: Ipv6Addr) -> Vec<u8> {
        ndisc::solicitation((asker, EthernetAddress(mac)), target)
    }

    #[test]
    fn a_question_is_answered_once_the_answer_is_known() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        let question = arp_question(V4[1], BOB, V4[0]);
        assert_eq!(neighbors.answer(&question, now), None);
        // Alice asked for someone, behind a remote.
        neighbors.learn(&arp_question(V4[0], ALICE, [10, 0, 0, 9].into()), 0, now);
        let answer = neighbors.answer(&question, now).expect("known");
        assert_eq!((&answer[..6], &answer[6..12]), (&BOB[..], &ALICE[..]));
        assert_eq!(message(&answer), Some(Message::Is(V4[0].into(), ALICE)));

        let question = solicitation(v6(2), BOB, v6(1));
        assert_eq!(neighbors.answer(&question, now), None);
        neighbors.learn(&solicitation(v6(1), ALICE, v6(9)), 0, now);
        let answer = neighbors.answer(&question, now).expect("known");
        // Its checksum is right, too.
        assert_eq!(message(&answer), Some(Message::Is(v6(1).into(), ALICE)));
        assert_eq!(neighbors.answer(&question, now + MAX_AGE), None);
    }

    #[test]
    fn probes_and_those_that_moved_are_not_answered() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.learn(&arp_question(V4[0], ALICE, V4[1]), 0, now);
        neighbors.learn(&solicitation(v6(1), ALICE, v6(9)), 0, now);
        let probe = arp_question(Ipv4Addr::UNSPECIFIED, BOB, V4[0]);
        assert_eq!(neighbors.answer(&probe, now), None);
        let probe = solicitation(Ipv6Addr::UNSPECIFIED, BOB, v6(1));
        assert_eq!(neighbors.answer(&probe, now), None);
        // Alice announces herself on the bus.
        assert_eq!(neighbors.answer(&arp_question(V4[0], ALICE, V4[0]), now), None);
        assert_eq!(neighbors.answer(&arp_question(V4[1], BOB, V4[0]), now), None);
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
            neighbors.answer(&frame, now);
        }
    }
}
