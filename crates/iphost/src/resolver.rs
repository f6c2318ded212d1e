//! Which IP address is at which Ethernet address: what a host answers, asks and announces about it,
//! over ARP for IPv4 and over neighbor discovery for IPv6.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use neighbor::arp::{self, Arp};
use neighbor::frame;
use neighbor::ndisc::{self, Ndisc};
use neighbor::{AddressConflict, Claims, Heard, Identity};
use smoltcp::wire::EthernetAddress;

use crate::configuration::Configuration;
use crate::neighbors::{Admission, Neighbors, Outcome, Outgoing, Released};
use crate::router_advert::RouterAdvert;

/// The resolver, and what it has for both sides.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) configuration: Configuration,
    neighbors: Neighbors,
    claims: Claims,
    /// Frames for the network.
    pub(crate) answers: Vec<Vec<u8>>,
    /// Frames for the stack, which need no further look.
    pub(crate) for_stack: VecDeque<Vec<u8>>,
    /// Packets whose destination is known now, and filled in.
    pub(crate) resolved: Vec<Outgoing>,
    /// Packets whose destination is not there.
    pub(crate) unreachable: Vec<Outgoing>,
}

impl Resolver {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            configuration: Configuration::new(identity),
            neighbors: Neighbors::default(),
            claims: Claims::default(),
            answers: Vec::new(),
            for_stack: VecDeque::new(),
            resolved: Vec::new(),
            unreachable: Vec::new(),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.configuration.identity()
    }

    /// Changes the addresses that the user gave the host. The stack is made anew.
    pub(crate) fn set_identity(&mut self, identity: Identity, now: Instant) {
        if self.configuration.set_identity(identity, now) {
            self.claims.link_changed(now);
        }
        self.neighbors.stack_forgets();
    }

    /// Notes that the stack has forgotten the hosts that it knew.
    pub(crate) fn stack_forgets(&mut self) {
        self.neighbors.stack_forgets();
    }

    /// Notes that the link is up: the host's addresses are announced.
    pub(crate) fn link_up(&mut self, now: Instant) {
        self.claims.link_changed(now);
    }

    /// Forgets all hosts, with what waits for them, and what the network said: the link leads to
    /// another network now.
    pub(crate) fn forget_network(&mut self, now: Instant) {
        self.neighbors = Neighbors::default();
        self.for_stack.clear();
        self.configuration.forget(now);
    }

    /// Returns whether there are frames for the network, or packets whose fate is known now.
    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        !(self.answers.is_empty() && self.resolved.is_empty() && self.unreachable.is_empty())
    }

    /// Begins to claim the host's addresses.
    pub(crate) fn claim(&mut self) {
        self.claims.begin();
    }

    /// Returns whether the host still asks whether its addresses are free.
    pub(crate) fn is_tentative(&self) -> bool {
        self.claims.is_tentative()
    }

    /// Returns the next conflict about an address.
    pub(crate) fn next_conflict(&mut self) -> Option<AddressConflict> {
        self.claims.next_conflict()
    }

    /// Takes a frame of ARP.
    pub(crate) fn take_arp(&mut self, frame: &[u8], now: Instant) {
        let Some(arp) = Arp::read(frame) else { return };
        if arp.sender.1 == self.identity().mac || self.configuration.take_arp(&arp, now) {
            return;
        }
        let identity = self.configuration.identity();
        let heard = self.claims.take_arp(identity, &arp, now, &mut self.answers);
        if let Some(Heard { address, mac, is_for_us, .. }) = heard {
            self.learn(address, mac, is_for_us, now);
        }
    }

    /// Takes a message of `ICMPv6` that may be of neighbor discovery, from the station `source`.
    pub(crate) fn take_ndisc(
        &mut self,
        message: &[u8],
        ends: (Ipv6Addr, Ipv6Addr),
        hop_limit: u8,
        source: EthernetAddress,
        now: Instant,
    ) {
        let (from, to) = ends;
        let Some(said) = Ndisc::read(message, from, to, hop_limit) else {
            if self.configuration.accepts_adverts()
                && let Some(advert) = RouterAdvert::read(message, from, to, hop_limit)
            {
                self.take_advert(&advert, from, now);
            }
            return;
        };
        // What is said of an address that this host asks about.
        let contested = match said {
            Ndisc::Solicitation { target, .. } => {
                if source == self.identity().mac {
                    return;
                }
                // A host that asks from an address of its own does not want the target's.
                from.is_unspecified().then_some((target, source))
            }
            Ndisc::Advertisement { target, mac, .. } => Some((target, mac.unwrap_or(source))),
        };
        if let Some((target, mac)) = contested
            && self.configuration.contested(target.into(), mac, now)
        {
            return;
        }
        let identity = self.configuration.identity();
        let sender = (from, source);
        let heard = self.claims.take_ndisc(identity, said, sender, now, &mut self.answers);
        if let Some(Heard { address, mac, is_for_us, overrides }) = heard {
            let known = self.neighbors.known(address, now);
            if overrides || known.is_none_or(|known| known == mac) {
                self.learn(address, mac, is_for_us, now);
            }
        }
    }

    fn take_advert(&mut self, advert: &RouterAdvert, from: Ipv6Addr, now: Instant) {
        if self.identity().has(from.into()) {
            return;
        }
        self.configuration.take_advert(advert, from, now);
        if let Some(mac) = advert.mac.filter(|_| self.identity().reaches(from.into())) {
            self.learn(from.into(), mac, advert.lifetime > 0, now);
        }
    }

    /// Decides about a packet for the stack, which `frame` carries from the host `from`.
    pub(crate) fn admit(&mut self, from: IpAddr, frame: &[u8], now: Instant) -> bool {
        if self.is_latest(from, frame::source(frame), now) {
            return true;
        }
        // The answer goes to a router, if the sender is on another network.
        let Some(hop) = self.configuration.next_hop(from) else { return true };
        match self.neighbors.admit((from, hop), frame::source(frame), frame, now) {
            Admission::Pass => true,
            Admission::PassWithEntry(mac) => {
                self.give_entry(hop, mac);
                self.for_stack.push_back(frame.to_vec());
                false
            }
            Admission::Wait => false,
        }
    }

    /// Returns whether the latest packet that was admitted came from this host, and the next one may
    /// pass without a look at the table.
    pub(crate) fn is_latest(&self, from: IpAddr, mac: EthernetAddress, now: Instant) -> bool {
        self.neighbors.is_latest(from, mac, now)
    }

    /// Notes that a frame of the host `from` has come from `mac`.
    pub(crate) fn heard(&mut self, from: IpAddr, mac: EthernetAddress, now: Instant) {
        if let Some(hop) = self.configuration.next_hop(from) {
            self.neighbors.heard(hop, mac, now);
        }
    }

    /// Sends a packet as soon as its destination is known, or that of the router to it; it is then
    /// in [`resolved`](Self::resolved). There is no way to some destinations.
    pub(crate) fn send(&mut self, to: IpAddr, packet: Outgoing, now: Instant) {
        if let Some(hop) = self.configuration.next_hop(to) {
            self.send_to(hop, packet, now);
        }
    }

    /// Sends a packet to a host on the same network.
    fn send_to(&mut self, hop: IpAddr, packet: Outgoing, now: Instant) {
        if let Some((mac, mut packet)) = self.neighbors.send(hop, packet, now) {
            packet.frame[..6].copy_from_slice(&mac.0);
            self.resolved.push(packet);
        }
    }

    /// Asks whether a host is still where it was, or the router to it.
    pub(crate) fn doubt(&mut self, host: IpAddr, now: Instant) {
        if let Some(hop) = self.configuration.next_hop(host) {
            self.neighbors.doubt(hop, now);
        }
    }

    /// Takes note of a frame that the stack sends, if it asks for a host.
    pub(crate) fn stack_sends(&mut self, frame: &[u8], now: Instant) {
        let asked = match frame.get(12..14) {
            Some(kind) if kind == frame::ARP => Arp::read(frame).map(|arp| arp.target.into()),
            Some(kind) if kind == frame::IPV6 => asked_v6(frame),
            _ => None,
        };
        if let Some(host) = asked {
            self.neighbors.stack_asks(host, now);
        }
    }

    /// Does what is due.
    pub(crate) fn service(&mut self, now: Instant) {
        self.claims.speak(self.configuration.identity(), now, &mut self.answers);
        for outcome in self.neighbors.service(now) {
            match outcome {
                Outcome::Ask(host) => self.answers.extend(self.identity().question(host)),
                Outcome::Unreachable(packets) => self.unreachable.extend(packets),
                Outcome::Silent(host) => self.pass_over(host, now),
            }
        }
        self.answers.extend(self.configuration.service(now, self.claims.is_tentative()));
    }

    /// Sends through another router what waits for a silent one, if there is another.
    fn pass_over(&mut self, host: IpAddr, now: Instant) {
        if !self.configuration.is_silent(host, now) {
            return;
        }
        let other = self.configuration.default_router(host.is_ipv6());
        if let Some(other) = other.filter(|other| *other != host) {
            for packet in self.neighbors.give_up(host) {
                self.send_to(other, packet, now);
            }
        }
    }

    /// Returns when the next [`service`](Self::service) is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let configuration = self.configuration.due(self.claims.is_tentative());
        self.claims.due().into_iter().chain(self.neighbors.due()).chain(configuration).min()
    }

    fn learn(&mut self, host: IpAddr, mac: EthernetAddress, is_for_us: bool, now: Instant) {
        self.configuration.answers(host);
        let Some(released) = self.neighbors.learn(host, mac, is_for_us, now) else { return };
        let Released { incoming, outgoing, stack_asks } = released;
        if stack_asks || !incoming.is_empty() {
            self.give_entry(host, mac);
        }
        self.for_stack.extend(incoming);
        for mut packet in outgoing {
            packet.frame[..6].copy_from_slice(&mac.0);
            self.resolved.push(packet);
        }
    }

    /// Gives the stack an entry of the table: as what would make it enter it itself.
    fn give_entry(&mut self, host: IpAddr, mac: EthernetAddress) {
        let own_mac = self.identity().mac;
        let entry = match (host, self.identity().source_for(host)) {
            (IpAddr::V4(host), Some(IpAddr::V4(own))) => arp::reply((host, mac), (own, own_mac)),
            (IpAddr::V6(host), Some(IpAddr::V6(own))) => {
                ndisc::advertisement((host, mac), (own, own_mac))
            }
            _ => return,
        };
        self.for_stack.push_back(entry);
    }
}

/// Returns the host that an IPv6 frame of the stack asks for.
fn asked_v6(frame: &[u8]) -> Option<IpAddr> {
    const SOLICITATION: u8 = 135;
    let message = frame.get(frame::ETHERNET_HEADER + frame::IPV6_HEADER..)?;
    let is_solicitation =
        frame[frame::ETHERNET_HEADER + 6] == 58 && message.first() == Some(&SOLICITATION);
    let target: [u8; 16] = *message.get(8..)?.first_chunk()?;
    is_solicitation.then(|| Ipv6Addr::from(target).into())
}
