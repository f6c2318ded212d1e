//! What templates see of a lab: `node.r1.address`, `lan.office.prefix` and so on.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minijinja::value::{Enumerator, Object};
use minijinja::{Error, ErrorKind, State, Value, context};

use super::lans::Lans;
use super::nodes::{InterfaceDraft, NodeDraft, Nodes};

/// A node as a template sees it: its values, and the method `address("LAN")`.
#[derive(Debug)]
struct NodeView {
    values: Value,
    /// The name of each LAN with the address there.
    on_lans: Vec<(String, Option<String>)>,
}

impl Object for NodeView {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.values.get_item(key).ok().filter(|value| !value.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.values.try_iter() {
            Ok(keys) => Enumerator::Values(keys.collect()),
            Err(_) => Enumerator::Empty,
        }
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        if method != "address" {
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
        let [lan] = arguments else {
            return Err(Error::new(ErrorKind::InvalidOperation, "address(...) takes a LAN"));
        };
        let lan = lan.as_str().unwrap_or_default();
        match self.on_lans.iter().find(|(name, _)| name == lan) {
            Some((_, Some(address))) => Ok(Value::from(address.as_str())),
            Some((_, None)) => {
                let message = format!("it has no address on '{lan}'");
                Err(Error::new(ErrorKind::InvalidOperation, message))
            }
            None => {
                let known = self.on_lans.iter().map(|(name, _)| name);
                let message = format!("it is not on '{lan}'{}", port::suggest::hint(lan, known));
                Err(Error::new(ErrorKind::InvalidOperation, message))
            }
        }
    }
}

/// Gives the templates of all nodes what there is in the lab, and returns what those of checks see.
pub(super) fn share(base: &Value, lans: &Lans, nodes: &mut Nodes<'_>) -> Value {
    let views: Vec<Value> = nodes.list.iter().map(|node| node_view(node, lans)).collect();
    let mut members: Vec<Vec<Value>> = vec![Vec::new(); lans.list.len()];
    for node in &nodes.list {
        for interface in &node.interfaces {
            let mut view = vec![
                ("node", Value::from(node.name.as_str())),
                ("interface", Value::from(interface.name.as_str())),
            ];
            view.extend(address_values(&interface.addresses));
            members[interface.lan].push(Value::from_pairs(view));
        }
    }
    let lan_views = lans.list.iter().zip(members).map(|(lan, members)| {
        let mut view = vec![
            ("name", Value::from(lan.plan.name.as_str())),
            ("prefixes", lan.prefixes.iter().map(|(net, _)| net.to_string()).collect()),
            ("members", Value::from(members)),
        ];
        view.extend(lan.prefixes.first().map(|(net, _)| ("prefix", Value::from(net.to_string()))));
        (lan.plan.name.clone(), Value::from_pairs(view))
    });
    let lan_views = Value::from_pairs(lan_views);
    let named = nodes.list.iter().map(|node| node.name.clone()).zip(views.iter().cloned());
    let node_views = Value::from_pairs(named);
    let shared = context! { lan => lan_views, node => node_views, ..base.clone() };
    for (node, view) in nodes.list.iter_mut().zip(views) {
        // What a node is comes first: `name` is its own, and not a key of the lab.
        let own = std::mem::take(&mut node.scope);
        node.scope = context! { ..own, ..context! { ..view, ..shared.clone() } };
    }
    shared
}

fn node_view(node: &NodeDraft<'_>, lans: &Lans) -> Value {
    let lan_name = |interface: &InterfaceDraft| lans.list[interface.lan].plan.name.clone();
    let interfaces = node.interfaces.iter().map(|interface| {
        let mut view = vec![
            ("name", Value::from(interface.name.as_str())),
            ("lan", Value::from(lan_name(interface))),
        ];
        view.extend(interface.mac.as_ref().map(|(mac, _)| ("mac", Value::from(mac_text(*mac)))));
        view.extend(address_values(&interface.addresses));
        Value::from_pairs(view)
    });
    let all: Vec<IpNet> =
        node.interfaces.iter().flat_map(|interface| interface.addresses.clone()).collect();
    let mut values = vec![
        ("name", Value::from(node.name.as_str())),
        ("index", Value::from(node.index)),
        ("kind", Value::from(node.kind.word())),
        ("vars", node.vars.clone()),
        ("interfaces", interfaces.collect()),
    ];
    values.extend(node.on.as_deref().map(|on| ("on", Value::from(on))));
    values.extend(address_values(&all));
    let on_lans = node.interfaces.iter().map(|interface| {
        (lan_name(interface), first(&interface.addresses).map(|address| address.to_string()))
    });
    let on_lans = on_lans.collect();
    Value::from_object(NodeView { values: Value::from_pairs(values), on_lans })
}

/// Returns `address`, the first without its prefix length, and `addresses`, all with theirs. A node
/// without addresses has no `address`, so that a template that needs one is wrong.
fn address_values(addresses: &[IpNet]) -> Vec<(&'static str, Value)> {
    let texts = addresses.iter().map(ToString::to_string);
    let mut values = vec![("addresses", texts.map(Value::from).collect())];
    values.extend(first(addresses).map(|address| ("address", Value::from(address.to_string()))));
    values
}

/// Returns the address that a node is known by: the first of IPv4, or else of IPv6.
pub(super) fn first(addresses: &[IpNet]) -> Option<IpAddr> {
    let ipv4 = addresses.iter().find(|net| net.addr().is_ipv4());
    ipv4.or(addresses.first()).map(IpNet::addr)
}

/// Returns an Ethernet address as a text.
fn mac_text(mac: [u8; 6]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
