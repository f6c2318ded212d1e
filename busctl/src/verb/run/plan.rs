//! From the command line to a [`Plan`]: which address is whose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use netif::IpNet;
use shmbus::{MAX_BIG_FRAME, MIN_MTU, MacAddr6};

use super::messages::{InterfacePlan, Route};
use crate::host_network::is_host_name;

/// The most buses.
pub(super) const MAX_BUSES: usize = 16;
/// The length of an Ethernet header, which the MTU does not count.
pub(super) const ETHERNET_HEADER: usize = 14;

/// `ADDR/LEN`, or `ethN=ADDR/LEN` for the Nth bus, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressArgument {
    interface: Option<usize>,
    address: IpNet,
}

impl FromStr for AddressArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (interface, address) = match text.split_once('=') {
            Some((name, address)) => (Some(number(name)?), address),
            None => (None, text),
        };
        Ok(Self { interface, address: parse_address(address)? })
    }
}

fn number(name: &str) -> Result<usize, String> {
    let digits = name
        .strip_prefix("eth")
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("'{name}' is no interface: eth0 is that of the first bus"))
}

fn parse_address(text: &str) -> Result<IpNet, String> {
    let address: IpNet = text
        .parse()
        .map_err(|_| "it takes an address and a prefix length, such as 10.0.0.1/24".to_owned())?;
    let ip = address.addr();
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(format!("{ip} is not the address of one host"));
    }
    let is_whole = address.prefix_len() < address.max_prefix_len() - 1;
    if let IpNet::V4(v4) = address
        && is_whole
        && (v4.addr() == v4.network() || v4.addr() == v4.broadcast())
    {
        return Err(format!("{ip} is not the address of one host of {}", address.trunc()));
    }
    Ok(address)
}

/// Reads `NET=GW`; `default` is the whole of the router's family.
pub(super) fn parse_route(text: &str) -> Result<Route, String> {
    let wrong = || "it takes NET=GW, such as 10.2.0.0/16=10.0.0.254 or default=10.0.0.254";
    let (network, via) = text.split_once('=').ok_or_else(wrong)?;
    let via: IpAddr = via.parse().map_err(|_| wrong())?;
    let network = match network {
        "default" => everything(via),
        network => network.parse().map_err(|_| wrong())?,
    };
    if network.addr().is_ipv4() != via.is_ipv4() {
        return Err(format!("{network} and {via} are not of one family"));
    }
    Ok(Route { network: network.trunc(), via })
}

/// Returns the default route over `via`.
pub(super) fn default_route(via: IpAddr) -> Route {
    Route { network: everything(via), via }
}

fn everything(family: IpAddr) -> IpNet {
    match family {
        IpAddr::V4(_) => IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(_) => IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// Reads a host name: letters, digits, `-` and `.`, at most 64 bytes.
pub(super) fn parse_hostname(text: &str) -> Result<String, String> {
    if is_host_name(text, 64) && !text.starts_with(['-', '.']) {
        return Ok(text.to_owned());
    }
    Err("a host name has 1 to 64 letters, digits, '-' and '.'".to_owned())
}

/// Reads an MTU that some bus carries.
pub(super) fn parse_mtu(text: &str) -> Result<u32, String> {
    let most = u32::try_from(MAX_BIG_FRAME - ETHERNET_HEADER).unwrap_or(u32::MAX);
    text.parse()
        .ok()
        .filter(|mtu| (u32::from(MIN_MTU)..=most).contains(mtu))
        .ok_or_else(|| format!("an MTU is {MIN_MTU} to {most}"))
}

/// Gives each of `buses` interfaces its addresses and its MAC.
///
/// With one bus all addresses are its. With several, the first IPv4 address is that of the first
/// bus, the second that of the second, and so for IPv6; `ethN=` says otherwise.
pub(super) fn interfaces(
    buses: usize,
    addresses: &[AddressArgument],
    macs: &[MacAddr6],
) -> Result<Vec<InterfacePlan>, String> {
    if buses > MAX_BUSES {
        return Err(format!("{buses} buses are too many: at most {MAX_BUSES}"));
    }
    if macs.len() > buses {
        return Err(format!("{} times --mac is too often for {buses} bus(es)", macs.len()));
    }
    let mut plans = vec![InterfacePlan::default(); buses];
    for (plan, mac) in plans.iter_mut().zip(macs) {
        plan.mac = Some(mac.into_array());
    }
    let (mut v4, mut v6) = (0, 0);
    for AddressArgument { interface, address } in addresses {
        let next = if address.addr().is_ipv4() { &mut v4 } else { &mut v6 };
        let index = match interface {
            Some(index) => *index,
            None if buses == 1 => 0,
            None => {
                *next += 1;
                *next - 1
            }
        };
        let Some(plan) = plans.get_mut(index) else {
            return Err(if interface.is_some() {
                format!("there is no eth{index} for {address}: the first bus is eth0")
            } else {
                format!(
                    "{address} is one address more than there are buses; eth0={address} gives the \
                     first bus another"
                )
            });
        };
        if plan.addresses.contains(address) {
            return Err(format!("{address} is there twice"));
        }
        plan.addresses.push(*address);
    }
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(buses: usize, addresses: &[&str]) -> Result<Vec<Vec<String>>, String> {
        let addresses: Result<Vec<AddressArgument>, String> =
            addresses.iter().map(|text| text.parse()).collect();
        let plans = interfaces(buses, &addresses?, &[])?;
        let texts = |plan: &InterfacePlan| plan.addresses.iter().map(ToString::to_string).collect();
        Ok(plans.iter().map(texts).collect())
    }

    #[test]
    fn one_bus_has_all_addresses() {
        let plans = plans(1, &["10.0.0.1/24", "10.1.0.1/24", "fd00::1/64"]).unwrap();
        assert_eq!(plans, [["10.0.0.1/24", "10.1.0.1/24", "fd00::1/64"]]);
    }

    #[test]
    fn several_buses_take_the_addresses_of_each_family_in_turn() {
        let plain = plans(2, &["10.0.1.1/24", "fd01::1/64", "10.0.2.1/24", "fd02::1/64"]).unwrap();
        assert_eq!(plain, [["10.0.1.1/24", "fd01::1/64"], ["10.0.2.1/24", "fd02::1/64"]]);
        let named = plans(2, &["eth1=10.0.2.1/24", "10.0.1.1/24", "eth1=10.3.0.1/16"]).unwrap();
        assert_eq!(named, [vec!["10.0.1.1/24"], vec!["10.0.2.1/24", "10.3.0.1/16"]]);
        assert_eq!(plans(2, &[]).unwrap(), [[""; 0], [""; 0]]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (buses, addresses, words) in [
            (1, &["10.0.0.1"][..], "such as 10.0.0.1/24"),
            (1, &["10.0.0.1/33"], "such as 10.0.0.1/24"),
            (1, &["224.0.0.1/24"], "not the address of one host"),
            (1, &["0.0.0.0/0"], "not the address of one host"),
            (1, &["10.0.0.0/24"], "not the address of one host of 10.0.0.0/24"),
            (1, &["10.0.0.255/24"], "not the address of one host of 10.0.0.0/24"),
            (1, &["lo=10.0.0.1/24"], "'lo' is no interface"),
            (1, &["eth1=10.0.0.1/24"], "there is no eth1"),
            (2, &["10.0.0.1/24", "10.0.1.1/24", "10.0.2.1/24"], "eth0=10.0.2.1/24"),
            (1, &["10.0.0.1/24", "eth0=10.0.0.1/24"], "twice"),
            (17, &[], "at most 16"),
        ] {
            let error = plans(buses, addresses).unwrap_err();
            assert!(error.contains(words), "{addresses:?}: {error}");
        }
        for address in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/64"] {
            assert!(plans(1, &[address]).is_ok(), "{address}");
        }
        assert!(interfaces(1, &[], &[MacAddr6::nil(); 2]).is_err());
    }

    #[test]
    fn a_route_has_a_network_and_a_router_of_one_family() {
        let route = parse_route("10.2.3.4/16=10.0.0.254").unwrap();
        assert_eq!(route.network.to_string(), "10.2.0.0/16");
        assert_eq!(parse_route("default=fd00::1").unwrap().network.to_string(), "::/0");
        assert_eq!(default_route(route.via).network.to_string(), "0.0.0.0/0");
        for text in ["10.0.0.254", "10.2.0.0/16", "10.2.0.0=x", "fd01::/64=10.0.0.1", "=", ""] {
            assert!(parse_route(text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_names_and_mtus_have_limits() {
        assert_eq!(parse_hostname("alice.lan").as_deref(), Ok("alice.lan"));
        for text in ["", "a b", "a\nb", "-a", ".a", &"x".repeat(65)] {
            assert!(parse_hostname(text).is_err(), "{text}");
        }
        assert_eq!((parse_mtu("68"), parse_mtu("9202")), (Ok(68), Ok(9_202)));
        for text in ["67", "9203", "-1", "x", ""] {
            assert!(parse_mtu(text).is_err(), "{text}");
        }
    }
}
