//! Who a host is on its network: its Ethernet address and its IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{EthernetAddress, IpCidr, Ipv6Cidr};

use crate::frame::{ALL_NODES_OF_LINK, solicited_node};
use crate::{arp, ndisc};

/// The addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// Its Ethernet address.
    pub mac: EthernetAddress,
    /// Its IP addresses, each with its network.
    pub addresses: Vec<IpCidr>,
    /// The far end of a link of two ends, at most one address of each family: the host reaches it
    /// although no network of the host has it, and everything else through it.
    pub far_end: Vec<IpAddr>,
}

/// Returns the link-local address that RFC 4291 derives from an Ethernet address, with its network.
#[must_use]
pub fn link_local(mac: EthernetAddress) -> IpCidr {
    // Every Ethernet address has one.
    let interface_id = mac.as_eui_64().map_or(0, u64::from_be_bytes);
    let address = 0xfe80 << 112 | u128::from(interface_id);
    Ipv6Cidr::new(Ipv6Addr::from_bits(address), 64).into()
}

/// What a destination address means to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One of its own addresses.
    Own,
    /// A broadcast address of one of its networks, or a multicast group that it is in.
    Group,
    /// Another host, or a group it is not in.
    Other,
}

impl Identity {
    /// Makes the identity of a host that reaches what is on the networks of its addresses.
    #[must_use]
    pub fn new(mac: EthernetAddress, addresses: Vec<IpCidr>) -> Self {
        Self { mac, addresses, far_end: Vec::new() }
    }

    /// Returns whether the host has the address.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| IpAddr::from(own.address()) == address)
    }

    /// Returns whether the address is on one of the host's networks, or at the far end of its link.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.contains_addr(&address.into()))
            || self.far_end.contains(&address)
    }

    /// Returns what a packet to `address` is to the host.
    #[must_use]
    pub fn destination(&self, address: IpAddr) -> Destination {
        if self.has(address) {
            return Destination::Own;
        }
        let is_group = match address {
            IpAddr::V4(address) => {
                self.is_broadcast(address) || address == Ipv4Addr::new(224, 0, 0, 1)
            }
            IpAddr::V6(group) => {
                self.v6().any(|own| group == solicited_node(own) || ALL_NODES.contains(&group))
            }
        };
        if is_group { Destination::Group } else { Destination::Other }
    }

    /// Returns whether no other host can have sent from `address`: it belongs to all hosts, to none,
    /// or to this one.
    #[must_use]
    pub fn is_martian(&self, address: IpAddr) -> bool {
        let belongs_to_no_host = match address {
            IpAddr::V4(address) => {
                address.octets()[0] == 0
                    || address.is_loopback()
                    || address.is_multicast()
                    || self.is_broadcast(address)
            }
            IpAddr::V6(address) => {
                address.is_unspecified()
                    || address.is_loopback()
                    || address.is_multicast()
                    || address.to_ipv4_mapped().is_some()
            }
        };
        belongs_to_no_host || self.has(address)
    }

    /// Returns the address to ask from, or to send from, for a host on the same network.
    #[must_use]
    pub fn source_for(&self, target: IpAddr) -> Option<IpAddr> {
        let own = || self.addresses.iter().map(|own| (own, IpAddr::from(own.address())));
        let on_net = own().find(|(own, _)| own.contains_addr(&target.into()));
        let of_family = || own().find(|(_, address)| address.is_ipv4() == target.is_ipv4());
        on_net
            .or_else(|| of_family().filter(|_| self.far_end.contains(&target)))
            .map(|(_, address)| address)
    }

    /// Makes the frame that asks for the host `target` on the same network, if the host can ask for
    /// it.
    #[must_use]
    pub fn question(&self, target: IpAddr) -> Option<Vec<u8>> {
        match (self.source_for(target)?, target) {
            (IpAddr::V4(own), IpAddr::V4(target)) => Some(arp::request((own, self.mac), target)),
            (IpAddr::V6(own), IpAddr::V6(target)) => {
                Some(ndisc::solicitation((own, self.mac), target))
            }
            _ => None,
        }
    }

    /// Returns whether the address is that of all hosts, or of all on one of the host's networks.
    #[must_use]
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        let of_network = |own: &IpCidr| match own {
            IpCidr::Ipv4(own) => own.broadcast() == Some(address),
            IpCidr::Ipv6(_) => false,
        };
        address.is_broadcast() || self.addresses.iter().any(of_network)
    }

    fn v6(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses.iter().filter_map(|own| match own {
            IpCidr::Ipv6(own) => Some(own.address()),
            IpCidr::Ipv4(_) => None,
        })
    }
}

/// All nodes of this interface, and of this link.
const ALL_NODES: [Ipv6Addr; 2] = [Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1), ALL_NODES_OF_LINK];

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let addresses = ["10.0.0.1/24", "192.0.2.1/31", "fd00::1/64", "fe80::a:b:c/64"];
        let cidr = |text: &str| text.parse::<IpCidr>().unwrap();
        Identity::new(
            EthernetAddress([2, 0, 0, 0, 0, 1]),
            addresses.into_iter().map(cidr).collect(),
        )
    }

    #[test]
    fn a_host_knows_what_is_for_it() {
        use Destination::{Group, Other, Own};
        for (to, right) in [
            ("10.0.0.1", Own),
            ("10.0.0.2", Other),
            ("10.0.0.255", Group),
            ("255.255.255.255", Group),
            ("224.0.0.1", Group),
            ("224.0.0.251", Other),
            ("127.0.0.1", Other),
            ("fd00::1", Own),
            ("fd00::2", Other),
            ("ff02::1", Group),
            ("ff01::1", Group),
            ("ff02::1:ff00:1", Group),
            ("ff02::1:ff0b:c", Group),
            ("ff02::1:ff01:1", Other),
            ("ff02::2", Other),
            ("::1", Other),
        ] {
            assert_eq!(identity().destination(to.parse().unwrap()), right, "{to}");
        }
    }

    #[test]
    fn no_other_host_sends_from_some_addresses() {
        let martians = [
            "10.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "10.0.0.255",
            "fd00::1",
            "::",
            "::1",
            "ff02::1",
            "::ffff:10.0.0.3",
        ];
        for from in martians {
            assert!(identity().is_martian(from.parse().unwrap()), "{from}");
        }
        for from in ["10.0.0.3", "192.0.2.0", "240.0.0.1", "fd00::2", "fe80::1"] {
            assert!(!identity().is_martian(from.parse().unwrap()), "{from}");
        }
    }

    #[test]
    fn a_host_asks_from_the_network_that_it_asks_on() {
        let source = |target: &str| identity().source_for(target.parse().unwrap());
        assert_eq!(source("10.0.0.9"), Some([10, 0, 0, 1].into()));
        assert_eq!(source("fe80::9"), Some("fe80::a:b:c".parse().unwrap()));
        assert_eq!(source("10.0.1.9"), None);
    }

    #[test]
    fn a_link_local_address_is_made_of_the_ethernet_address() {
        let mac = EthernetAddress([0xb2, 0xa0, 1, 2, 3, 4]);
        assert_eq!(link_local(mac).to_string(), "fe80::b0a0:1ff:fe02:304/64");
    }

    #[test]
    fn the_far_end_of_a_link_is_reached_from_any_network() {
        let far: IpAddr = [192, 0, 0, 1].into();
        let mut identity = identity();
        assert!(!identity.reaches(far) && identity.question(far).is_none());
        identity.far_end = vec![far];
        assert!(identity.reaches(far) && !identity.reaches([192, 0, 0, 2].into()));
        assert_eq!(identity.source_for(far), Some([10, 0, 0, 1].into()));
        assert!(identity.question(far).is_some());
    }
}
