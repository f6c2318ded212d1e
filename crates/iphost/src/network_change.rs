//! What a host learns from its network about itself: leases, addresses of advertised prefixes, and
//! routers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{HostAddress, ParseAddressError};
use neighbor::AddressConflict;

/// A change of what a host has from its network. It displays as a sentence without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkChange {
    /// A DHCP server has leased an address, and the host uses it.
    Leased {
        /// The address.
        address: HostAddress,
        /// The server.
        server: Ipv4Addr,
        /// The default router that it names.
        router: Option<Ipv4Addr>,
        /// The time of the lease.
        seconds: Option<u32>,
    },
    /// The DHCP server has renewed the lease.
    Renewed {
        /// The address.
        address: HostAddress,
        /// The time of the lease from now on.
        seconds: Option<u32>,
    },
    /// The lease has expired, or the server has withdrawn it: the host no longer uses the address.
    LeaseLost {
        /// The address.
        address: HostAddress,
    },
    /// A DHCP server leases an address that no host can have.
    LeaseUnusable {
        /// The address.
        address: Ipv4Addr,
        /// The server.
        server: Ipv4Addr,
        /// Why.
        why: ParseAddressError,
    },
    /// The host has made an address of a prefix that a router advertises, and uses it.
    AddressMade {
        /// The address.
        address: HostAddress,
    },
    /// The lifetime of such an address is over.
    AddressExpired {
        /// The address.
        address: IpAddr,
    },
    /// Another host has an address that this one has from the network. It is not used.
    AddressTaken(AddressConflict),
    /// A host has as many addresses as its stack holds; a further one is not used.
    NoRoom {
        /// The address.
        address: IpAddr,
    },
    /// A router advertises itself as a default router.
    RouterFound {
        /// Its link-local address.
        router: Ipv6Addr,
    },
    /// A router is none any more, or has not said so for too long.
    RouterLost {
        /// Its link-local address.
        router: Ipv6Addr,
    },
}

impl fmt::Display for NetworkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Leased { address, server, router, seconds } => {
                write!(f, "{address} is leased from {server}")?;
                write_seconds(f, seconds)?;
                match router {
                    Some(router) => write!(f, ", gateway {router}"),
                    None => f.write_str(", without a gateway"),
                }
            }
            Self::Renewed { address, seconds } => {
                write!(f, "the lease of {address} is renewed")?;
                write_seconds(f, seconds)
            }
            Self::LeaseLost { address } => {
                write!(f, "the lease of {address} is over; the host asks for another")
            }
            Self::LeaseUnusable { address, server, why } => {
                write!(f, "the DHCP server {server} leases {address}: {why}")
            }
            Self::AddressMade { address } => {
                write!(f, "{address} is made of an advertised prefix")
            }
            Self::AddressExpired { address } => {
                write!(f, "{address} has expired: no router advertises its prefix")
            }
            Self::AddressTaken(conflict) => write!(f, "{conflict}; this host does not use it"),
            Self::NoRoom { address } => {
                write!(f, "{address} is not used: the host has no room for a further address")
            }
            Self::RouterFound { router } => write!(f, "{router} is a router to other networks"),
            Self::RouterLost { router } => {
                write!(f, "{router} is no longer a router to other networks")
            }
        }
    }
}

fn write_seconds(f: &mut fmt::Formatter<'_>, seconds: Option<u32>) -> fmt::Result {
    match seconds {
        Some(u32::MAX) => f.write_str(" for ever"),
        Some(seconds) => write!(f, " for {seconds} s"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_as_sentences() {
        let address = "10.0.0.57/24".parse().unwrap();
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let leased =
            NetworkChange::Leased { address, server, router: Some(server), seconds: Some(120) };
        assert_eq!(
            leased.to_string(),
            "10.0.0.57/24 is leased from 10.0.0.1 for 120 s, gateway 10.0.0.1"
        );
        let renewed = NetworkChange::Renewed { address, seconds: Some(u32::MAX) };
        assert_eq!(renewed.to_string(), "the lease of 10.0.0.57/24 is renewed for ever");
    }
}
