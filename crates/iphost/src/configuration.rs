//! How a host is configured: the addresses that its user gave it, those that it has from its network,
//! and the routers to other networks.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};

use crate::address::{HostAddress, MAX_OWN_ADDRESSES};
use crate::autoconf::{Autoconf, Step};
use crate::gateways::Gateways;
use crate::network_change::NetworkChange;
use crate::newcomers::{Arrival, Newcomers};
use crate::router_advert::{self, RouterAdvert};
use neighbor::Identity;
use neighbor::arp::Arp;

/// The most changes that wait to be read, so that a peer cannot fill the memory.
const MAX_CHANGES: usize = 64;

/// The configuration of a host.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// All addresses that the host uses.
    identity: Identity,
    /// Those of them that it has from the network.
    learned: Vec<IpCidr>,
    gateways: Gateways,
    autoconf: Option<Autoconf>,
    newcomers: Newcomers,
    changes: VecDeque<NetworkChange>,
    /// One of the addresses that it may have is kept for a lease.
    expects_lease: bool,
    /// The stack is to have other addresses, or other routes.
    is_changed: bool,
}

impl Configuration {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            learned: Vec::new(),
            gateways: Gateways::default(),
            autoconf: None,
            newcomers: Newcomers::default(),
            changes: VecDeque::new(),
            expects_lease: false,
            is_changed: false,
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Sets the addresses that the user gave the host, and its Ethernet address. Returns whether one
    /// of them is another than before. What the host has from the network it had for its old Ethernet
    /// address.
    pub(crate) fn set_identity(&mut self, mut identity: Identity, now: Instant) -> bool {
        if self.identity.mac != identity.mac {
            self.forget(now);
        }
        identity.addresses.extend(&self.learned);
        let is_other = self.identity != identity;
        self.identity = identity;
        is_other
    }

    /// Sets the routers that the user names.
    pub(crate) fn name_gateways(&mut self, gateways: Vec<IpAddr>) {
        self.gateways.named = gateways;
        self.is_changed = true;
    }

    /// Begins to listen to IPv6 routers.
    pub(crate) fn accept_adverts(&mut self, now: Instant) {
        let mut autoconf = Autoconf::default();
        autoconf.begin(now);
        self.autoconf = Some(autoconf);
    }

    /// Forgets what the network said: it is another one.
    pub(crate) fn forget(&mut self, now: Instant) {
        let learned = std::mem::take(&mut self.learned);
        self.identity.addresses.retain(|own| !learned.contains(own));
        self.gateways.forget();
        self.newcomers.clear();
        self.is_changed = true;
        if let Some(autoconf) = &mut self.autoconf {
            autoconf.begin(now);
        }
    }

    /// Returns the host on the same network that a packet to `target` is sent to.
    pub(crate) fn next_hop(&self, target: IpAddr) -> Option<IpAddr> {
        self.gateways.next_hop(&self.identity, target)
    }

    /// Returns the default router of a family.
    pub(crate) fn default_router(&self, v6: bool) -> Option<IpAddr> {
        self.gateways.default_router(&self.identity, v6)
    }

    /// Returns the address to send from to `target`, if the host can send to it: the one on the same
    /// network, or, through a router, the one that is most like the target's.
    pub(crate) fn source_for(&self, target: IpAddr, now: Instant) -> Option<IpAddr> {
        let hop = self.next_hop(target)?;
        let IpAddr::V6(target) = target else { return self.identity.source_for(hop) };
        let is_link_local = target.is_unicast_link_local();
        let rank = |own: &(Ipv6Addr, IpCidr)| {
            let (address, cidr) = *own;
            let is_deprecated =
                self.autoconf.as_ref().is_some_and(|autoconf| autoconf.is_deprecated(address, now));
            let same_bits = (address.to_bits() ^ target.to_bits()).leading_zeros();
            (cidr.contains_addr(&target.into()), !is_deprecated, same_bits)
        };
        let own = self.identity.addresses.iter().filter_map(|cidr| match cidr {
            IpCidr::Ipv6(own) => Some((own.address(), *cidr)),
            IpCidr::Ipv4(_) => None,
        });
        // A packet from a link-local address does not come back through a router.
        own.filter(|(address, _)| address.is_unicast_link_local() == is_link_local)
            .max_by_key(rank)
            .map(|(address, _)| address.into())
    }

    /// Returns the hop limit that IPv6 routers want packets to have.
    pub(crate) fn hop_limit(&self) -> Option<u8> {
        self.autoconf.as_ref()?.hop_limit()
    }

    /// Returns whether the host listens to IPv6 routers.
    pub(crate) fn accepts_adverts(&self) -> bool {
        self.autoconf.is_some()
    }

    /// Takes a router's message.
    pub(crate) fn take_advert(&mut self, advert: &RouterAdvert, from: Ipv6Addr, now: Instant) {
        if let Some(autoconf) = &mut self.autoconf {
            let steps = autoconf.take(advert, from, self.identity.mac, now);
            self.advertised();
            for step in steps {
                self.do_step(step, now);
            }
        }
    }

    /// Takes the routers that are advertised now, in their order.
    fn advertised(&mut self) {
        let routers: Vec<_> = self.autoconf.iter().flat_map(Autoconf::routers).collect();
        if routers != self.gateways.advertised {
            self.gateways.advertised = routers;
            self.is_changed = true;
        }
    }

    /// Keeps room for an address that a DHCP server leases.
    pub(crate) fn expect_lease(&mut self) {
        self.expects_lease = true;
    }

    /// Begins to use a leased address, unless another host has it.
    pub(crate) fn lease(&mut self, cidr: Ipv4Cidr, router: Option<Ipv4Addr>, now: Instant) {
        self.gateways.leased = router;
        self.is_changed = true;
        if !self.identity.has(cidr.address().into()) {
            self.newcomers.add(cidr.into(), now);
        }
    }

    /// Stops using a leased address.
    pub(crate) fn end_lease(&mut self, address: Ipv4Addr) {
        self.gateways.leased = None;
        self.is_changed = true;
        self.remove(address.into());
    }

    /// Returns whether the host asks about an address before it uses it.
    pub(crate) fn asks_about(&self, address: IpAddr) -> bool {
        self.newcomers.has(address)
    }

    /// Notes that a host did not say its Ethernet address. Returns whether it is a router.
    pub(crate) fn is_silent(&mut self, host: IpAddr, now: Instant) -> bool {
        let is_router = self.gateways.is_silent(host, now);
        self.is_changed |= is_router;
        is_router
    }

    /// Notes that a host has said its Ethernet address.
    pub(crate) fn answers(&mut self, host: IpAddr) {
        self.is_changed |= self.gateways.answers(host);
    }

    /// Takes a packet of ARP. Returns whether it is about an address that is not in use yet.
    pub(crate) fn take_arp(&mut self, arp: &Arp, now: Instant) -> bool {
        self.newcomers.take_arp(arp, now)
    }

    /// Notes that the host at `mac` has an address. Returns whether it is not in use here yet.
    pub(crate) fn contested(
        &mut self,
        address: IpAddr,
        mac: EthernetAddress,
        now: Instant,
    ) -> bool {
        self.newcomers.contested(address, mac, now)
    }

    /// Does what is due. Returns the frames for the network. A host whose own addresses are not sure
    /// yet does not ask for routers.
    pub(crate) fn service(&mut self, now: Instant, is_tentative: bool) -> Vec<Vec<u8>> {
        self.is_changed |= self.gateways.service(now);
        let mut frames = Vec::new();
        if let Some(autoconf) = &mut self.autoconf {
            let steps = autoconf.service(now, !is_tentative);
            self.advertised();
            frames.extend(steps.into_iter().filter_map(|step| self.do_step(step, now)));
        }
        for arrival in self.newcomers.service(self.identity.mac, now) {
            match arrival {
                Arrival::Say(frame) => frames.push(frame),
                Arrival::Ready(cidr) => self.add(cidr),
                Arrival::Taken(conflict) => self.note(NetworkChange::AddressTaken(conflict)),
            }
        }
        frames
    }

    /// Returns when the next [`service`](Self::service) is due.
    pub(crate) fn due(&self, is_tentative: bool) -> Option<Instant> {
        let autoconf = self.autoconf.as_ref().and_then(|autoconf| autoconf.due(!is_tentative));
        autoconf.into_iter().chain(self.newcomers.due()).chain(self.gateways.due()).min()
    }

    /// Returns whether the addresses or the default routers may be others than at the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// Returns whether [`take_changed`](Self::take_changed) would return `true`.
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Returns whether the host uses an IPv6 address that it has made of a prefix.
    pub(crate) fn has_made_address(&self) -> bool {
        self.learned.iter().any(|cidr| matches!(cidr, IpCidr::Ipv6(_)))
    }

    /// Notes a change for the user.
    pub(crate) fn note(&mut self, change: NetworkChange) {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// Returns the next change.
    pub(crate) fn next_change(&mut self) -> Option<NetworkChange> {
        self.changes.pop_front()
    }

    /// Does a step; returns a frame for the network.
    fn do_step(&mut self, step: Step, now: Instant) -> Option<Vec<u8>> {
        match step {
            Step::Ask => {
                let any_router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
                if let Some(IpAddr::V6(own)) = self.identity.source_for(any_router.into()) {
                    return Some(router_advert::solicitation((own, self.identity.mac)));
                }
            }
            Step::Add(cidr) => {
                let address: IpAddr = cidr.address().into();
                if !self.identity.has(address) && !self.newcomers.has(address) {
                    self.newcomers.add(cidr.into(), now);
                }
            }
            Step::Remove(address) => {
                if self.remove(address.into()) {
                    self.note(NetworkChange::AddressExpired { address: address.into() });
                }
            }
            Step::RouterFound(router) => {
                self.is_changed = true;
                self.note(NetworkChange::RouterFound { router });
            }
            Step::RouterLost(router) => {
                self.is_changed = true;
                self.note(NetworkChange::RouterLost { router });
            }
        }
        None
    }

    /// Begins to use an address of the network.
    fn add(&mut self, cidr: IpCidr) {
        let address = cidr.address().into();
        let kept = usize::from(self.expects_lease && matches!(cidr, IpCidr::Ipv6(_)));
        if self.identity.addresses.len() + kept >= MAX_OWN_ADDRESSES {
            self.newcomers.remove(address);
            self.note(NetworkChange::NoRoom { address });
            return;
        }
        self.learned.push(cidr);
        self.identity.addresses.push(cidr);
        self.is_changed = true;
        if let (IpCidr::Ipv6(_), Ok(address)) = (cidr, HostAddress::of(cidr)) {
            self.note(NetworkChange::AddressMade { address });
        }
    }

    /// Stops using an address of the network. Returns whether it was in use.
    fn remove(&mut self, address: IpAddr) -> bool {
        self.newcomers.remove(address);
        let is_it = |cidr: &IpCidr| IpAddr::from(cidr.address()) == address;
        if !self.learned.iter().any(is_it) {
            return false;
        }
        self.learned.retain(|cidr| !is_it(cidr));
        self.identity.addresses.retain(|cidr| !is_it(cidr));
        self.is_changed = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router_advert::tests::{ROUTER, advert};

    const MAC: EthernetAddress = EthernetAddress([0xb2, 0xa0, 1, 2, 3, 4]);

    fn configuration(addresses: &[&str]) -> Configuration {
        let cidr = |text: &&str| text.parse::<HostAddress>().unwrap().cidr();
        Configuration::new(Identity::new(MAC, addresses.iter().map(cidr).collect()))
    }

    /// Does what is due within a second.
    fn settle(configuration: &mut Configuration, begin: Instant) {
        let end = begin + std::time::Duration::from_secs(1);
        while let Some(due) = configuration.due(false).filter(|due| *due < end) {
            configuration.service(due, false);
        }
    }

    #[test]
    fn packets_to_other_networks_go_to_a_router_from_an_address_like_the_targets() {
        let mut configuration = configuration(&["10.0.0.1/24", "fd00::1/64", "fe80::1/64"]);
        let now = Instant::now();
        configuration.accept_adverts(now);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(configuration.source_for(ip("192.0.2.1"), now), None);
        configuration.name_gateways(vec![ip("10.0.0.254")]);
        configuration.take_advert(&advert(&["2001:db8:1::"]), ROUTER, now);
        assert_eq!(configuration.source_for(ip("2001:db8:7::1"), now), Some(ip("fd00::1")));
        settle(&mut configuration, now);
        let made = ip("2001:db8:1::b0a0:1ff:fe02:304");
        for (target, hop, source) in [
            (ip("192.0.2.1"), ip("10.0.0.254"), ip("10.0.0.1")),
            (ip("10.0.0.9"), ip("10.0.0.9"), ip("10.0.0.1")),
            (ip("2001:db8:7::1"), ROUTER.into(), made),
            (ip("2001:db8:1::9"), ip("2001:db8:1::9"), made),
            (ip("fd00::9"), ip("fd00::9"), ip("fd00::1")),
            (ip("fd01::9"), ROUTER.into(), ip("fd00::1")),
            (ip("fe80::9"), ip("fe80::9"), ip("fe80::1")),
        ] {
            assert_eq!(configuration.next_hop(target), Some(hop), "{target}");
            assert_eq!(configuration.source_for(target, now), Some(source), "{target}");
        }
    }

    #[test]
    fn what_the_network_said_is_forgotten_with_it() {
        let (mut configuration, now) = (configuration(&["fe80::1/64"]), Instant::now());
        configuration.accept_adverts(now);
        configuration.take_advert(&advert(&["2001:db8:1::"]), ROUTER, now);
        configuration.lease(Ipv4Cidr::new([10, 0, 0, 57].into(), 24), None, now);
        settle(&mut configuration, now);
        assert!(configuration.take_changed() && configuration.has_made_address());
        assert_eq!(configuration.identity().addresses.len(), 3);
        configuration.end_lease([10, 0, 0, 57].into());
        assert_eq!(configuration.identity().addresses.len(), 2);
        configuration.forget(now);
        assert_eq!(configuration.identity().addresses.len(), 1);
        assert_eq!(configuration.default_router(true), None);
        assert!(configuration.take_changed() && !configuration.take_changed());
    }

    #[test]
    fn a_host_holds_a_limited_number_of_addresses() {
        let fixed = ["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24", "10.0.0.5/24"];
        let (mut configuration, now) = (configuration(&fixed), Instant::now());
        configuration.accept_adverts(now);
        let prefixes = ["2001:db8:1::", "2001:db8:2::", "2001:db8:3::", "2001:db8:4::"];
        configuration.take_advert(&advert(&prefixes), ROUTER, now);
        settle(&mut configuration, now);
        assert_eq!(configuration.identity().addresses.len(), MAX_OWN_ADDRESSES);
        let no_room = |change: NetworkChange| matches!(change, NetworkChange::NoRoom { .. });
        let changes = std::iter::from_fn(|| configuration.next_change());
        assert_eq!(changes.filter(|change| no_room(*change)).count(), 1);
    }

    #[test]
    fn prefixes_leave_room_for_a_lease() {
        let fixed = ["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24", "10.0.0.5/24"];
        let (mut configuration, now) = (configuration(&fixed), Instant::now());
        configuration.expect_lease();
        configuration.accept_adverts(now);
        let prefixes = ["2001:db8:1::", "2001:db8:2::", "2001:db8:3::", "2001:db8:4::"];
        configuration.take_advert(&advert(&prefixes), ROUTER, now);
        settle(&mut configuration, now);
        let leased = Ipv4Cidr::new([10, 0, 0, 57].into(), 24);
        configuration.lease(leased, None, now);
        settle(&mut configuration, now);
        assert!(configuration.identity().has(leased.address().into()));
    }

    #[test]
    fn a_router_that_is_preferred_later_changes_the_route() {
        let (mut configuration, now) = (configuration(&["fe80::1/64"]), Instant::now());
        configuration.accept_adverts(now);
        let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
        configuration.take_advert(&advert(&[]), ROUTER, now);
        configuration.take_advert(&advert(&[]), other, now);
        assert_eq!(configuration.default_router(true), Some(ROUTER.into()));
        configuration.take_changed();
        let high = RouterAdvert { preference: router_advert::Preference::High, ..advert(&[]) };
        configuration.take_advert(&high, other, now);
        assert_eq!(configuration.default_router(true), Some(other.into()));
        assert!(configuration.take_changed());
    }
}
