//! The routers to other networks, and which of them is asked.
//!
//! Each family has one default router at a time: the first that answers of those that the user named,
//! the DHCP server named, and that advertise themselves. One that does not say its Ethernet address
//! is passed over for a while. Redirects are ignored.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use neighbor::Identity;

/// How long a router is passed over that did not answer.
const PASSED_OVER: Duration = Duration::from_mins(1);

/// The routers that a host knows.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    /// Those that the user named, first choice first.
    pub(crate) named: Vec<IpAddr>,
    /// The one that the DHCP server named.
    pub(crate) leased: Option<Ipv4Addr>,
    /// Those that advertise themselves, first choice first.
    pub(crate) advertised: Vec<Ipv6Addr>,
    /// Until when those are passed over that did not answer.
    silent: HashMap<IpAddr, Instant>,
}

impl Gateways {
    /// Returns the routers of a family on the networks of a host, first choice first. At a link of two
    /// ends, the far end leads everywhere.
    fn candidates(&self, identity: &Identity, v6: bool) -> impl Iterator<Item = IpAddr> {
        let learned = self.advertised.iter().map(|router| IpAddr::V6(*router));
        let far_end = identity.far_end.iter().copied();
        let all = far_end.chain(self.named.iter().copied()).chain(self.leased.map(IpAddr::V4));
        let all = all.chain(learned);
        all.filter(move |router| {
            router.is_ipv6() == v6 && identity.reaches(*router) && !identity.has(*router)
        })
    }

    /// Returns the default router of a family. When none answers, it is the first.
    pub(crate) fn default_router(&self, identity: &Identity, v6: bool) -> Option<IpAddr> {
        let mut answering = self.candidates(identity, v6);
        answering
            .find(|router| !self.silent.contains_key(router))
            .or_else(|| self.candidates(identity, v6).next())
    }

    /// Returns the host on the same network that a packet to `target` is sent to.
    pub(crate) fn next_hop(&self, identity: &Identity, target: IpAddr) -> Option<IpAddr> {
        if identity.reaches(target) {
            return Some(target);
        }
        let is_routed = match target {
            IpAddr::V4(target) => {
                !(target.is_link_local() || target.is_multicast() || target.is_broadcast())
            }
            IpAddr::V6(target) => !(target.is_unicast_link_local() || target.is_multicast()),
        };
        self.default_router(identity, target.is_ipv6()).filter(|_| is_routed)
    }

    /// Notes that a host did not say its Ethernet address. Returns whether it is a router.
    pub(crate) fn is_silent(&mut self, host: IpAddr, now: Instant) -> bool {
        let is_router = self.named.contains(&host)
            || self.leased.is_some_and(|leased| host == leased)
            || self.advertised.iter().any(|router| host == *router);
        if is_router {
            // There are as many entries as routers.
            self.silent.retain(|_, until| now < *until);
            self.silent.insert(host, now + PASSED_OVER);
        }
        is_router
    }

    /// Notes that a host has said its Ethernet address. Returns whether it is a router that was
    /// passed over.
    pub(crate) fn answers(&mut self, host: IpAddr) -> bool {
        !self.silent.is_empty() && self.silent.remove(&host).is_some()
    }

    /// Counts those that were passed over long enough among the others again. Returns whether there
    /// are any.
    pub(crate) fn service(&mut self, now: Instant) -> bool {
        let before = self.silent.len();
        self.silent.retain(|_, until| now < *until);
        self.silent.len() < before
    }

    /// Returns when the next [`service`](Self::service) is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.silent.values().min().copied()
    }

    /// Forgets what the network said.
    pub(crate) fn forget(&mut self) {
        self.leased = None;
        self.advertised.clear();
        self.silent.clear();
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::EthernetAddress;

    use super::*;

    fn identity() -> Identity {
        let cidr = |text: &str| text.parse::<crate::HostAddress>().unwrap().cidr();
        let addresses = ["10.0.0.1/24", "fd00::1/64", "fe80::1/64"].map(cidr).to_vec();
        Identity::new(EthernetAddress([2, 0, 0, 0, 0, 1]), addresses)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_router_that_answers_is_asked() {
        let identity = identity();
        let mut gateways = Gateways {
            named: vec![ip("10.0.0.254"), ip("fd00::fe"), ip("10.9.9.9"), ip("10.0.0.1")],
            leased: Some(Ipv4Addr::new(10, 0, 0, 253)),
            advertised: vec!["fe80::99".parse().unwrap()],
            ..Gateways::default()
        };
        let hop = |gateways: &Gateways, to| gateways.next_hop(&identity, ip(to));
        let now = Instant::now();
        assert_eq!(hop(&gateways, "10.0.0.7"), Some(ip("10.0.0.7")));
        assert_eq!(hop(&gateways, "192.0.2.1"), Some(ip("10.0.0.254")));
        assert_eq!(hop(&gateways, "2001:db8::1"), Some(ip("fd00::fe")));
        for local in ["fe80:1::1", "ff02::1", "224.0.0.5", "169.254.3.4"] {
            assert_eq!(hop(&gateways, local), None, "{local}");
        }
        assert!(!gateways.is_silent(ip("10.0.0.7"), now), "no router");
        assert!(gateways.is_silent(ip("10.0.0.254"), now));
        assert_eq!(hop(&gateways, "192.0.2.1"), Some(ip("10.0.0.253")));
        assert!(gateways.is_silent(ip("10.0.0.253"), now));
        assert_eq!(hop(&gateways, "192.0.2.1"), Some(ip("10.0.0.254")), "none answers");
        assert!(gateways.answers(ip("10.0.0.253")));
        assert_eq!(hop(&gateways, "192.0.2.1"), Some(ip("10.0.0.253")));
        let due = gateways.due().unwrap();
        assert!(!gateways.service(now) && gateways.service(due));
        assert_eq!(hop(&gateways, "192.0.2.1"), Some(ip("10.0.0.254")));
        gateways.forget();
        assert_eq!(hop(&gateways, "192.0.2.1"), Some(ip("10.0.0.254")), "it is the user's");
    }

    #[test]
    fn the_far_end_of_a_link_leads_everywhere() {
        let mut identity = identity();
        identity.far_end = vec![ip("192.0.0.1"), ip("fe80::ff")];
        let hop = |to| Gateways::default().next_hop(&identity, ip(to));
        assert_eq!(hop("10.0.0.7"), Some(ip("10.0.0.7")));
        assert_eq!(hop("192.0.2.1"), Some(ip("192.0.0.1")));
        assert_eq!(hop("2001:db8::1"), Some(ip("fe80::ff")));
    }
}
