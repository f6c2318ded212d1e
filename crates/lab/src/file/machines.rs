//! The hosts of a lab file, which run a part each, and what joins the parts of their LANs.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use minijinja::Value;
use port::PortSpec;
use port::vxlan::UDP_PORT;
use toml::de::DeTable;

use super::lans::{LanDraft, Lans};
use super::nodes::Nodes;
use super::reader::{Layers, Reader, Text, in_order};
use super::values;
use crate::parts;
use crate::plan::{Machine, Plan, Trunk, Via};

/// The most hosts.
const MAX_MACHINES: usize = 1_000;
/// The most packets of 1,500 bytes carry over VXLAN, by IPv4 and by IPv6.
const MTU_OVER_IPV4: u32 = 1_450;
const MTU_OVER_IPV6: u32 = 1_430;

/// The hosts, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Machines {
    pub(super) list: Vec<Machine>,
    /// Where each name is.
    spans: Vec<Range<usize>>,
}

impl Machines {
    /// Reads all hosts of a file.
    pub(super) fn read(reader: &Reader<'_>, file: &DeTable<'_>, base: &Value) -> Self {
        let mut machines = Self::default();
        let table = file.get("host").and_then(|cell| cell.get_ref().as_table());
        for (name, span, cell) in table.map(in_order).unwrap_or_default() {
            let Some(table) = cell.get_ref().as_table() else { continue };
            if machines.list.len() >= MAX_MACHINES {
                reader.found.add(&span, format!("a lab has at most {MAX_MACHINES} hosts"));
                break;
            }
            if let Err(why) = values::check_host_name(name) {
                reader.found.add(&span, why);
                continue;
            }
            let machine = machines.read_one(reader, name, table, base);
            machines.list.push(machine);
            machines.spans.push(span);
        }
        machines
    }

    fn read_one(
        &self,
        reader: &Reader<'_>,
        name: &str,
        table: &DeTable<'_>,
        base: &Value,
    ) -> Machine {
        let keys = Layers::new([table]);
        let address = keys
            .get("address")
            .and_then(|cell| Some((reader.parsed(cell, base, socket_address)?, cell.span())));
        if let Some((address, span)) = &address {
            self.check_address(reader, *address, span);
        }
        let endpoints = |key: &str| -> Vec<String> {
            let texts = keys.get(key).map(|cell| reader.texts(cell, base)).unwrap_or_default();
            texts.into_iter().filter_map(|text| endpoint(reader, text)).collect()
        };
        let config = keys.get("config").and_then(|cell| {
            reader.parsed(cell, base, |text| match text {
                "" => Err("this is the path of a file".to_owned()),
                text => Ok(reader.source.resolve(text)),
            })
        });
        Machine {
            name: name.to_owned(),
            address: address.map(|(address, _)| address),
            connect: endpoints("connect"),
            listen: endpoints("listen"),
            config,
        }
    }

    /// Adds what is wrong with an address beside those of the hosts before.
    fn check_address(&self, reader: &Reader<'_>, address: SocketAddr, span: &Range<usize>) {
        let others = self.list.iter().filter_map(|other| Some((other, other.address?)));
        for (other, theirs) in others {
            if theirs.ip() == address.ip() {
                let message = format!("{} is the address of {}, too", address.ip(), other.name);
                return reader.found.add(span, message);
            }
            if theirs.is_ipv4() != address.is_ipv4() {
                let message = format!(
                    "the addresses of hosts are all IPv4, or all IPv6, and {} has {}",
                    other.name,
                    theirs.ip()
                );
                return reader.found.add(span, message);
            }
        }
    }

    /// Gives all nodes their hosts, and adds those that have none.
    pub(super) fn place(&self, reader: &Reader<'_>, nodes: &mut Nodes<'_>) {
        for node in &mut nodes.list {
            reader.found.set_repeating(node.index > 1);
            let names = || self.list.iter().map(|machine| machine.name.as_str());
            let text = node.layers.get("on").and_then(|cell| {
                let text = reader.text(cell, &node.scope)?;
                Some((text.trim().to_owned(), cell.span()))
            });
            match text {
                Some((name, _)) if names().any(|known| known == name) => node.on = Some(name),
                Some((name, span)) => {
                    let message = format!("there is no host '{name}': [host.{name}] makes one");
                    reader.found.add_mistyped(&span, message, &name, names());
                }
                None if self.list.is_empty() || node.layers.get("on").is_some() => {}
                None => {
                    let all: Vec<&str> = names().collect();
                    let message = format!(
                        "{} needs 'on', the host that runs it: {}",
                        node.name,
                        all.join(", ")
                    );
                    reader.found.add(&node.span, message);
                }
            }
            reader.found.set_repeating(false);
        }
    }

    /// Joins the parts of each LAN whose nodes are on several hosts.
    pub(super) fn join(&self, reader: &Reader<'_>, lab: &str, lans: &mut Lans, nodes: &Nodes<'_>) {
        let mut on: Vec<BTreeSet<&str>> = vec![BTreeSet::new(); lans.list.len()];
        for node in &nodes.list {
            for interface in &node.interfaces {
                on[interface.lan].extend(node.on.as_deref());
            }
        }
        let mut numbers = BTreeSet::new();
        let mut offset = 0;
        for (lan, on) in lans.list.iter_mut().zip(on) {
            if on.len() < 2 {
                continue;
            }
            let all = self.list.iter().filter(|machine| on.contains(machine.name.as_str()));
            let all: Vec<&Machine> = all.collect();
            let Some(via) = via(reader, lan, &all) else { continue };
            let mut tries = (0_u32..).map(|salt| parts::vni(lab, &lan.plan.name, salt));
            let vni = tries.find(|vni| numbers.insert(*vni)).unwrap_or_default();
            let is_over_ipv4 =
                all.iter().all(|machine| machine.address.is_some_and(|a| a.is_ipv4()));
            // By Zenoh the addresses need not be known.
            let mtu = if is_over_ipv4 { MTU_OVER_IPV4 } else { MTU_OVER_IPV6 };
            lan.mtu = lan.mtu.or(Some(mtu));
            lan.plan.trunk = Some(Trunk {
                name: parts::trunk_name(lab, &lan.plan.name, vni),
                via,
                vni,
                offset,
                machines: all.iter().map(|machine| machine.name.clone()).collect(),
            });
            // There are at most 10,000 LANs.
            offset += u16::from(via == Via::Vxlan);
        }
    }

    /// Adds what ports of trunks do not take.
    pub(super) fn check_ports(&self, reader: &Reader<'_>, plan: &Plan) {
        for (machine, span) in self.list.iter().zip(&self.spans) {
            for lan in &plan.lans {
                let Some(port) = parts::trunk_port(plan, lan, &machine.name) else { continue };
                let why = match port {
                    Ok(port) => match port.parse::<PortSpec>() {
                        Ok(_) => continue,
                        Err(error) => error.to_string(),
                    },
                    Err(why) => why,
                };
                reader
                    .found
                    .add(span, format!("the part of '{}' on {}: {why}", lan.name, machine.name));
                // The others have the same problem.
                break;
            }
        }
    }
}

/// Returns how the parts of a LAN are joined: as it says, or by VXLAN where all its hosts have
/// addresses.
fn via(reader: &Reader<'_>, lan: &LanDraft, all: &[&Machine]) -> Option<Via> {
    let without = all.iter().find(|machine| machine.address.is_none());
    match (&lan.via, without) {
        (Some((Via::Trunk, _)), _) | (None, Some(_)) => Some(Via::Trunk),
        (Some((Via::Vxlan, span)), Some(without)) => {
            let message = format!(
                "'{}' has nodes on {}, which has no 'address'; with via = \"trunk\" it needs none",
                lan.plan.name, without.name
            );
            reader.found.add(span, message);
            None
        }
        (_, None) => Some(Via::Vxlan),
    }
}

/// Reads the address of a host, with a UDP port or without.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, UDP_PORT)),
        Err(_) => text.parse().ok(),
    };
    let is_of_one =
        |at: &SocketAddr| !at.ip().is_unspecified() && !at.ip().is_multicast() && at.port() != 0;
    address.filter(is_of_one).ok_or_else(|| {
        format!(
            "'{text}' is no address of a host: one is like 192.0.2.1, 2001:db8::1, or with a UDP \
             port as 192.0.2.1:4789 or [2001:db8::1]:4789"
        )
    })
}

/// Reads one of Zenoh's endpoints.
fn endpoint(reader: &Reader<'_>, (text, span): Text) -> Option<String> {
    let text = text.trim();
    let has_parts = text
        .split_once('/')
        .is_some_and(|(protocol, place)| !protocol.is_empty() && !place.is_empty());
    if !has_parts || text.contains([',', ' ']) {
        let message = format!("'{text}' is no endpoint of Zenoh: one is like tcp/192.0.2.1:7447");
        reader.found.add(&span, message);
        return None;
    }
    Some(text.to_owned())
}
