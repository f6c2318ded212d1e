//! Addresses of interfaces: those that a file gives, and automatic ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::IpNet;

use super::lans::{LanDraft, Lans};
use super::nodes::{InterfaceDraft, NodeDraft, Nodes};
use super::reader::{Reader, Text};
use super::values;

/// The smallest MTU that IPv6 works with.
const MIN_IPV6_MTU: u32 = 1280;

/// Gives all interfaces their addresses, and adds what is wrong with them.
pub(super) fn assign(reader: &Reader<'_>, lans: &Lans, nodes: &mut Nodes<'_>) {
    for node in &mut nodes.list {
        reader.found.set_repeating(node.index > 1);
        distribute(reader, node);
        for interface in &mut node.interfaces {
            let lan = &lans.list[interface.lan];
            let given = std::mem::take(&mut interface.given);
            for (address, span) in given {
                match complete(address, lan) {
                    Ok(net) => {
                        interface.addresses.push(net);
                        interface.address_span = Some(span);
                    }
                    Err(why) => reader.found.add(&span, why),
                }
            }
        }
        reader.found.set_repeating(false);
    }
    let reserved = reserved(nodes);
    let mut on_lan: Vec<Vec<(usize, usize)>> = vec![Vec::new(); lans.list.len()];
    for (node, draft) in nodes.list.iter().enumerate() {
        for (number, interface) in draft.interfaces.iter().enumerate() {
            on_lan[interface.lan].push((node, number));
        }
    }
    for (lan, members) in lans.list.iter().zip(&on_lan) {
        number(reader, lan, members, nodes, &reserved);
        find_duplicates(reader, lan, members, nodes);
    }
    for interface in nodes.list.iter().flat_map(|node| &node.interfaces) {
        let lan = &lans.list[interface.lan];
        let mtu = interface.mtu.as_ref().map(|(mtu, _)| *mtu).or(lan.mtu);
        let has_ipv6 = interface.addresses.iter().any(|net| net.addr().is_ipv6());
        if let Some(mtu) = mtu.filter(|mtu| has_ipv6 && *mtu < MIN_IPV6_MTU) {
            let span = interface.mtu.as_ref().map_or(&interface.span, |(_, span)| span);
            let message =
                format!("IPv6 needs an MTU of {MIN_IPV6_MTU}, and '{}' has {mtu}", interface.name);
            reader.found.add(span, message);
        }
    }
}

/// Gives the addresses of a node to its interfaces: the first IPv4 address to the first, the second
/// to the second, and so for IPv6; all to the only one.
fn distribute(reader: &Reader<'_>, node: &mut NodeDraft<'_>) {
    if !node.kind.has_addresses() {
        return;
    }
    let cells = ["address", "addresses"].iter().filter_map(|key| node.layers.get(key));
    let texts: Vec<Text> = cells.flat_map(|cell| reader.texts(cell, &node.scope)).collect();
    let mut next = [0, 0];
    for (text, span) in texts {
        let text = text.trim();
        if text == "none" {
            node.interfaces.iter_mut().for_each(|interface| interface.is_bare = true);
            continue;
        }
        let (name, text) = match text.split_once('=') {
            Some((name, address)) => (Some(name.trim()), address.trim()),
            None => (None, text),
        };
        let address = match values::address(text) {
            Ok(address) => address,
            Err(why) => {
                reader.found.add(&span, why);
                continue;
            }
        };
        let number = match name {
            Some(name) => {
                let number = node.interfaces.iter().position(|interface| interface.name == name);
                if number.is_none() {
                    let known = node.interfaces.iter().map(|interface| &interface.name);
                    let message = format!("{} has no interface '{name}'", node.name);
                    reader.found.add_mistyped(&span, message, name, known);
                    continue;
                }
                number
            }
            None if node.interfaces.len() == 1 => Some(0),
            None => {
                let next = &mut next[usize::from(address.0.is_ipv6())];
                *next += 1;
                Some(*next - 1)
            }
        };
        match number.and_then(|number| node.interfaces.get_mut(number)) {
            Some(interface) => interface.given.push((address, span)),
            None => reader.found.add(
                &span,
                format!("{} has no interface left for {}; name its LANs", node.name, address.0),
            ),
        }
    }
}

/// Returns an address with its prefix length.
fn complete((address, length): (IpAddr, Option<u8>), lan: &LanDraft) -> Result<IpNet, String> {
    let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let prefixes = lan.prefixes.iter().map(|(net, _)| net);
    let mut same = prefixes.filter(|net| net.addr().is_ipv4() == address.is_ipv4()).peekable();
    let has_prefix = same.peek().is_some();
    let containing = same.find(|net| net.contains(&address));
    let name = &lan.plan.name;
    if has_prefix && containing.is_none() && !is_link_local {
        return Err(format!(
            "{address} is in no network of '{name}'; add its network to the prefixes of '{name}'"
        ));
    }
    let length = length.or_else(|| containing.map(IpNet::prefix_len));
    let length = length.or_else(|| is_link_local.then_some(64)).ok_or_else(|| {
        format!(
            "{address} needs a prefix length, as in {address}/24, because '{name}' has no prefix"
        )
    })?;
    let net = IpNet::new(address, length).map_err(|error| format!("{address}: {error}"))?;
    if let IpNet::V4(net) = net {
        let (first, last) = (net.network(), net.broadcast());
        if net.prefix_len() < 31 && (net.addr() == first || net.addr() == last) {
            return Err(format!(
                "{net} is not the address of one host: the network is {first} to {last}"
            ));
        }
    }
    Ok(net)
}

/// Returns the addresses of routers and name servers that are written plainly, which no interface
/// gets by chance.
fn reserved(nodes: &Nodes<'_>) -> BTreeSet<IpAddr> {
    let keys = ["gateway", "dns"];
    let cells =
        nodes.list.iter().flat_map(|node| keys.iter().filter_map(|key| node.layers.get(key)));
    let plain = |cell: &super::syntax::Cell<'_>| -> Vec<IpAddr> {
        let one = cell.get_ref().as_str().into_iter();
        let many = cell.get_ref().as_array().into_iter().flatten();
        let texts = one.chain(many.filter_map(|cell| cell.get_ref().as_str()));
        texts.filter_map(|text| text.parse().ok()).collect()
    };
    cells.flat_map(plain).collect()
}

/// Gives the interfaces on a LAN automatic addresses, in the order of the nodes.
fn number(
    reader: &Reader<'_>,
    lan: &LanDraft,
    members: &[(usize, usize)],
    nodes: &mut Nodes<'_>,
    reserved: &BTreeSet<IpAddr>,
) {
    for is_ipv6 in [false, true] {
        let mut prefixes = lan.prefixes.iter();
        let Some((net, span)) = prefixes.find(|(net, _)| net.addr().is_ipv6() == is_ipv6) else {
            continue;
        };
        let mut taken = reserved.clone();
        for (node, position) in members {
            let interface = &nodes.list[*node].interfaces[*position];
            taken.extend(interface.addresses.iter().map(IpNet::addr));
        }
        let mut candidate = 0;
        for (node, position) in members {
            let node = &mut nodes.list[*node];
            if !node.kind.has_addresses() || is_configured(reader, node, is_ipv6) {
                continue;
            }
            let interface = &mut node.interfaces[*position];
            let has_one = interface.addresses.iter().any(|net| net.addr().is_ipv6() == is_ipv6);
            if interface.is_bare || has_one {
                continue;
            }
            let Some(address) = free_address(*net, &mut candidate, &taken) else {
                let message =
                    format!("{net} has no room for all interfaces on '{}'", lan.plan.name);
                reader.found.add(span, message);
                break;
            };
            interface.addresses.extend(IpNet::new(address, net.prefix_len()));
        }
    }
}

/// Returns whether a node gets addresses of a family from the network.
fn is_configured(reader: &Reader<'_>, node: &NodeDraft<'_>, is_ipv6: bool) -> bool {
    let key = if is_ipv6 { "slaac" } else { "dhcp" };
    node.layers.get(key).and_then(|cell| reader.bool(cell, &node.scope)).unwrap_or(false)
}

/// Returns the next address of a network that is not taken.
fn free_address(net: IpNet, candidate: &mut u128, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    loop {
        let address = host(net, *candidate)?;
        *candidate += 1;
        if !taken.contains(&address) {
            return Some(address);
        }
    }
}

/// Returns the host with a number, from 0, in a network.
fn host(net: IpNet, number: u128) -> Option<IpAddr> {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    // In a network of two, both are hosts; else the first address is the network's.
    let offset = if bits <= 1 { number } else { number.checked_add(1)? };
    let size = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
    let end = if bits > 1 && net.addr().is_ipv4() { size - 1 } else { size };
    if offset >= end {
        return None;
    }
    Some(match net.network() {
        IpAddr::V4(first) => {
            let offset = u32::try_from(offset).ok()?;
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().checked_add(offset)?))
        }
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().checked_add(offset)?)),
    })
}

/// Adds the addresses that two interfaces on a LAN have.
fn find_duplicates(
    reader: &Reader<'_>,
    lan: &LanDraft,
    members: &[(usize, usize)],
    nodes: &Nodes<'_>,
) {
    let mut ips: BTreeMap<IpAddr, &str> = BTreeMap::new();
    let mut macs: BTreeMap<[u8; 6], &str> = BTreeMap::new();
    for (node, number) in members {
        let node = &nodes.list[*node];
        let interface = &node.interfaces[*number];
        for net in &interface.addresses {
            if let Some(other) = ips.insert(net.addr(), &node.name) {
                let message = format!(
                    "{} and {other} both have the address {} on '{}'",
                    node.name,
                    net.addr(),
                    lan.plan.name
                );
                reader.found.add(place(node, interface), message);
            }
        }
        if let Some((mac, span)) = &interface.mac
            && let Some(other) = macs.insert(*mac, &node.name)
        {
            let message = format!(
                "{} and {other} both have this Ethernet address on '{}'",
                node.name, lan.plan.name
            );
            reader.found.add(span, message);
        }
    }
}

/// Returns where the file gives an interface its addresses, as nearly as is known.
fn place<'a>(node: &'a NodeDraft<'_>, interface: &'a InterfaceDraft) -> &'a Range<usize> {
    interface.address_span.as_ref().unwrap_or(&node.span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_counted_without_network_and_broadcast() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let hosts = |text: &str| -> Vec<String> {
            (0..5).map_while(|number| host(net(text), number)).map(|ip| ip.to_string()).collect()
        };
        assert_eq!(hosts("10.0.0.0/30"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(hosts("10.0.0.0/31"), ["10.0.0.0", "10.0.0.1"]);
        assert_eq!(hosts("10.0.0.7/32"), ["10.0.0.7"]);
        assert_eq!(hosts("fd00::/126"), ["fd00::1", "fd00::2", "fd00::3"]);
        assert_eq!(hosts("0.0.0.0/0").len(), 5);
        assert_eq!(hosts("::/0").len(), 5);
        assert_eq!(hosts("255.255.255.254/31"), ["255.255.255.254", "255.255.255.255"]);
    }

    #[test]
    fn taken_addresses_are_skipped() {
        let taken = BTreeSet::from(["10.0.0.1".parse().unwrap(), "10.0.0.3".parse().unwrap()]);
        let mut next = 0;
        let mut free = || free_address("10.0.0.0/29".parse().unwrap(), &mut next, &taken);
        let addresses: Vec<String> =
            std::iter::from_fn(&mut free).map(|ip| ip.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    }
}
