//! Who a host is on its network, on the command line: its name and Ethernet address, the routers that
//! it uses, and what it has from its network.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::anyhow;
use iphost::{HostAddress, Nic, Stack};
use port::LineBudget;
use serde::Serialize;
use shmbus::{MacAddr6, StationOptions};

use crate::bus_argument::BusArgument;
use crate::misuse::misuse;
use crate::nic_argument::NicArgument;
use crate::output;
use crate::process::called::called_as;
use crate::registry::{format_mac, parse_mac};

/// The longest name of a host; that of DNS.
const MAX_NAME: usize = 63;
/// The most addresses of a host that also has one by DHCP, besides its link-local one.
const MAX_BESIDE_DHCP: usize = 6;

/// The flags of `host` and `ping`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct HostNetwork {
    /// A router to other networks, IPv4 or IPv6; several times for several, of which the first that
    /// answers is used
    #[arg(long, value_name = "ADDR")]
    gateway: Vec<IpAddr>,

    /// The Ethernet address of the station [default: a random one]
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    mac: Option<MacAddr6>,

    /// The name of the station, which 'busctl show BUS' prints and a DHCP server hears
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<String>,

    /// Have addresses and routers from the network: IPv4 by DHCP, and what IPv6 routers advertise
    #[arg(long)]
    pub(crate) dhcp: bool,

    /// Have an IPv6 address of a prefix that a router advertises (SLAAC)
    #[arg(long)]
    pub(crate) slaac: bool,
}

impl HostNetwork {
    /// Returns whether the host has addresses from its network.
    pub(crate) fn is_automatic(&self) -> bool {
        self.dhcp || self.slaac
    }

    /// Returns whether a host with these addresses listens to IPv6 routers, where there may be some.
    pub(crate) fn hears_routers(&self, addresses: &[HostAddress]) -> bool {
        self.is_automatic() || addresses.iter().any(|own| own.address().is_ipv6())
    }

    /// Returns whether there may be a way from a host with these addresses at `bus` to other networks of
    /// the family of `target`.
    pub(crate) fn may_route(
        &self,
        bus: &NicArgument,
        addresses: &[HostAddress],
        target: IpAddr,
    ) -> bool {
        let v6 = target.is_ipv6();
        if bus.is_ip_mode() {
            return addresses.iter().any(|own| own.address().is_ipv6() == v6);
        }
        self.gateway.iter().any(|gateway| gateway.is_ipv6() == v6)
            || self.dhcp
            || (self.slaac && v6)
    }

    /// Checks the flags for `count` hosts of which the first has these addresses.
    ///
    /// # Errors
    /// When a router is not on a network of the host, or the BUS has a name or a MAC address itself.
    pub(crate) fn check(&self, bus: &NicArgument, addresses: &[HostAddress]) -> anyhow::Result<()> {
        if bus.is_ip_mode() {
            self.check_ip_mode()?;
        }
        for gateway in &self.gateway {
            let v6 = gateway.is_ipv6();
            let has_v6 = self.hears_routers(addresses);
            let is_link_local =
                matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
            let may_be_near = if v6 { self.is_automatic() } else { self.dhcp };
            let why = if gateway.is_multicast() || gateway.is_unspecified() {
                "it is not the address of a single host".to_owned()
            } else if addresses.iter().any(|own| own.address() == *gateway) {
                "it is the host's own address".to_owned()
            } else if let Some(why) = addresses.iter().find_map(|own| own.refuses(*gateway)) {
                why.to_string()
            } else if may_be_near
                || (is_link_local && has_v6)
                || addresses.iter().any(|own| own.reaches(*gateway))
            {
                continue;
            } else {
                "it is not on a network of the host".to_owned()
            };
            return Err(misuse(anyhow!("{gateway} cannot be the gateway: {why}")));
        }
        if self.dhcp && addresses.len() > MAX_BESIDE_DHCP {
            return Err(misuse(anyhow!(
                "a host with --dhcp has at most {MAX_BESIDE_DHCP} other addresses, not {}",
                addresses.len()
            )));
        }
        let (flag, what) = match bus {
            NicArgument::Memif(_) if self.name.is_some() => {
                ("--name", "a memif port is named by its key: memif:name=...")
            }
            NicArgument::Memif(spec) if self.mac.is_some() && spec.mac.is_some() => {
                ("--mac", "the port has the key mac= already; give one of them")
            }
            NicArgument::Bus(BusArgument::Interface(_)) if self.name.is_some() => {
                ("--name", "an interface has its own name; give the path of its bus instead")
            }
            NicArgument::Bus(BusArgument::Interface(_)) if self.mac.is_some() => {
                ("--mac", "an interface has its own address; 'busctl set IFNAME mac=' changes it")
            }
            _ => return Ok(()),
        };
        Err(misuse(anyhow!("{flag} cannot be used there: {what}")))
    }

    /// Refuses what is of Ethernet, for a host whose peer is the way to all others.
    fn check_ip_mode(&self) -> anyhow::Result<()> {
        let (flag, what) = if !self.gateway.is_empty() {
            ("--gateway", "its peer is the way to all other hosts")
        } else if self.is_automatic() {
            ("--dhcp and --slaac", "a host there has the addresses that it is given")
        } else if self.mac.is_some() {
            ("--mac", "IP packets alone have no Ethernet addresses")
        } else {
            return Ok(());
        };
        Err(misuse(anyhow!("{flag} cannot be used with mode=ip: {what}")))
    }

    /// Returns the options of the station of a host, numbered from 0 among `count`. The names of
    /// several hosts end with their numbers, and their MAC addresses count up.
    ///
    /// # Errors
    /// When there are too few MAC addresses of single stations after the first.
    pub(crate) fn station(&self, number: u32, count: u32) -> anyhow::Result<StationOptions> {
        let name = self.station_name(number, count).unwrap_or_else(called_as);
        let mut options = StationOptions::new().name(name);
        if let Some(mac) = self.mac {
            options = options.mac(plus(mac, number).ok_or_else(|| {
                misuse(anyhow!("{count} hosts need more MAC addresses than follow {mac}"))
            })?);
        }
        Ok(options)
    }

    /// Returns the MAC address that is given.
    pub(crate) fn mac(&self) -> Option<MacAddr6> {
        self.mac
    }

    /// Lets a host use its routers, and have addresses from its network. `hears_routers` is for
    /// IPv6.
    pub(crate) fn apply<N: Nic>(
        &self,
        stack: &mut Stack<N>,
        (number, count): (u32, u32),
        hears_routers: bool,
    ) {
        stack.name_gateways(&self.gateway);
        if hears_routers {
            stack.accept_router_advertisements();
        }
        if self.dhcp {
            stack.use_dhcp(self.station_name(number, count).as_deref());
        }
    }

    /// Returns whether a host has the addresses that it is to have from its network.
    pub(crate) fn is_done<N: Nic>(&self, stack: &Stack<N>) -> bool {
        (!self.dhcp || stack.is_leased()) && (!self.slaac || stack.has_made_address())
    }

    fn station_name(&self, number: u32, count: u32) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(if count == 1 { name.clone() } else { format!("{name}-{}", number + 1) })
    }
}

/// Prints what has changed of the addresses and routers of hosts. A neighbor can make any number of
/// changes, so the lines about each host are limited.
#[derive(Debug, Default)]
pub(crate) struct ChangeReports {
    hosts: HashMap<[u8; 6], ChangeReport>,
}

/// The lines about one host.
#[derive(Debug, Default)]
struct ChangeReport {
    budget: LineBudget,
    /// Whether lines were left out since the last.
    is_cut: bool,
}

impl ChangeReports {
    /// Prints what has changed since the last call.
    pub(crate) fn report<N: Nic>(&mut self, stack: &mut Stack<N>) {
        while let Some(change) = stack.next_change() {
            let report = self.hosts.entry(stack.mac()).or_default();
            if let Some(line) = report.line(&change.to_string(), Instant::now()) {
                let host = format_mac(stack.mac().into());
                output::note(&format!("host {host}: {line}"));
            }
        }
    }
}

impl ChangeReport {
    /// Returns what is printed of a change at `now`.
    fn line(&mut self, change: &str, now: Instant) -> Option<String> {
        if self.budget.take(now) {
            self.is_cut = false;
            return Some(change.to_owned());
        }
        let is_first = !mem::replace(&mut self.is_cut, true);
        is_first.then(|| "changes come too fast; one every 10 s is printed".to_owned())
    }
}

/// What a host has from its network, for `--json`.
#[derive(Serialize)]
pub(crate) struct HostView {
    mac: String,
    addresses: Vec<String>,
    gateways: Vec<IpAddr>,
}

impl HostView {
    pub(crate) fn of<N: Nic>(stack: &Stack<N>) -> Self {
        Self {
            mac: format_mac(stack.mac().into()),
            addresses: stack.addresses().map(|address| address.to_string()).collect(),
            gateways: stack.default_routers().collect(),
        }
    }
}

/// Why a text cannot be the name of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NameError;

impl std::error::Error for NameError {}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name is up to {MAX_NAME} letters, digits, '-', '_' and '.'")
    }
}

fn parse_name(text: &str) -> Result<String, NameError> {
    is_host_name(text, MAX_NAME).then(|| text.to_owned()).ok_or(NameError)
}

/// Returns whether a text of at most `max` bytes consists of what names of hosts consist of.
pub(crate) fn is_host_name(text: &str, max: usize) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=max).contains(&text.len()) && text.bytes().all(is_good)
}

/// Returns the MAC address that is greater by `number`, if a single station can have it.
fn plus(mac: MacAddr6, number: u32) -> Option<MacAddr6> {
    let mut bytes = [0; 8];
    bytes[2..].copy_from_slice(mac.as_bytes());
    let sum = u64::from_be_bytes(bytes).checked_add(number.into())?.to_be_bytes();
    let [0, 0, bytes @ ..] = sum else { return None };
    let mac = MacAddr6::from(bytes);
    (!mac.is_multicast()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_about_a_host_are_limited() {
        let (mut report, begin) = (ChangeReport::default(), Instant::now());
        let at = |millis| begin + Duration::from_millis(millis);
        let lines: Vec<_> =
            (0..60_000).filter_map(|millis| report.line("a router", at(millis))).collect();
        // 32 at once, one every 10 s, and that others are left out.
        assert!((38..=50).contains(&lines.len()), "{}", lines.len());
        assert!(lines[32].starts_with("changes come too fast"), "{}", lines[32]);
    }

    #[test]
    fn hosts_have_names_and_mac_addresses_in_order() {
        let mac = |text: &str| text.parse::<MacAddr6>().unwrap();
        assert_eq!(plus(mac("b2:a0:00:00:00:ff"), 2), Some(mac("b2:a0:00:00:01:01")));
        assert_eq!(plus(mac("b2:ff:ff:ff:ff:ff"), 1), None, "a group");
        assert_eq!(plus(mac("fe:ff:ff:ff:ff:ff"), u32::MAX), None);
        for text in ["", "two words", "a:b", &"x".repeat(64)] {
            assert_eq!(parse_name(text), Err(NameError), "{text}");
        }
        // Ports are known by a mark, and not by their names.
        for text in ["web-1.lab", "tap0", "business", "socket_test"] {
            assert_eq!(parse_name(text), Ok(text.to_owned()));
        }
    }
}
