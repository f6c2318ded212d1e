//! A host's claim to its addresses (RFC 5227 for IPv4, RFC 4862 for IPv6).
//!
//! Before it uses its addresses, a host asks whether another has one of them. Then it announces
//! them, so that hosts that remember another Ethernet address learn the new one at once. When
//! another host claims one later, it is reported once, and the claim is answered with an
//! announcement now and then, so that two hosts that both hold on to an address do not flood the
//! network.
//!
//! Some stations answer for every address, as DPDK's testpmd does when it echoes. So a host that gets
//! an answer also asks for an address that no host can have: an answer to that one, too, means that
//! the first was none.
//!
//! The questions take a tenth of a second, and not the seconds of the RFCs: on shared memory an
//! answer takes microseconds, and a host that is late with it is found out by its next packet.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use smoltcp::wire::EthernetAddress;

use crate::arp::{self, Arp};
use crate::identity::Identity;
use crate::ndisc::{self, Ndisc};

/// Questions before the addresses are used, and the time that each leaves for an answer.
const PROBES: u8 = 2;
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// How long a host that has lost its addresses leaves them alone before it asks again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The address that no host has (RFC 7600).
pub const NO_HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// Announcements, and the time between them.
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest time between two announcements against another host's claim.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// The most conflicts that are reported, so that a peer cannot flood the log.
const MAX_REPORTS: usize = 16;

/// Another host uses an address of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressConflict {
    /// The address.
    pub address: IpAddr,
    /// The other host's Ethernet address.
    pub mac: [u8; 6],
}

impl fmt::Display for AddressConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.mac;
        write!(f, "{} is also used by the host at {first:02x}", self.address)?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

/// What is to be sent about the host's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The questions whether another host has one of them.
    Probe,
    /// The question for [`NO_HOST`].
    ProbeNoHost,
    /// Announcements of all.
    Announce,
}

impl Statement {
    /// Makes the frame that says it of one of the addresses, from a host at `mac`. There is none for
    /// an IPv6 address where ARP is meant.
    #[must_use]
    pub fn frame(self, address: IpAddr, mac: EthernetAddress) -> Option<Vec<u8>> {
        Some(match (self, address) {
            (Self::Probe, IpAddr::V4(address)) => arp::probe(address, mac),
            (Self::Probe, IpAddr::V6(address)) => ndisc::probe(address, mac),
            (Self::Announce, IpAddr::V4(address)) => arp::announcement(address, mac),
            (Self::Announce, IpAddr::V6(address)) => ndisc::announcement(address, mac),
            (Self::ProbeNoHost, IpAddr::V4(_)) => arp::probe(NO_HOST, mac),
            (Self::ProbeNoHost, IpAddr::V6(_)) => return None,
        })
    }
}

/// What a station has said of where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The address, which is on a network of this station, or that asks for it.
    pub address: IpAddr,
    /// Where it is.
    pub mac: EthernetAddress,
    /// It was said to this station, which is likely to send there.
    pub is_for_us: bool,
    /// What was known of the address before is to be replaced, also if it was another place.
    pub overrides: bool,
}

/// A station's claim to its addresses. It makes none until it [begins](Self::begin): until then it
/// answers for its addresses, and announces nothing.
#[derive(Debug, Default)]
pub struct Claims {
    stage: Stage,
    /// Another host has an address that this one asks about.
    lost: bool,
    /// Answers that count unless their senders answer for every address.
    answers: HashSet<(IpAddr, EthernetAddress)>,
    asked_for_no_host: bool,
    answers_for_all: HashSet<EthernetAddress>,
    reported: HashSet<(IpAddr, EthernetAddress)>,
    conflicts: VecDeque<AddressConflict>,
    defended: HashMap<IpAddr, Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    /// The host makes no claim: it answers, and announces nothing.
    #[default]
    None,
    /// The host waits for its link.
    Waiting,
    Probing {
        sent: u8,
        due: Instant,
    },
    Announcing {
        sent: u8,
        due: Instant,
    },
    Claimed,
}

impl Claims {
    /// Begins the claim, once the link is up.
    pub fn begin(&mut self) {
        self.stage = Stage::Waiting;
    }

    /// Returns whether the host does not use its addresses yet.
    #[must_use]
    pub fn is_tentative(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Probing { .. })
    }

    /// Notes that the link is up, or that the host has another Ethernet address or is elsewhere.
    /// Its addresses are announced again; they are asked about only in the beginning.
    pub fn link_changed(&mut self, now: Instant) {
        match self.stage {
            Stage::None => {}
            Stage::Waiting | Stage::Probing { .. } => {
                self.stage = Stage::Probing { sent: 0, due: now };
            }
            Stage::Announcing { .. } | Stage::Claimed => {
                self.stage = Stage::Announcing { sent: 0, due: now };
            }
        }
    }

    /// Returns what is to be sent now.
    pub fn service(&mut self, now: Instant) -> Option<Statement> {
        match self.stage {
            Stage::Probing { sent, due } if due <= now && sent < PROBES => {
                self.stage = Stage::Probing { sent: sent + 1, due: now + PROBE_INTERVAL };
                Some(Statement::Probe)
            }
            Stage::Probing { sent, due } if due <= now => {
                if !self.answers.is_empty() && !std::mem::replace(&mut self.asked_for_no_host, true)
                {
                    self.stage = Stage::Probing { sent, due: now + PROBE_INTERVAL };
                    return Some(Statement::ProbeNoHost);
                }
                for (address, mac) in std::mem::take(&mut self.answers) {
                    self.contested(address, mac, now);
                }
                self.asked_for_no_host = false;
                if std::mem::take(&mut self.lost) {
                    self.stage = Stage::Probing { sent: 0, due: now + RETRY_INTERVAL };
                    return None;
                }
                self.stage = Stage::Announcing { sent: 1, due: now + ANNOUNCE_INTERVAL };
                Some(Statement::Announce)
            }
            Stage::Announcing { sent, due } if due <= now => {
                let sent = sent + 1;
                self.stage = if sent < ANNOUNCEMENTS {
                    Stage::Announcing { sent, due: now + ANNOUNCE_INTERVAL }
                } else {
                    Stage::Claimed
                };
                Some(Statement::Announce)
            }
            _ => None,
        }
    }

    /// Returns when the next [`service`](Self::service) is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Probing { due, .. } | Stage::Announcing { due, .. } => Some(due),
            Stage::None | Stage::Waiting | Stage::Claimed => None,
        }
    }

    /// Does what is due at `now`: appends the frames that say it of the addresses of `identity`.
    pub fn speak(&mut self, identity: &Identity, now: Instant, frames: &mut Vec<Vec<u8>>) {
        match self.service(now) {
            // Asked once, and not for each address.
            Some(Statement::ProbeNoHost) => frames.push(arp::probe(NO_HOST, identity.mac)),
            Some(statement) => {
                let own = identity.addresses.iter().map(|own| own.address().into());
                frames.extend(own.filter_map(|own| statement.frame(own, identity.mac)));
            }
            None => {}
        }
    }

    /// Takes a packet of ARP that another station has sent to `identity`, or to all. Appends what is
    /// to be answered, and returns what is to be learned of it.
    pub fn take_arp(
        &mut self,
        identity: &Identity,
        arp: &Arp,
        now: Instant,
        answers: &mut Vec<Vec<u8>>,
    ) -> Option<Heard> {
        let (address, mac) = arp.sender;
        if mac == identity.mac {
            return None;
        }
        let is_for_us = identity.has(arp.target.into());
        let reply = || arp::reply((arp.target, identity.mac), arp.sender);
        if arp.is_probe() {
            if is_for_us && self.is_tentative() {
                // Both want the address. Neither may have it.
                self.dispute(identity, arp.target.into(), mac, now, answers);
            } else if is_for_us {
                answers.push(reply());
            }
            return None;
        }
        if identity.has(address.into()) {
            if self.is_tentative() && !arp.is_request {
                self.answered(address.into(), mac);
            } else {
                self.dispute(identity, address.into(), mac, now, answers);
            }
            return None;
        }
        if address == NO_HOST {
            self.answers_for_all(mac);
            return None;
        }
        if identity.is_martian(address.into()) {
            return None;
        }
        if arp.is_request && is_for_us && !self.is_tentative() {
            answers.push(reply());
        }
        let heard = Heard { address: address.into(), mac, is_for_us, overrides: true };
        // A host of another network is answered, but there is no way to it without a router.
        identity.reaches(heard.address).then_some(heard)
    }

    /// Takes a message of neighbor discovery that the station `source` has sent from the address
    /// `from`. Appends what is to be answered, and returns what is to be learned of it.
    pub fn take_ndisc(
        &mut self,
        identity: &Identity,
        message: Ndisc,
        (from, source): (Ipv6Addr, EthernetAddress),
        now: Instant,
        answers: &mut Vec<Vec<u8>>,
    ) -> Option<Heard> {
        match message {
            Ndisc::Solicitation { target, mac } => {
                if source == identity.mac || !identity.has(target.into()) {
                    return None;
                }
                if self.is_tentative() {
                    // A host that asks from an address of its own does not want the target's.
                    if from.is_unspecified() {
                        self.dispute(identity, target.into(), source, now, answers);
                    }
                    return None;
                }
                if !from.is_unspecified() && identity.is_martian(from.into()) {
                    return None;
                }
                let own = (target, identity.mac);
                answers.push(ndisc::advertisement(own, (from, mac.unwrap_or(source))));
                let is_for_us = identity.reaches(from.into());
                let heard = |mac| Heard { address: from.into(), mac, is_for_us, overrides: true };
                mac.filter(|_| !from.is_unspecified()).map(heard)
            }
            Ndisc::Advertisement { target, mac, overrides } => {
                let said = mac.unwrap_or(source);
                if identity.has(target.into()) {
                    if said != identity.mac {
                        self.dispute(identity, target.into(), said, now, answers);
                    }
                    return None;
                }
                let heard =
                    Heard { address: target.into(), mac: said, is_for_us: false, overrides };
                let is_credible = identity.reaches(heard.address) && !identity.has(from.into());
                is_credible.then_some(heard)
            }
        }
    }

    /// Takes the claim of another host to `address`, and defends the address if it is time.
    fn dispute(
        &mut self,
        identity: &Identity,
        address: IpAddr,
        mac: EthernetAddress,
        now: Instant,
        answers: &mut Vec<Vec<u8>>,
    ) {
        if self.contested(address, mac, now) {
            answers.extend(Statement::Announce.frame(address, identity.mac));
        }
    }

    /// Takes the answer of another host to a question about `address`.
    pub fn answered(&mut self, address: IpAddr, mac: EthernetAddress) {
        if self.answers.len() < MAX_REPORTS && !self.answers_for_all.contains(&mac) {
            self.answers.insert((address, mac));
        }
    }

    /// Notes that a station answers for every address: its answers do not count.
    pub fn answers_for_all(&mut self, mac: EthernetAddress) {
        if self.asked_for_no_host && self.answers_for_all.len() < MAX_REPORTS {
            self.answers_for_all.insert(mac);
            self.answers.retain(|(_, other)| *other != mac);
        }
    }

    /// Takes the claim of another host to `address`. Returns whether it is to be answered with an
    /// announcement.
    pub fn contested(&mut self, address: IpAddr, mac: EthernetAddress, now: Instant) -> bool {
        if matches!(self.stage, Stage::None) {
            return false;
        }
        if self.reported.len() < MAX_REPORTS && self.reported.insert((address, mac)) {
            self.conflicts.push_back(AddressConflict { address, mac: mac.0 });
        }
        self.lost |= self.is_tentative();
        let may_defend = self.defended.get(&address).is_none_or(|at| *at + DEFEND_INTERVAL <= now);
        if self.is_tentative() || !may_defend {
            return false;
        }
        self.defended.insert(address, now);
        true
    }

    /// Returns the next conflict that was not reported yet.
    pub fn next_conflict(&mut self) -> Option<AddressConflict> {
        self.conflicts.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0xab]);
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// Services the claim until nothing is due, and returns what is sent.
    fn statements(claims: &mut Claims, now: &mut Instant) -> Vec<Statement> {
        let mut statements = Vec::new();
        while let Some(due) = claims.due() {
            *now = due;
            statements.extend(claims.service(due));
        }
        statements
    }

    #[test]
    fn a_host_asks_first_and_then_announces() {
        use Statement::{Announce, Probe};
        let (mut claims, mut now) = (Claims::default(), Instant::now());
        claims.link_changed(now);
        assert_eq!(statements(&mut claims, &mut now), [], "without a claim");
        claims.begin();
        assert!(claims.is_tentative() && claims.due().is_none());
        claims.link_changed(now);
        let begin = now;
        let first: Vec<_> = std::iter::from_fn(|| {
            now = claims.due().filter(|_| claims.is_tentative())?;
            claims.service(now)
        })
        .collect();
        assert_eq!(first, [Probe, Probe, Announce]);
        assert!(now - begin < Duration::from_millis(200), "a start takes no longer");
        assert_eq!(statements(&mut claims, &mut now), [Announce]);
        claims.link_changed(now);
        assert!(!claims.is_tentative());
        assert_eq!(statements(&mut claims, &mut now), [Announce, Announce]);
    }

    #[test]
    fn a_station_that_answers_for_every_address_has_none() {
        for for_all in [true, false] {
            let (mut claims, mut now) = (Claims::default(), Instant::now());
            claims.begin();
            claims.link_changed(now);
            let mut sent = Vec::new();
            while claims.is_tentative() && sent.len() < 4 && claims.next_conflict().is_none() {
                now = claims.due().unwrap();
                let statement = claims.service(now);
                match statement {
                    Some(Statement::Probe) => claims.answered(ADDRESS, OTHER),
                    Some(Statement::ProbeNoHost) if for_all => claims.answers_for_all(OTHER),
                    _ => {}
                }
                sent.extend(statement);
            }
            let right = [Statement::Probe, Statement::Probe, Statement::ProbeNoHost];
            assert_eq!(sent[..3], right);
            assert_eq!(sent.get(3), for_all.then_some(&Statement::Announce));
        }
    }

    #[test]
    fn a_conflict_is_reported_once_and_answered_now_and_then() {
        let (mut claims, mut now) = (Claims::default(), Instant::now());
        assert!(!claims.contested(ADDRESS, OTHER, now), "without a claim");
        claims.begin();
        claims.link_changed(now);
        assert!(!claims.contested(ADDRESS, OTHER, now), "it is the other's address");
        // It asks until the other is gone.
        for _ in 0..3 {
            now = claims.due().unwrap();
            assert_ne!(claims.service(now), Some(Statement::Announce));
        }
        assert!(claims.is_tentative());
        let conflict = claims.next_conflict().unwrap();
        assert_eq!(conflict.to_string(), "10.0.0.1 is also used by the host at 02:00:00:00:00:ab");
        statements(&mut claims, &mut now);
        assert!(claims.contested(ADDRESS, OTHER, now));
        assert!(!claims.contested(ADDRESS, OTHER, now));
        assert!(claims.contested(ADDRESS, OTHER, now + DEFEND_INTERVAL));
        assert_eq!(claims.next_conflict(), None);
        for last in 0..=255 {
            claims.contested(ADDRESS, EthernetAddress([2, 0, 0, 0, 1, last]), now);
        }
        assert_eq!(std::iter::from_fn(|| claims.next_conflict()).count(), MAX_REPORTS - 1);
    }
}
