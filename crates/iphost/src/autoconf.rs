//! What a host makes of the advertisements of IPv6 routers: its addresses and its default routers
//! (RFC 4861, RFC 4862).
//!
//! Any station can send such messages, so all that is kept of them has bounds: the routers, the
//! prefixes, and how soon an address can be made to expire.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use smoltcp::wire::{EthernetAddress, Ipv6Cidr};

use crate::address::HostAddress;
use crate::router_advert::{Preference, Prefix, RouterAdvert};

/// The most routers and addresses; further ones are ignored.
const MAX_ROUTERS: usize = 8;
const MAX_PREFIXES: usize = 4;
/// Questions at the start, and the time between them.
const QUESTIONS: u8 = 3;
const QUESTION_INTERVAL: Duration = Duration::from_secs(4);
/// No message shortens the lifetime of an address to less than this.
const SHORTEST: Duration = Duration::from_hours(2);
/// The lowest hop limit that is believed. Any station can forge the message, and with a hop limit of 1
/// all that the host sends would end at its router (RFC 3756, 4.2.7). Paths are hardly ever longer.
const MIN_HOP_LIMIT: u8 = 32;
/// Bits of a prefix of which hosts make addresses.
const PREFIX_LEN: u8 = 64;

/// What follows from a message, or from the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All routers are to be asked who they are.
    Ask,
    /// The host can have this address, if no other has it.
    Add(Ipv6Cidr),
    /// The lifetime of the address is over.
    Remove(Ipv6Addr),
    RouterFound(Ipv6Addr),
    RouterLost(Ipv6Addr),
}

/// The routers and the prefixes that a host has heard of.
#[derive(Debug, Default)]
pub(crate) struct Autoconf {
    routers: Vec<Router>,
    made: Vec<Made>,
    hop_limit: Option<u8>,
    asked: u8,
    /// When the routers are to be asked.
    ask_at: Option<Instant>,
}

#[derive(Debug)]
struct Router {
    address: Ipv6Addr,
    preference: Preference,
    until: Instant,
}

/// An address that is made of a prefix, and until when; none is for ever.
#[derive(Debug)]
struct Made {
    cidr: Ipv6Cidr,
    valid_until: Option<Instant>,
    preferred_until: Option<Instant>,
}

impl Autoconf {
    /// Forgets everything and begins to ask: the host is on another network, or has another
    /// Ethernet address.
    pub(crate) fn begin(&mut self, now: Instant) {
        *self = Self { ask_at: Some(now), ..Self::default() };
    }

    /// Returns the routers, the most preferred first.
    pub(crate) fn routers(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.routers.iter().map(|router| router.address)
    }

    /// Returns the hop limit that the routers want packets to have.
    pub(crate) fn hop_limit(&self) -> Option<u8> {
        self.hop_limit
    }

    /// Returns whether another address is to be used, if there is one.
    pub(crate) fn is_deprecated(&self, address: Ipv6Addr, now: Instant) -> bool {
        let is_over = |made: &Made| made.preferred_until.is_some_and(|until| until <= now);
        self.made.iter().any(|made| made.cidr.address() == address && is_over(made))
    }

    /// Takes the message of the router `from`, for a host at `mac`.
    pub(crate) fn take(
        &mut self,
        advert: &RouterAdvert,
        from: Ipv6Addr,
        mac: EthernetAddress,
        now: Instant,
    ) -> Vec<Step> {
        // RFC 4861, 6.3.7: one that is no default router does not end the search for one.
        if advert.lifetime > 0 {
            self.ask_at = None;
        }
        self.hop_limit = advert.hop_limit.filter(|hops| *hops >= MIN_HOP_LIMIT).or(self.hop_limit);
        let mut steps: Vec<_> = self.take_router(advert, from, now).into_iter().collect();
        steps
            .extend(advert.prefixes.iter().filter_map(|prefix| self.take_prefix(prefix, mac, now)));
        steps
    }

    fn take_router(&mut self, advert: &RouterAdvert, from: Ipv6Addr, now: Instant) -> Option<Step> {
        let known = self.routers.iter().position(|router| router.address == from);
        let router = Router {
            address: from,
            preference: advert.preference,
            until: now + Duration::from_secs(advert.lifetime.into()),
        };
        let step = match known {
            Some(index) if advert.lifetime == 0 => {
                self.routers.remove(index);
                Some(Step::RouterLost(from))
            }
            Some(index) => {
                self.routers[index] = router;
                None
            }
            None if advert.lifetime > 0 && self.routers.len() < MAX_ROUTERS => {
                self.routers.push(router);
                Some(Step::RouterFound(from))
            }
            None => None,
        };
        // The first that was heard is before others that are preferred as much.
        self.routers.sort_by_key(|router| std::cmp::Reverse(router.preference));
        step
    }

    fn take_prefix(&mut self, prefix: &Prefix, mac: EthernetAddress, now: Instant) -> Option<Step> {
        let cidr = address_of(prefix, mac)?;
        let until =
            |seconds| (seconds != u32::MAX).then(|| now + Duration::from_secs(u64::from(seconds)));
        let (valid_until, preferred_until) = (until(prefix.valid), until(prefix.preferred));
        let known = self.made.iter_mut().find(|made| made.cidr.address() == cidr.address());
        if let Some(made) = known {
            made.preferred_until = preferred_until;
            // RFC 4862, 5.5.3 e: a forged message does not take an address away.
            let is_longer = match (valid_until, made.valid_until) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(new), Some(old)) => new > old,
            };
            let least = now + SHORTEST;
            if is_longer || valid_until.is_none_or(|until| until > least) {
                made.valid_until = valid_until;
            } else if made.valid_until.is_none_or(|old| old > least) {
                made.valid_until = Some(least);
            }
            return None;
        }
        if prefix.valid == 0 || self.made.len() >= MAX_PREFIXES {
            return None;
        }
        self.made.push(Made { cidr, valid_until, preferred_until });
        Some(Step::Add(cidr))
    }

    /// Does what is due. The routers are asked if `may_ask`.
    pub(crate) fn service(&mut self, now: Instant, may_ask: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let gone = self.routers.extract_if(.., |router| router.until <= now);
        steps.extend(gone.map(|router| Step::RouterLost(router.address)));
        let is_over = |made: &mut Made| made.valid_until.is_some_and(|until| until <= now);
        let over = self.made.extract_if(.., is_over);
        steps.extend(over.map(|made| Step::Remove(made.cidr.address())));
        if may_ask && self.ask_at.is_some_and(|at| at <= now) {
            self.asked += 1;
            self.ask_at = (self.asked < QUESTIONS).then(|| now + QUESTION_INTERVAL);
            steps.push(Step::Ask);
        }
        steps
    }

    /// Returns when the next [`service`](Self::service) is due.
    pub(crate) fn due(&self, may_ask: bool) -> Option<Instant> {
        let routers = self.routers.iter().map(|router| router.until);
        let made = self.made.iter().filter_map(|made| made.valid_until);
        routers.chain(made).chain(self.ask_at.filter(|_| may_ask)).min()
    }
}

/// Returns the address that a host at `mac` makes of a prefix, if it makes one. It is on the network
/// of the prefix, or alone where the prefix is not that of the link.
fn address_of(prefix: &Prefix, mac: EthernetAddress) -> Option<Ipv6Cidr> {
    let network = prefix.network.to_bits() >> 64 << 64;
    let is_usable = prefix.is_autonomous
        && prefix.len == PREFIX_LEN
        && prefix.preferred <= prefix.valid
        && network != 0
        && !prefix.network.is_unicast_link_local();
    if !is_usable {
        return None;
    }
    let address = Ipv6Addr::from_bits(network | interface_id(mac));
    let len = if prefix.is_on_link { PREFIX_LEN } else { 128 };
    let cidr = Ipv6Cidr::new(address, len);
    HostAddress::of(cidr.into()).ok().map(|_| cidr)
}

/// Returns the lower half of the addresses that RFC 4291 derives from an Ethernet address.
pub(crate) fn interface_id(mac: EthernetAddress) -> u128 {
    // Every Ethernet address has one.
    mac.as_eui_64().map_or(0, u64::from_be_bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router_advert::tests::{ROUTER, advert};

    const MAC: EthernetAddress = EthernetAddress([0xb2, 0xa0, 1, 2, 3, 4]);

    fn take(autoconf: &mut Autoconf, advert: &RouterAdvert, now: Instant) -> Vec<Step> {
        autoconf.take(advert, ROUTER, MAC, now)
    }

    #[test]
    fn a_host_makes_addresses_and_they_expire() {
        let (mut autoconf, now) = (Autoconf::default(), Instant::now());
        autoconf.begin(now);
        assert_eq!(autoconf.service(now, false), []);
        assert_eq!(autoconf.service(now, true), [Step::Ask]);
        let made = "2001:db8:1::b0a0:1ff:fe02:304".parse().unwrap();
        let advert = advert(&["2001:db8:1::"]);
        let steps = take(&mut autoconf, &advert, now);
        assert_eq!(steps, [Step::RouterFound(ROUTER), Step::Add(Ipv6Cidr::new(made, 64))]);
        assert_eq!(take(&mut autoconf, &advert, now), []);
        assert_eq!(autoconf.hop_limit(), Some(61));
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(
            !autoconf.is_deprecated(made, at(3_599)) && autoconf.is_deprecated(made, at(3_600))
        );
        assert_eq!(autoconf.due(true), Some(at(1_800)), "it asks no more");
        assert_eq!(autoconf.service(at(1_800), true), [Step::RouterLost(ROUTER)]);
        assert_eq!(autoconf.service(at(7_199), true), []);
        assert_eq!(autoconf.service(at(7_200), true), [Step::Remove(made)]);
        assert_eq!(autoconf.due(true), None);
    }

    #[test]
    fn a_router_that_is_no_default_router_does_not_end_the_questions() {
        let (mut autoconf, now) = (Autoconf::default(), Instant::now());
        autoconf.begin(now);
        let advert = RouterAdvert { lifetime: 0, ..advert(&[]) };
        assert_eq!(take(&mut autoconf, &advert, now), []);
        assert_eq!(autoconf.service(now, true), [Step::Ask]);
        take(&mut autoconf, &advert, now);
        assert_eq!(autoconf.due(true), Some(now + QUESTION_INTERVAL));
    }

    #[test]
    fn a_hop_limit_that_leads_nowhere_is_ignored() {
        let (mut autoconf, now) = (Autoconf::default(), Instant::now());
        let with = |hops| RouterAdvert { hop_limit: Some(hops), ..advert(&[]) };
        for (said, believed) in
            [(1, None), (31, None), (32, Some(32)), (1, Some(32)), (255, Some(255))]
        {
            take(&mut autoconf, &with(said), now);
            assert_eq!(autoconf.hop_limit(), believed, "{said}");
        }
    }

    #[test]
    fn no_message_takes_an_address_away_at_once() {
        let (mut autoconf, now) = (Autoconf::default(), Instant::now());
        let mut advert = advert(&["2001:db8:1::"]);
        advert.prefixes[0].valid = u32::MAX;
        take(&mut autoconf, &advert, now);
        (advert.lifetime, advert.prefixes[0].valid, advert.prefixes[0].preferred) = (0, 0, 0);
        assert_eq!(take(&mut autoconf, &advert, now), [Step::RouterLost(ROUTER)]);
        assert_eq!(autoconf.due(true), Some(now + SHORTEST));
        take(&mut autoconf, &advert, now + SHORTEST / 2);
        assert_eq!(autoconf.due(true), Some(now + SHORTEST), "nor is it prolonged");
        advert.prefixes[0].valid = 9_000;
        take(&mut autoconf, &advert, now);
        assert_eq!(autoconf.due(true), Some(now + Duration::from_mins(150)));
    }

    #[test]
    fn forged_messages_fill_no_memory() {
        let (mut autoconf, now) = (Autoconf::default(), Instant::now());
        for number in 0..1_000 {
            let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, number);
            let prefix = format!("2001:db8:{number:x}::");
            autoconf.take(&advert(&[&prefix]), from, MAC, now);
        }
        assert_eq!(autoconf.routers().count(), MAX_ROUTERS);
        assert_eq!(autoconf.made.len(), MAX_PREFIXES);
    }

    #[test]
    fn some_prefixes_make_no_address() {
        let prefix = advert(&["2001:db8:1::"]).prefixes[0];
        for bad in [
            Prefix { is_autonomous: false, ..prefix },
            Prefix { len: 63, ..prefix },
            Prefix { len: 200, ..prefix },
            Prefix { preferred: 7_201, ..prefix },
            Prefix { network: "fe80::".parse().unwrap(), ..prefix },
            Prefix { network: "ff02::".parse().unwrap(), ..prefix },
            Prefix { network: Ipv6Addr::LOCALHOST, ..prefix },
        ] {
            assert_eq!(address_of(&bad, MAC), None, "{bad:?}");
        }
        let off_link = Prefix { is_on_link: false, ..prefix };
        assert_eq!(address_of(&off_link, MAC).map(|cidr| cidr.prefix_len()), Some(128));
    }
}
