//! Addresses of hosts, written `ADDRESS/LENGTH` with the length of the network's prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use smoltcp::wire::IpCidr;

/// The most addresses that a host has.
pub(crate) const MAX_OWN_ADDRESSES: usize = smoltcp::config::IFACE_MAX_ADDR_COUNT;
/// The most addresses that a host can be given. One more is reserved for its IPv6 link-local
/// address.
const MAX_ADDRESSES: usize = MAX_OWN_ADDRESSES - 1;

/// An IPv4 or IPv6 address of a host, with the network it is on.
///
/// ```
/// use iphost::HostAddress;
///
/// let host: HostAddress = "10.0.0.1/24".parse()?;
/// assert!(host.reaches("10.0.0.200".parse()?));
/// assert!("10.0.0.255/24".parse::<HostAddress>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress(IpCidr);

/// Why a text is not the address of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// There is no prefix length.
    #[error(
        "it is an address and the length of its network's prefix, such as 10.0.0.1/24 or fd00::1/64"
    )]
    Form,
    /// The part before the `/` is not an address.
    #[error("the part before the '/' is not an IPv4 or IPv6 address")]
    Address,
    /// The part after the `/` is not a prefix length.
    #[error("the part after the '/' is not a prefix length: 0 to 32 for IPv4, 0 to 128 for IPv6")]
    Prefix,
    /// It is a multicast, broadcast, loopback or unspecified address.
    #[error("a host cannot have this address: it is not the address of a single host")]
    NotUnicast,
    /// It is the address of the network.
    #[error("a host cannot have this address: it is that of the network itself")]
    Network,
    /// It is the network's broadcast address.
    #[error("a host cannot have this address: it is the broadcast address of the network")]
    Broadcast,
}

/// Why hosts cannot have a set of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// A host would have more addresses than its stack holds.
    #[error("a host has at most {MAX_ADDRESSES} addresses, not {0}")]
    TooMany(usize),
    /// An address is given twice.
    #[error("the address {0} is given twice")]
    Twice(IpAddr),
    /// The network ends before the last host has an address.
    #[error("{hosts} hosts need {hosts} addresses from {first} on, and there are {available}")]
    TooFew {
        /// The address of the first host.
        first: HostAddress,
        /// Hosts that need an address.
        hosts: u32,
        /// Addresses from the first to the end of the network.
        available: u32,
    },
    /// Two hosts would have the same address.
    #[error("two of {hosts} hosts would have the address {address}")]
    Overlap {
        /// The address.
        address: IpAddr,
        /// Hosts that need an address.
        hosts: u32,
    },
}

impl HostAddress {
    /// Returns the address without its network.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0.address().into()
    }

    /// Returns whether `target` is on the same network, and so is reached without a router.
    #[must_use]
    pub fn reaches(self, target: IpAddr) -> bool {
        self.0.contains_addr(&target.into())
    }

    /// Returns why no host of the same network can have the address `target`, if it is on that network
    /// and none can.
    ///
    /// ```
    /// use iphost::{HostAddress, ParseAddressError};
    ///
    /// let host: HostAddress = "10.0.0.1/24".parse()?;
    /// assert_eq!(host.refuses("10.0.0.255".parse()?), Some(ParseAddressError::Broadcast));
    /// assert_eq!(host.refuses("10.0.0.2".parse()?), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn refuses(self, target: IpAddr) -> Option<ParseAddressError> {
        if !self.reaches(target) {
            return None;
        }
        check_host(&IpCidr::new(target.into(), self.0.prefix_len())).err()
    }

    /// Returns an address with its network, if a host can have it.
    pub(crate) fn of(cidr: IpCidr) -> Result<Self, ParseAddressError> {
        check_host(&cidr).map(|()| Self(cidr))
    }

    /// Returns the address with its network, as smoltcp takes it.
    pub(crate) fn cidr(self) -> IpCidr {
        self.0
    }

    /// Returns the address that is greater by `number`, if it is on the network and a host can have
    /// it.
    fn plus(self, number: u32) -> Option<Self> {
        let address = match self.address() {
            IpAddr::V4(address) => IpAddr::V4(address.to_bits().checked_add(number)?.into()),
            IpAddr::V6(address) => IpAddr::V6(address.to_bits().checked_add(number.into())?.into()),
        };
        let cidr = IpCidr::new(address.into(), self.0.prefix_len());
        (self.reaches(address) && check_host(&cidr).is_ok()).then_some(Self(cidr))
    }
}

impl FromStr for HostAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let (address, prefix) = text.split_once('/').ok_or(ParseAddressError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| ParseAddressError::Address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        // `parse` would accept a sign.
        let prefix =
            Some(prefix).filter(|prefix| prefix.bytes().all(|digit| digit.is_ascii_digit()));
        let prefix =
            prefix.and_then(|prefix| prefix.parse().ok()).filter(|prefix| *prefix <= longest);
        Self::of(IpCidr::new(address.into(), prefix.ok_or(ParseAddressError::Prefix)?))
    }
}

/// Checks that a host can have the address: it is not multicast, broadcast, loopback or unspecified,
/// and not that of the network. A network of two addresses has no address but those of its hosts
/// (RFC 3021, RFC 6164).
fn check_host(cidr: &IpCidr) -> Result<(), ParseAddressError> {
    let address = IpAddr::from(cidr.address());
    // The part of the address behind the prefix is 0.
    let is_network = match cidr {
        IpCidr::Ipv4(cidr) => {
            (1..31).contains(&cidr.prefix_len())
                && cidr.address().to_bits() << cidr.prefix_len() == 0
        }
        IpCidr::Ipv6(cidr) => {
            (1..127).contains(&cidr.prefix_len())
                && cidr.address().to_bits() << cidr.prefix_len() == 0
        }
    };
    if !cidr.address().is_unicast() || address.is_loopback() {
        Err(ParseAddressError::NotUnicast)
    } else if matches!(cidr, IpCidr::Ipv4(cidr) if cidr.broadcast() == Some(cidr.address())) {
        Err(ParseAddressError::Broadcast)
    } else if is_network {
        Err(ParseAddressError::Network)
    } else {
        Ok(())
    }
}

/// Checks that one host can have these addresses together.
fn check_all(addresses: &[HostAddress]) -> Result<(), AddressError> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(AddressError::TooMany(addresses.len()));
    }
    for (index, one) in addresses.iter().enumerate() {
        if addresses[..index].iter().any(|other| other.address() == one.address()) {
            return Err(AddressError::Twice(one.address()));
        }
    }
    Ok(())
}

/// Returns the addresses of `count` hosts, counted up from those of the first host.
///
/// ```
/// use iphost::count_up;
///
/// let hosts = count_up(&["10.0.0.1/24".parse()?, "fd00::1/64".parse()?], 3)?;
/// assert_eq!(hosts[2], ["10.0.0.3/24".parse()?, "fd00::3/64".parse()?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When one host would have more than 7 addresses, an address is given twice, a network has too few
/// addresses, or two hosts would have the same address.
pub fn count_up(first: &[HostAddress], count: u32) -> Result<Vec<Vec<HostAddress>>, AddressError> {
    check_all(first)?;
    let hosts: Vec<Vec<_>> = (0..count)
        .map(|number| {
            let next = |first: &HostAddress| {
                let too_few =
                    AddressError::TooFew { first: *first, hosts: count, available: number };
                first.plus(number).ok_or(too_few)
            };
            first.iter().map(next).collect()
        })
        .collect::<Result<_, _>>()?;
    let mut all: Vec<IpAddr> = hosts.iter().flatten().map(|address| address.address()).collect();
    all.sort_unstable();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(AddressError::Overlap { address: pair[0], hosts: count }),
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
    fn addresses_of_hosts_display_as_written() {
        for text in [
            "10.0.0.1/24",
            "10.0.0.0/31",
            "192.0.2.9/32",
            "fd00::1/64",
            "fd00::/127",
            "fd00::/128",
            "fe80::1/10",
            "1.2.3.4/0",
        ] {
            assert_eq!(
                text.parse::<HostAddress>().map(|address| address.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused() {
        use ParseAddressError::{Address, Broadcast, Form, Network, NotUnicast, Prefix};
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
            ("10.0.0.255/24", Broadcast),
            ("10.0.0.0/24", Network),
            ("10.0.0.4/30", Network),
            ("10.0.0.7/30", Broadcast),
            ("fd00::/64", Network),
            ("fe80::/10", Network),
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
        assert_eq!(
            (hosts.len(), last),
            (3, vec!["10.0.1.0/16".to_owned(), "fd00::1:1/64".to_owned()])
        );
        for (text, available) in
            [("10.0.0.250/24", 5), ("192.0.2.1/32", 1), ("2001:db8::1/64", 250)]
        {
            match count_up(&[parse(text)], 250) {
                Ok(hosts) => assert_eq!(hosts.len(), available, "{text}"),
                Err(error) => {
                    assert!(
                        error.to_string().ends_with(&format!(" {available}")),
                        "{text}: {error}"
                    );
                }
            }
        }
        let overlapping = [parse("10.0.0.1/24"), parse("10.0.0.9/24")];
        assert_eq!(count_up(&overlapping, 8).unwrap().len(), 8);
        let address = "10.0.0.9".parse().unwrap();
        assert_eq!(count_up(&overlapping, 9), Err(AddressError::Overlap { address, hosts: 9 }));
    }

    #[test]
    fn too_many_and_twice_the_same_are_refused() {
        let one: HostAddress = "10.0.0.1/24".parse().unwrap();
        let other: HostAddress = "10.0.0.1/16".parse().unwrap();
        assert!(check_all(&[one]).is_ok());
        assert_eq!(check_all(&[one, other]), Err(AddressError::Twice(one.address())));
        assert_eq!(
            check_all(&[one; MAX_ADDRESSES + 1]),
            Err(AddressError::TooMany(MAX_ADDRESSES + 1))
        );
        assert_eq!(MAX_ADDRESSES, 7, "as documented");
    }
}
