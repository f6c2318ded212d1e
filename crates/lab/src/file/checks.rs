//! The checks of a lab file.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use minijinja::Value;
use toml::de::DeTable;

use super::commands::command;
use super::lans::Lans;
use super::nodes::{NodeDraft, Nodes};
use super::reader::{Layers, Reader, Text};
use super::shape::{IMPAIRMENTS, KindName};
use super::values;
use super::views;
use crate::plan::{Action, Check};

/// How long a check may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The most checks.
const MAX_CHECKS: usize = 10_000;

/// Reads all checks of a file. `shared` is what the templates of a check without a node see.
pub(super) fn read(
    reader: &Reader<'_>,
    file: &DeTable<'_>,
    shared: &Value,
    lans: &Lans,
    nodes: &Nodes<'_>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let tables = file.get("check").and_then(|cell| cell.get_ref().as_array());
    for cell in tables.into_iter().flatten() {
        let Some(table) = cell.get_ref().as_table() else { continue };
        let keys = Layers::new([table]);
        let span = start(table, &cell.span());
        let kinds: Vec<&str> =
            ["exec", "ping", "set"].into_iter().filter(|key| keys.get(key).is_some()).collect();
        let [kind] = kinds[..] else {
            reader.found.add(&span, "a check has one of 'exec', 'ping' and 'set'");
            continue;
        };
        check_keys(reader, &keys, kind);
        if kind == "set" {
            checks.extend(set(reader, &keys, shared, lans, nodes));
            continue;
        }
        let Some(node) = keys.get("node") else {
            reader.found.add(&span, format!("'{kind}' needs 'node', where it runs"));
            continue;
        };
        let Some(text) = reader.texts(node, shared).pop() else { continue };
        for (index, number) in nodes.expect(reader, &text).iter().enumerate() {
            if checks.len() >= MAX_CHECKS {
                reader.found.add(&span, format!("a lab has at most {MAX_CHECKS} checks"));
                return checks;
            }
            reader.found.set_repeating(index > 0);
            let node = &nodes.list[*number];
            let is_alone = node.name == text.0;
            let check = match kind {
                "exec" => exec(reader, &keys, node, is_alone),
                _ => ping(reader, &keys, node, nodes, is_alone, &text.1),
            };
            checks.extend(check);
            reader.found.set_repeating(false);
        }
    }
    checks
}

/// Returns the place of a check: that of its first key.
fn start(table: &DeTable<'_>, span: &Range<usize>) -> Range<usize> {
    table.keys().map(toml::Spanned::span).min_by_key(|key| key.start).unwrap_or(span.clone())
}

/// Adds the keys that a check of this kind does not have.
fn check_keys(reader: &Reader<'_>, keys: &Layers<'_>, kind: &str) {
    for (name, span) in keys.keys() {
        let belongs = match name {
            "name" | "within" => true,
            "exec" | "ping" | "set" => name == kind,
            "node" | "fails" => kind != "set",
            "output" => kind == "exec",
            name => {
                let is_impairment = IMPAIRMENTS.iter().any(|(word, _)| *word == name)
                    || matches!(name.split('.').next(), Some("in" | "out"));
                // A key that does not exist has been reported.
                kind == "set" || !is_impairment
            }
        };
        if !belongs {
            reader.found.add(&span, format!("a check with '{kind}' has no '{name}'"));
        }
    }
}

fn exec(
    reader: &Reader<'_>,
    keys: &Layers<'_>,
    node: &NodeDraft<'_>,
    is_alone: bool,
) -> Option<Check> {
    let scope = &node.scope;
    let output = keys.get("output").and_then(|cell| reader.text(cell, scope));
    let fails = keys.get("fails").and_then(|cell| reader.bool(cell, scope)).unwrap_or(false);
    if let Some(cell) = keys.get("output")
        && fails
    {
        reader.found.add(&cell.span(), "what must fail has no 'output'");
    }
    let within = within(reader, keys, scope);
    let name = name(reader, keys, scope);
    let command = command(reader, keys.get("exec")?, scope)?;
    let name = match name {
        Some(name) if is_alone => name,
        Some(name) => format!("{name} ({})", node.name),
        None => format!("{}: {}", node.name, command.lines().next().unwrap_or_default()),
    };
    let action = Action::Exec {
        node: node.name.clone(),
        command,
        output: output.unwrap_or_default(),
        fails,
    };
    Some(Check { name, action, within })
}

fn ping(
    reader: &Reader<'_>,
    keys: &Layers<'_>,
    node: &NodeDraft<'_>,
    nodes: &Nodes<'_>,
    is_alone: bool,
    node_span: &Range<usize>,
) -> Option<Check> {
    let scope = &node.scope;
    let fails = keys.get("fails").and_then(|cell| reader.bool(cell, scope)).unwrap_or(false);
    let within = within(reader, keys, scope);
    let name = name(reader, keys, scope);
    let text = reader.texts(keys.get("ping")?, scope).pop()?;
    let target = target(reader, &text, nodes)?;
    let name = match name {
        Some(name) if is_alone => name,
        Some(name) => format!("{name} ({})", node.name),
        None => {
            let verb = if fails { "does not reach" } else { "reaches" };
            format!("{} {verb} {}", node.name, text.0)
        }
    };
    let node_name = node.name.clone();
    let action = match node.kind {
        KindName::Host => Action::Ping { node: node_name, target, fails },
        KindName::Run => {
            let command = format!("ping -n -c 1 -W 1 {target}");
            Action::Exec { node: node_name, command, output: String::new(), fails }
        }
        kind => {
            let message = format!(
                "a node of the kind {} cannot ping; a host or a run can, or use 'exec'",
                kind.word()
            );
            reader.found.add(node_span, message);
            return None;
        }
    };
    Some(Check { name, action, within })
}

/// Returns the address that a text is, or that the node has which it names.
fn target(reader: &Reader<'_>, text: &Text, nodes: &Nodes<'_>) -> Option<IpAddr> {
    let (name, span) = text;
    if let Ok(ip) = name.trim().parse() {
        return Some(ip);
    }
    if nodes.find(name).is_none() {
        let known = nodes.list.iter().map(|node| &node.name);
        let message = format!("'{name}' is neither an address nor a node");
        reader.found.add_mistyped(span, message, name, known);
        return None;
    }
    let node = &nodes.list[nodes.expect_one(reader, text)?];
    let all: Vec<_> =
        node.interfaces.iter().flat_map(|interface| interface.addresses.clone()).collect();
    let address = views::first(&all);
    if address.is_none() {
        reader.found.add(span, format!("{name} has no address that is known before it runs"));
    }
    address
}

fn set(
    reader: &Reader<'_>,
    keys: &Layers<'_>,
    shared: &Value,
    lans: &Lans,
    nodes: &Nodes<'_>,
) -> Option<Check> {
    let text = reader.texts(keys.get("set")?, shared).pop()?;
    let impairments = reader.impairments(keys, shared);
    let within = within(reader, keys, shared);
    let name = name(reader, keys, shared);
    let (link, span) = &text;
    match link.split_once(':') {
        None => {
            lans.expect(reader, &text)?;
        }
        Some((node, interface)) => {
            let node = nodes.expect_one(reader, &(node.to_owned(), span.clone()))?;
            let node = &nodes.list[node];
            let known = node.interfaces.iter().map(|interface| &interface.name);
            if known.clone().all(|name| name != interface) {
                let message = format!("{} has no interface '{interface}'", node.name);
                reader.found.add_mistyped(span, message, interface, known);
                return None;
            }
        }
    }
    let Some((impair, _)) = impairments else {
        reader.found.add(span, "'set' needs impairments, such as partition = \"on\"");
        return None;
    };
    let name = name.unwrap_or_else(|| format!("set {link} {impair}"));
    Some(Check { name, action: Action::Set { link: text.0, impair }, within })
}

fn within(reader: &Reader<'_>, keys: &Layers<'_>, scope: &Value) -> Duration {
    let cell = keys.get("within");
    cell.and_then(|cell| reader.parsed(cell, scope, values::time)).unwrap_or(WITHIN)
}

/// Reads the name of a check, in one line.
fn name(reader: &Reader<'_>, keys: &Layers<'_>, scope: &Value) -> Option<String> {
    reader.parsed(keys.get("name")?, scope, |text| {
        if text.is_empty() || text.len() > 200 || text.contains(char::is_control) {
            return Err("the name of a check is one line of at most 200 bytes".to_owned());
        }
        Ok(text.to_owned())
    })
}
