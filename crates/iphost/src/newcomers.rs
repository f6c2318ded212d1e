//! Addresses that a host has from its network, before it uses them: it asks whether another host has
//! them, each by itself, while its other addresses are in use.

use std::net::IpAddr;
use std::time::Instant;

use smoltcp::wire::{EthernetAddress, IpCidr};

use neighbor::arp::Arp;
use neighbor::{AddressConflict, Claims, NO_HOST};

/// What comes of a new address.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A frame for the network.
    Say(Vec<u8>),
    /// No other host has it.
    Ready(IpCidr),
    /// Another host has it.
    Taken(AddressConflict),
}

/// The addresses that are new.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    list: Vec<Newcomer>,
}

#[derive(Debug)]
struct Newcomer {
    cidr: IpCidr,
    claims: Claims,
    /// It is in use, and announced once more.
    is_ready: bool,
}

impl Newcomer {
    fn is(&self, address: IpAddr) -> bool {
        IpAddr::from(self.cidr.address()) == address
    }
}

impl Newcomers {
    /// Begins to ask about an address.
    pub(crate) fn add(&mut self, cidr: IpCidr, now: Instant) {
        self.remove(cidr.address().into());
        let mut claims = Claims::default();
        claims.begin();
        claims.link_changed(now);
        self.list.push(Newcomer { cidr, claims, is_ready: false });
    }

    /// Returns whether the host asks about the address.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.list.iter().any(|newcomer| newcomer.is(address) && !newcomer.is_ready)
    }

    /// Forgets an address.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.list.retain(|newcomer| !newcomer.is(address));
    }

    /// Forgets all addresses.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    /// Takes a packet of ARP that another host has sent. Returns whether it is about a new address.
    pub(crate) fn take_arp(&mut self, arp: &Arp, now: Instant) -> bool {
        let (address, mac) = arp.sender;
        if address == NO_HOST {
            self.list.iter_mut().for_each(|newcomer| newcomer.claims.answers_for_all(mac));
            return false;
        }
        let about = if arp.is_probe() { arp.target } else { address };
        let Some(newcomer) = self.asked_about(about.into()) else { return false };
        if arp.is_request {
            newcomer.claims.contested(about.into(), mac, now);
        } else {
            newcomer.claims.answered(about.into(), mac);
        }
        true
    }

    /// Notes that the host at `mac` has the address, or wants it. Returns whether it is new.
    pub(crate) fn contested(
        &mut self,
        address: IpAddr,
        mac: EthernetAddress,
        now: Instant,
    ) -> bool {
        let Some(newcomer) = self.asked_about(address) else { return false };
        newcomer.claims.contested(address, mac, now);
        true
    }

    /// Does what is due, for a host at `mac`.
    pub(crate) fn service(&mut self, mac: EthernetAddress, now: Instant) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        self.list.retain_mut(|newcomer| {
            let statement = newcomer.claims.service(now);
            if let Some(conflict) = newcomer.claims.next_conflict() {
                arrivals.push(Arrival::Taken(conflict));
                return false;
            }
            if !newcomer.claims.is_tentative() && !newcomer.is_ready {
                newcomer.is_ready = true;
                arrivals.push(Arrival::Ready(newcomer.cidr));
            }
            arrivals.extend(
                statement
                    .and_then(|statement| statement.frame(newcomer.cidr.address().into(), mac))
                    .map(Arrival::Say),
            );
            newcomer.claims.due().is_some()
        });
        arrivals
    }

    /// Returns when the next [`service`](Self::service) is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.list.iter().filter_map(|newcomer| newcomer.claims.due()).min()
    }

    fn asked_about(&mut self, address: IpAddr) -> Option<&mut Newcomer> {
        self.list.iter_mut().find(|newcomer| newcomer.is(address) && !newcomer.is_ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

    fn add(text: &str, now: Instant) -> Newcomers {
        let mut newcomers = Newcomers::default();
        newcomers.add(text.parse::<crate::HostAddress>().unwrap().cidr(), now);
        newcomers
    }

    /// Services the addresses until nothing is due. Returns how many frames were sent, how many
    /// addresses are used, and how many another host has.
    fn outcome(newcomers: &mut Newcomers) -> [usize; 3] {
        let mut outcome = [0; 3];
        while let Some(due) = newcomers.due() {
            for arrival in newcomers.service(OWN, due) {
                outcome[match arrival {
                    Arrival::Say(_) => 0,
                    Arrival::Ready(_) => 1,
                    Arrival::Taken(_) => 2,
                }] += 1;
            }
        }
        outcome
    }

    #[test]
    fn an_address_is_used_when_no_other_host_has_it() {
        let now = Instant::now();
        for text in ["10.0.0.1/24", "2001:db8::1/64"] {
            assert_eq!(outcome(&mut add(text, now)), [4, 1, 0], "{text}");
        }
        let mut newcomers = add("2001:db8::1/64", now);
        assert!(newcomers.contested("2001:db8::1".parse().unwrap(), OTHER, now));
        assert!(!newcomers.contested("2001:db8::2".parse().unwrap(), OTHER, now));
        assert_eq!(outcome(&mut newcomers)[1..], [0, 1]);
        for is_request in [true, false] {
            let mut newcomers = add("10.0.0.1/24", now);
            let sender = ([10, 0, 0, 1].into(), OTHER);
            let arp = Arp { is_request, sender, target: [10, 0, 0, 7].into() };
            assert!(newcomers.take_arp(&arp, now));
            assert_eq!(outcome(&mut newcomers)[1..], [0, 1]);
        }
    }
}
