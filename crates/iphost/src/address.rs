//! `ADDR/LEN` on the command line: an address of a host, and the network it is on.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use smoltcp::wire::IpCidr;

/// Addresses a host can be given; one more is kept for its IPv6 link-local address.
pub const MAX_ADDRESSES: usize = smoltcp::config::IFACE_MAX_ADDR_COUNT - 1;

/// An address of a host, with its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress(IpCidr);

/// A text that is no address of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// There is no prefix length.
    #[error("it is an address and the length of its network's prefix, such as 10.0.0.1/24 or fd00::1/64")]
    Form,
    /// What is before the `/` is no address.
    #[error("what is before the '/' is not an IPv4 or IPv6 address")]
    Address,
    /// What is behind the `/` is no prefix length.
    #[error("what is behind the '/' is not a prefix length: 0 to 32 for IPv4, to 128 for IPv6")]
    Prefix,
    /// Nobody can have it.
    #[error("a host cannot have this address: it is not that of a single host")]
    NotUnicast,
}

impl HostAddress {
    /// The address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0.address().into()
    }

    /// Whether `target` is reached without a router.
    #[must_use]
    pub fn reaches(self, target: IpAddr) -> bool {
        self.0.contains_addr(&target.into())
    }

    pub fn cidr(self) -> IpCidr {
        self.0
    }

    /// The address `number` further on, if the network goes so far and a host can have it.
    fn further(self, number: u32) -> Option<Self> {
        let address = match self.address() {
            IpAddr::V4(address) => IpAddr::V4(address.to_bits().checked_add(number)?.into()),
            IpAddr::V6(address) => IpAddr::V6(address.to_bits().checked_add(number.into())?.into()),
        };
        let cidr = IpCidr::new(address.into(), self.0.prefix_len());
        (self.reaches(address) && is_single_host(&cidr)).then_some(Self(cidr))
    }
}

impl FromStr for HostAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let (address, prefix) = text.split_once('/').ok_or(ParseAddressError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| ParseAddressError::Address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        // `parse` would take a sign.
        let prefix = Some(prefix).filter(|prefix| prefix.bytes().all(|digit| digit.is_ascii_digit()));
        let prefix = prefix.and_then(|prefix| prefix.parse().ok()).filter(|prefix| *prefix <= longest);
        let cidr = IpCidr::new(address.into(), prefix.ok_or(ParseAddressError::Prefix)?);
        if is_single_host(&cidr) { Ok(Self(cidr)) } else { Err(ParseAddressError::NotUnicast) }
    }
}

/// Not multicast, broadcast, loopback or nobody's.
fn is_single_host(cidr: &IpCidr) -> bool {
    let address = cidr.address();
    let of_all = match cidr {
        IpCidr::Ipv4(cidr) => cidr.broadcast() == Some(cidr.address()),
        IpCidr::Ipv6(_) => false,
    };
    address.is_unicast() && !IpAddr::from(address).is_loopback() && !of_all
}

/// What is wrong with these addresses together.
pub fn check_all(addresses: &[HostAddress]) -> Result<(), String> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(format!("a host has at most {MAX_ADDRESSES} addresses, not {}", addresses.len()));
    }
    for (index, one) in addresses.iter().enumerate() {
        if addresses[..index].iter().any(|other| other.address() == one.address()) {
            return Err(format!("the address {} is given twice", one.address()));
        }
    }
    Ok(())
}

/// The addresses of `count` hosts, counted up from those of the first.
pub fn count_up(first: &[HostAddress], count: u32) -> Result<Vec<Vec<HostAddress>>, String> {
    check_all(first)?;
    let hosts: Vec<Vec<_>> = (0..count)
        .map(|number| {
            let further = |address: &HostAddress| {
                address.further(number).ok_or_else(|| {
                    format!("there are not {count} addresses for hosts from {address} on; there are {number}")
                })
            };
            first.iter().map(further).collect()
        })
        .collect::<Result<_, String>>()?;
    let mut all: Vec<IpAddr> = hosts.iter().flatten().map(|address| address.address()).collect();
    all.sort_unstable();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two of {count} hosts would have the address {}", pair[0])),
        None => Ok(hosts),
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_hosts_are_taken_as_written() {
        for text in ["10.0.0.1/24", "10.0.0.0/31", "192.0.2.9/32", "fd00::1/64", "fe80::1/10", "1.2.3.4/0"] {
            assert_eq!(text.parse::<HostAddress>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_no_host_can_have_is_refused() {
        use ParseAddressError::{Address, Form, NotUnicast, Prefix};
        for (text, error) in [
            ("", Form),
            ("10.0.0.1", Form),
            ("10.0.0.999/24", Address),
            ("host/24", Address),
            ("10.0.0.1/33", Prefix),
            ("10.0.0.1/+3", Prefix),
            ("10.0.0.1/", Prefix),
            ("fd00::1/129", Prefix),
            ("0.0.0.0/0", NotUnicast),
            ("224.0.0.1/4", NotUnicast),
            ("255.255.255.255/32", NotUnicast),
            ("10.0.0.255/24", NotUnicast),
            ("127.0.0.1/8", NotUnicast),
            ("ff02::1/64", NotUnicast),
            ("::/64", NotUnicast),
            ("::1/128", NotUnicast),
        ] {
            assert_eq!(text.parse::<HostAddress>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_host_reaches_its_own_network() {
        let host: HostAddress = "10.0.0.1/24".parse().unwrap();
        assert!(host.reaches("10.0.0.200".parse().unwrap()));
        assert!(!host.reaches("10.0.1.1".parse().unwrap()));
        assert!(!host.reaches("fd00::1".parse().unwrap()));
    }

    #[test]
    fn addresses_count_up_within_their_networks() {
        let parse = |text: &str| -> HostAddress { text.parse().unwrap() };
        let hosts = count_up(&[parse("10.0.0.254/16"), parse("fd00::ffff/64")], 3).unwrap();
        let last: Vec<_> = hosts[2].iter().map(ToString::to_string).collect();
        assert_eq!((hosts.len(), last), (3, vec!["10.0.1.0/16".to_owned(), "fd00::1:1/64".to_owned()]));
        for (text, there_are) in [("10.0.0.250/24", 5), ("192.0.2.1/32", 1), ("2001:db8::1/64", 250)] {
            let error = count_up(&[parse(text)], 250).map(|hosts| hosts.len().to_string());
            assert!(error.unwrap_or_else(|error| error).ends_with(&there_are.to_string()), "{text}");
        }
        let overlapping = [parse("10.0.0.1/24"), parse("10.0.0.9/24")];
        assert_eq!(count_up(&overlapping, 8).unwrap().len(), 8);
        assert!(count_up(&overlapping, 9).unwrap_err().contains("10.0.0.9"));
    }

    #[test]
    fn too_many_and_twice_the_same_are_refused() {
        let one: HostAddress = "10.0.0.1/24".parse().unwrap();
        let other: HostAddress = "10.0.0.1/16".parse().unwrap();
        assert!(check_all(&[one]).is_ok());
        assert!(check_all(&[one, other]).unwrap_err().contains("twice"));
        assert!(check_all(&[one; MAX_ADDRESSES + 1]).unwrap_err().contains("at most"));
    }
}
