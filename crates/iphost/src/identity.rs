//! Who a host is on its network: its Ethernet address and its IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{EthernetAddress, IpCidr};

use crate::frame::solicited_node;

/// The addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) mac: EthernetAddress,
    pub(crate) addresses: Vec<IpCidr>,
}

/// What a destination address means to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// One of its own addresses.
    Own,
    /// A broadcast address of one of its networks, or a multicast group that it is in.
    Group,
    /// Another host, or a group it is not in.
    Other,
}

impl Identity {
    /// Returns whether the host has the address.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| IpAddr::from(own.address()) == address)
    }

    /// Returns whether the address is on one of the host's networks.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.contains_addr(&address.into()))
    }

    /// Returns what a packet to `address` is to the host.
    pub(crate) fn destination(&self, address: IpAddr) -> Destination {
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
    pub(crate) fn is_martian(&self, address: IpAddr) -> bool {
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
    pub(crate) fn source_for(&self, target: IpAddr) -> Option<IpAddr> {
        let on_net = self.addresses.iter().find(|own| own.contains_addr(&target.into()));
        Some(on_net?.address().into())
    }

    fn is_broadcast(&self, address: Ipv4Addr) -> bool {
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

/// All nodes on this link.
pub(crate) const ALL_NODES_OF_LINK: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All nodes of this interface, and of this link.
const ALL_NODES: [Ipv6Addr; 2] = [Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1), ALL_NODES_OF_LINK];

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let addresses = ["10.0.0.1/24", "192.0.2.1/31", "fd00::1/64", "fe80::a:b:c/64"];
        let cidr = |text: &str| text.parse::<crate::HostAddress>().unwrap().cidr();
        Identity {
            mac: EthernetAddress([2, 0, 0, 0, 0, 1]),
            addresses: addresses.into_iter().map(cidr).collect(),
        }
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
}
