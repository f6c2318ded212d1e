//! The nodes of a lab file, with their interfaces, before anything of other nodes is known.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use minijinja::{Value, context};
use toml::de::DeTable;

use super::instances::{Instance, instances};
use super::lans::{Lans, MAX_MTU};
use super::reader::{Layers, Reader, Text, in_order};
use super::shape::{KindName, NODE_KEYS};
use super::syntax::Cell;
use super::values;

/// The most nodes.
const MAX_NODES: usize = 10_000;

/// The most interfaces of all nodes, and of one.
const MAX_INTERFACES: usize = 100_000;
const MAX_INTERFACES_OF_NODE: usize = 250;

/// An address as a file gives it, with its prefix length or without.
pub(super) type GivenAddress = (IpAddr, Option<u8>);

/// An interface while a file is read.
#[derive(Debug)]
pub(super) struct InterfaceDraft {
    /// The number of its LAN.
    pub(super) lan: usize,
    /// Where the file says that it is there.
    pub(super) span: Range<usize>,
    pub(super) name: String,
    /// Its Ethernet address, unless it is computed.
    pub(super) mac: Option<([u8; 6], Range<usize>)>,
    pub(super) mtu: Option<(u32, Range<usize>)>,
    /// The addresses that the file gives it, with or without a prefix length.
    pub(super) given: Vec<(GivenAddress, Range<usize>)>,
    /// Where its last address is given.
    pub(super) address_span: Option<Range<usize>>,
    /// Whether it gets no automatic addresses.
    pub(super) is_bare: bool,
    /// All its addresses, in the end.
    pub(super) addresses: Vec<IpNet>,
    pub(super) impair: Option<String>,
    pub(super) keys: String,
}

/// A node while a file is read.
#[derive(Debug)]
pub(super) struct NodeDraft<'f> {
    pub(super) name: String,
    pub(super) index: u32,
    /// Where its name is.
    pub(super) span: Range<usize>,
    /// The host that runs it.
    pub(super) on: Option<String>,
    pub(super) kind: KindName,
    pub(super) layers: Layers<'f>,
    /// What its templates see.
    pub(super) scope: Value,
    /// Its variables, which are in the scope, too.
    pub(super) vars: Value,
    pub(super) interfaces: Vec<InterfaceDraft>,
}

/// The nodes, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Nodes<'f> {
    pub(super) list: Vec<NodeDraft<'f>>,
    /// The nodes that a name, of a node, a counted table or a group, stands for.
    names: BTreeMap<String, Vec<usize>>,
}

impl<'f> Nodes<'f> {
    /// Returns the numbers of the nodes that a name stands for, or none with a problem added.
    pub(super) fn expect(&self, reader: &Reader<'_>, (name, span): &Text) -> &[usize] {
        let Some(nodes) = self.names.get(name) else {
            let message = format!("there is no node or group '{name}'");
            reader.found.add_mistyped(span, message, name, self.names.keys());
            return &[];
        };
        nodes
    }

    /// Returns the number of a node, or `None` with a problem added.
    pub(super) fn expect_one(&self, reader: &Reader<'_>, text: &Text) -> Option<usize> {
        match self.expect(reader, text) {
            [] => None,
            [node] => Some(*node),
            nodes => {
                let (name, span) = text;
                let message = format!("'{name}' stands for {} nodes; here is one", nodes.len());
                reader.found.add(span, message);
                None
            }
        }
    }

    /// Returns the nodes that a name stands for, without a problem.
    pub(super) fn find(&self, name: &str) -> Option<&[usize]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// Reads all nodes of a file.
    pub(super) fn read(
        reader: &Reader<'_>,
        file: &'f DeTable<'f>,
        base: &Value,
        lans: &Lans,
    ) -> Self {
        let mut nodes = Self::default();
        let mut interfaces = 0;
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut counted: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for group in section(file, "group").into_iter().flat_map(DeTable::keys) {
            groups.insert(group.get_ref().to_string(), Vec::new());
        }
        for (key, span, cell) in section(file, "node").map(in_order).unwrap_or_default() {
            let Some(table) = cell.get_ref().as_table() else { continue };
            for instance in instances(reader, key, &span, table, base, values::check_host_name) {
                let number = nodes.list.len();
                if number >= MAX_NODES {
                    reader.found.add(&span, format!("a lab has at most {MAX_NODES} nodes"));
                    return nodes;
                }
                if nodes.names.contains_key(&instance.name) {
                    let message = format!("'{}' is the name of another node", instance.name);
                    reader.found.add(&span, message);
                    continue;
                }
                reader.found.set_repeating(instance.index > 1);
                let draft = draft(reader, file, table, instance, &span, lans, &mut groups, number);
                reader.found.set_repeating(false);
                interfaces += draft.interfaces.len();
                if interfaces > MAX_INTERFACES {
                    let message = format!("a lab has at most {MAX_INTERFACES} interfaces");
                    reader.found.add(&span, message);
                    return nodes;
                }
                nodes.names.insert(draft.name.clone(), vec![number]);
                counted.entry(key.to_owned()).or_default().push(number);
                nodes.list.push(draft);
            }
        }
        for (name, members) in counted.into_iter().chain(groups) {
            nodes.names.entry(name).or_insert(members);
        }
        nodes
    }

    /// Adds the interfaces that links name in `ends`.
    pub(super) fn connect(&mut self, reader: &Reader<'_>, lans: &Lans) {
        for (lan, draft) in lans.list.iter().enumerate() {
            for (text, span) in &draft.ends {
                let (name, interface) = match text.split_once(':') {
                    Some((name, interface)) => (name, Some(interface)),
                    None => (text.as_str(), None),
                };
                let Some(node) = self.expect_one(reader, &(name.to_owned(), span.clone())) else {
                    continue;
                };
                let node = &mut self.list[node];
                if node.interfaces.len() >= MAX_INTERFACES_OF_NODE {
                    too_many_interfaces(reader, span);
                    continue;
                }
                let name = interface.map_or_else(|| node.free_name(), str::to_owned);
                if let Err(why) = values::check_interface_name(&name) {
                    reader.found.add(span, why);
                    continue;
                }
                node.interfaces.push(InterfaceDraft::new(lan, span.clone(), name));
            }
        }
    }
}

impl InterfaceDraft {
    fn new(lan: usize, span: Range<usize>, name: String) -> Self {
        Self {
            lan,
            span,
            name,
            mac: None,
            mtu: None,
            given: Vec::new(),
            address_span: None,
            is_bare: false,
            addresses: Vec::new(),
            impair: None,
            keys: String::new(),
        }
    }
}

impl NodeDraft<'_> {
    /// Returns the first of `eth0`, `eth1` and so on that no interface has, from the number of
    /// interfaces on.
    fn free_name(&self) -> String {
        free_name(&self.interfaces)
    }
}

fn free_name(interfaces: &[InterfaceDraft]) -> String {
    let mut names = (interfaces.len()..).map(|number| format!("eth{number}"));
    let is_free = |name: &String| interfaces.iter().all(|interface| interface.name != *name);
    names.find(is_free).unwrap_or_default()
}

/// Returns a table of the file.
fn section<'f>(file: &'f DeTable<'f>, name: &str) -> Option<&'f DeTable<'f>> {
    file.get(name)?.get_ref().as_table()
}

/// Reads one node.
#[expect(clippy::too_many_arguments, reason = "all of it is what a node may refer to")]
fn draft<'f>(
    reader: &Reader<'_>,
    file: &'f DeTable<'f>,
    table: &'f DeTable<'f>,
    instance: Instance,
    span: &Range<usize>,
    lans: &Lans,
    groups: &mut BTreeMap<String, Vec<usize>>,
    number: usize,
) -> NodeDraft<'f> {
    let kind = read_kind(reader, table, &instance.scope);
    let mut tables = Vec::new();
    if let Some(defaults) = section(file, "defaults").and_then(|all| section(all, kind.word())) {
        tables.push(defaults);
    }
    for cell in ["group", "groups"].iter().filter_map(|key| table.get(*key)) {
        for (name, span) in reader.texts(cell, &instance.scope) {
            if let Some(members) = groups.get_mut(&name) {
                members.push(number);
            } else {
                let message = format!("there is no group '{name}'");
                reader.found.add_mistyped(&span, message, &name, groups.keys());
            }
            let group = section(file, "group").and_then(|all| section(all, &name));
            tables.extend(group);
        }
    }
    tables.push(table);
    let layers = Layers::new(tables);
    check_keys(reader, &layers, kind);
    let vars = vars(reader, &layers, &instance.scope);
    let scope = context! { vars => vars.clone(), ..instance.scope };
    let interfaces = read_interfaces(reader, &layers, &scope, lans, kind, span);
    NodeDraft {
        name: instance.name,
        index: instance.index,
        span: span.clone(),
        on: None,
        kind,
        layers,
        scope,
        vars,
        interfaces,
    }
}

fn read_kind(reader: &Reader<'_>, table: &DeTable<'_>, scope: &Value) -> KindName {
    let find = |text: &str| KindName::ALL.iter().find(|(word, _)| *word == text);
    let read = |cell: &Cell<'_>| {
        let text = cell.get_ref().is_str().then(|| reader.text(cell, scope)).flatten()?;
        // A word that is no template has been checked.
        find(&text).or_else(|| {
            if !reader.found.is_known(&cell.span()) {
                reader.found.add(&cell.span(), format!("no kind of node is '{text}'"));
            }
            None
        })
    };
    table.get("kind").and_then(read).map_or(KindName::Run, |(_, kind)| *kind)
}

/// Adds the keys that nodes of this kind do not have.
fn check_keys(reader: &Reader<'_>, layers: &Layers<'_>, kind: KindName) {
    for (name, span) in layers.keys() {
        let Some(key) = NODE_KEYS.iter().find(|key| key.name == name) else { continue };
        if !key.kinds.is_empty() && !key.kinds.contains(&kind) {
            let kinds: Vec<&str> = key.kinds.iter().map(|kind| kind.word()).collect();
            let message = format!(
                "a node of the kind {} has no '{name}': that is for {}",
                kind.word(),
                kinds.join(", ")
            );
            reader.found.add(&span, message);
        }
    }
}

/// Returns the variables of the lab with those of a node.
fn vars(reader: &Reader<'_>, layers: &Layers<'_>, scope: &Value) -> Value {
    let own = layers.merged("vars");
    let of_lab = scope.get_attr("vars").ok().filter(|vars| !vars.is_undefined());
    if own.is_empty() {
        return of_lab.unwrap_or_else(|| context! {});
    }
    let own = own
        .into_iter()
        .filter_map(|(name, cell)| Some((name.to_owned(), scalar(reader, cell, scope)?)));
    let own = Value::from_pairs(own);
    match of_lab {
        Some(of_lab) => context! { ..own, ..of_lab },
        None => own,
    }
}

/// Returns a plain value as templates see it.
pub(super) fn scalar(reader: &Reader<'_>, cell: &Cell<'_>, scope: &Value) -> Option<Value> {
    if let Some(value) = cell.get_ref().as_bool() {
        return Some(Value::from(value));
    }
    let text = reader.text(cell, scope)?;
    let number = cell.get_ref().is_integer().then(|| text.parse::<i64>().ok()).flatten();
    Some(number.map_or_else(|| Value::from(text), Value::from))
}

fn read_interfaces(
    reader: &Reader<'_>,
    layers: &Layers<'_>,
    scope: &Value,
    lans: &Lans,
    kind: KindName,
    span: &Range<usize>,
) -> Vec<InterfaceDraft> {
    let mut interfaces: Vec<InterfaceDraft> = Vec::new();
    let texts = layers.get("lans").map(|cell| reader.texts(cell, scope)).unwrap_or_default();
    for text in texts.into_iter().take(MAX_INTERFACES_OF_NODE + 1) {
        if let Some(lan) = lans.expect(reader, &text) {
            let name = free_name(&interfaces);
            interfaces.push(InterfaceDraft::new(lan, text.1, name));
        }
    }
    if interfaces.len() > MAX_INTERFACES_OF_NODE {
        too_many_interfaces(reader, span);
        return interfaces;
    }
    let tables = layers.get("interface").and_then(|cell| cell.get_ref().as_array());
    for cell in tables.into_iter().flatten() {
        if interfaces.len() > MAX_INTERFACES_OF_NODE {
            too_many_interfaces(reader, span);
            break;
        }
        let Some(table) = cell.get_ref().as_table() else { continue };
        let keys = Layers::new([table]);
        let default = free_name(&interfaces);
        interfaces.extend(read_interface(reader, &keys, scope, lans, kind, &cell.span(), default));
    }
    interfaces
}

fn too_many_interfaces(reader: &Reader<'_>, span: &Range<usize>) {
    reader.found.add(span, format!("a node has at most {MAX_INTERFACES_OF_NODE} interfaces"));
}

fn read_interface(
    reader: &Reader<'_>,
    keys: &Layers<'_>,
    scope: &Value,
    lans: &Lans,
    kind: KindName,
    span: &Range<usize>,
    default_name: String,
) -> Option<InterfaceDraft> {
    let Some(lan) = keys.get("lan") else {
        reader.found.add(span, "an interface needs the key 'lan'");
        return None;
    };
    let lan = lans.expect(reader, reader.texts(lan, scope).first()?)?;
    let name = keys.get("name").and_then(|cell| {
        reader.parsed(cell, scope, |text| {
            values::check_interface_name(text).map(|()| text.to_owned())
        })
    });
    let mut draft = InterfaceDraft::new(lan, span.clone(), name.unwrap_or(default_name));
    draft.mac = keys
        .get("mac")
        .and_then(|cell| Some((reader.parsed(cell, scope, values::mac)?, cell.span())));
    draft.mtu = keys.get("mtu").and_then(|cell| {
        Some((reader.integer(cell, scope, shmbus::MIN_MTU.into(), MAX_MTU)?, cell.span()))
    });
    draft.impair = reader.impairments(keys, scope).map(|(text, _)| text);
    let mut port_keys = Vec::new();
    if let Some(vlan) = keys.get("vlan").and_then(|cell| reader.integer(cell, scope, 1, 4094)) {
        port_keys.push(format!("vlan={vlan}"));
    }
    port_keys.extend(keys.get("keys").and_then(|cell| reader.text(cell, scope)));
    draft.keys = port_keys.join(",");
    for cell in ["address", "addresses"].iter().filter_map(|key| keys.get(key)) {
        if !kind.has_addresses() {
            let message =
                format!("interfaces of nodes of the kind {} have no address", kind.word());
            reader.found.add(&cell.span(), message);
            continue;
        }
        for (text, span) in reader.texts(cell, scope) {
            match text.trim() {
                "none" => draft.is_bare = true,
                text => match values::address(text) {
                    Ok(address) => draft.given.push((address, span)),
                    Err(why) => reader.found.add(&span, why),
                },
            }
        }
    }
    Some(draft)
}
