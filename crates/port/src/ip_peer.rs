//! Who an IP peer is on a LAN, as it is written: `ip=ADDR/LEN,...` and `gateway=ADDR,...`.

use std::net::IpAddr;

use netif::IpNet;

use crate::error::ParsePortError;
use crate::keys::{Keys, refused};

/// The most addresses of a peer.
const MAX_ADDRESSES: usize = 16;

/// The addresses of a peer that speaks IP without Ethernet, and its routers on the LAN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpPeer {
    /// The peer's addresses, each with its network: what is on that network is on the LAN.
    pub addresses: Vec<IpNet>,
    /// The routers to other networks, at most one of each family.
    pub gateways: Vec<IpAddr>,
}

impl IpPeer {
    /// Reads the values of `ip` and `gateway`. Whether they go together is left to
    /// [`check`](Self::check).
    pub(crate) fn from_keys(keys: &Keys<'_>) -> Result<Self, ParsePortError> {
        let gateway = |text: &str| {
            text.parse().map_err(|_| refused("gateway", text, &"it is the address of a router"))
        };
        Ok(Self {
            addresses: keys.networks("ip")?,
            gateways: keys.list("gateway").map(gateway).collect::<Result<_, _>>()?,
        })
    }

    /// Returns whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that a peer with these addresses can be on a LAN.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no address, or one is not that of a single host; when a
    /// router is on no network of the peer, or is not the only one of its family.
    pub fn check(&self) -> Result<(), ParsePortError> {
        if self.addresses.is_empty() {
            return Err(ParsePortError::Missing {
                kind: "memif",
                what: "ip=ADDR/LEN with mode=ip: the peer's address on the LAN, for which the port \
                       answers ARP and neighbor discovery",
            });
        }
        if self.addresses.len() > MAX_ADDRESSES {
            let problem = format!("a peer has at most {MAX_ADDRESSES} addresses");
            return Err(refused("ip", &self.addresses.len().to_string(), &problem));
        }
        for own in &self.addresses {
            if !is_host(own) {
                return Err(refused("ip", &own.to_string(), &"it is not the address of a host"));
            }
        }
        for (number, gateway) in self.gateways.iter().enumerate() {
            let is_own = self.addresses.iter().any(|own| own.addr() == *gateway);
            let is_near = self.addresses.iter().any(|own| own.contains(gateway));
            let is_link_local =
                matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
            let v6 = gateway.is_ipv6();
            let problem = if is_own {
                "it is the peer's own address"
            } else if self.gateways[..number].iter().any(|other| other.is_ipv6() == v6) {
                "there is one router for each family"
            } else if !(is_near || is_link_local && self.has_v6()) {
                "it is on no network of ip="
            } else {
                continue;
            };
            return Err(refused("gateway", &gateway.to_string(), &problem));
        }
        Ok(())
    }

    /// Returns whether one of the addresses is of IPv6.
    pub(crate) fn has_v6(&self) -> bool {
        self.addresses.iter().any(|own| own.addr().is_ipv6())
    }
}

/// Returns whether an address is that of a single host on its network.
fn is_host(own: &IpNet) -> bool {
    let address = own.addr();
    let is_single = !(address.is_multicast() || address.is_unspecified() || address.is_loopback());
    is_single
        && match own {
            IpNet::V4(own) => {
                own.prefix_len() > 30
                    || (own.addr() != own.network() && own.addr() != own.broadcast())
            }
            IpNet::V6(_) => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<IpPeer, String> {
        let keys = Keys::parse("test", &["ip", "gateway"], text).expect("pairs");
        let peer = IpPeer::from_keys(&keys);
        peer.and_then(|peer| peer.check().map(|()| peer)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_peer_has_addresses_and_routers() {
        let peer = check("ip=10.0.0.2/24,fd00::2/64,gateway=10.0.0.254,fe80::1").expect("valid");
        assert_eq!((peer.addresses.len(), peer.gateways.len()), (2, 2));
        for text in ["ip=10.0.0.0/31", "ip=10.0.0.2/32", "ip=fd00::/64"] {
            assert!(check(text).is_ok(), "{text}");
        }
        for (text, words) in [
            ("", "needs ip=ADDR/LEN"),
            ("ip=10.0.0.2", "it is an address with its network"),
            ("ip=10.0.0.255/24", "it is not the address of a host"),
            ("ip=10.0.0.0/24", "it is not the address of a host"),
            ("ip=224.0.0.1/32", "it is not the address of a host"),
            ("ip=::/64", "it is not the address of a host"),
            ("ip=10.0.0.2/24,gateway=10.0.1.1", "it is on no network of ip="),
            ("ip=10.0.0.2/24,gateway=fe80::1", "it is on no network of ip="),
            ("ip=10.0.0.2/24,gateway=10.0.0.2", "it is the peer's own address"),
            ("ip=10.0.0.2/24,gateway=10.0.0.3,10.0.0.4", "one router for each family"),
            ("ip=10.0.0.2/24,gateway=router", "it is the address of a router"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let many: Vec<String> = (1..=17).map(|last| format!("10.0.0.{last}/24")).collect();
        assert!(check(&format!("ip={}", many.join(","))).expect_err("many").contains("at most 16"));
    }
}
