//! A lab file as a plan.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use minijinja::{Value, context};
use toml::de::DeTable;

use super::lans::Lans;
use super::machines::Machines;
use super::nodes::{NodeDraft, Nodes, scalar};
use super::problem::{Found, Problems};
use super::reader::{Layers, Reader};
use super::shape::KindName;
use super::source::{MAX_TEXT, Source};
use super::template::Templates;
use super::{addresses, checks, commands, kinds, macs, order, syntax, values, views};
use crate::plan::{Interface, Node, Plan};

/// How long a node may take to be ready, and a virtual machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
const VM_READY_WITHIN: Duration = Duration::from_mins(2);

/// Why a lab file is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}", path = .0.display(), error = .1)]
    Io(std::path::PathBuf, #[source] std::io::Error),
    /// Something in it is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
}

impl Plan {
    /// Returns the plan that a lab file describes.
    ///
    /// # Errors
    /// All that is wrong in it, with line and column.
    pub fn from_toml(text: &str, source: &Source) -> Result<Self, Problems> {
        let found = Found::new(text);
        let failed = |found: Found<'_>| Problems {
            path: source.file().map(Path::to_owned),
            list: found.into_list(),
        };
        if text.len() > MAX_TEXT {
            found.add(&(0..0), "the file is longer than 4 MiB");
            return Err(failed(found));
        }
        let (file, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            found.add(&error.span().unwrap_or_default(), error.message());
        }
        if !errors.is_empty() {
            return Err(failed(found));
        }
        let file = file.get_ref();
        syntax::check(file, &found);
        let reader = Reader { source, found, templates: Templates::new() };
        let plan = plan(&reader, file);
        if reader.found.len() == 0 { Ok(plan) } else { Err(failed(reader.found)) }
    }

    /// Reads the plan that a lab file describes. Templates see the environment of this process.
    ///
    /// # Errors
    /// When the file cannot be read, and all that is wrong in it.
    pub fn from_file(path: &Path) -> Result<Self, FileError> {
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        read_file(path, &Source::new().path(path).vars(vars))
    }
}

/// Reads the plan that a lab file describes.
///
/// # Errors
/// When the file cannot be read, and all that is wrong in it.
pub fn read_file(path: &Path, source: &Source) -> Result<Plan, FileError> {
    let failed = |error| FileError::Io(path.to_owned(), error);
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_TEXT as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    let text = String::from_utf8(text).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let message = format!("it is no text in UTF-8, from byte {place} on");
        failed(std::io::Error::new(std::io::ErrorKind::InvalidData, message))
    })?;
    Ok(Plan::from_toml(&text, source)?)
}

/// Reads the whole file. What is wrong is in `reader.found`.
fn plan(reader: &Reader<'_>, file: &DeTable<'_>) -> Plan {
    let env = reader.source.environment().iter();
    let env =
        Value::from_pairs(env.map(|(name, value)| (name.clone(), Value::from(value.as_str()))));
    let before = context! { env => env };
    let name = match file.get("name") {
        None => Some(reader.source.default_name()),
        Some(cell) => {
            reader.parsed(cell, &before, |text| values::check_name(text).map(|()| text.to_owned()))
        }
    };
    let name = name.unwrap_or_else(|| reader.source.default_name());
    let vars = Layers::new([file]).merged("vars").into_iter();
    let vars =
        vars.filter_map(|(name, cell)| Some((name.to_owned(), scalar(reader, cell, &before)?)));
    let vars = Value::from_pairs(vars);
    let base = context! { lab => context! { name => name.as_str() }, vars => vars, ..before };

    let machines = Machines::read(reader, file, &base);
    let mut lans = Lans::read(reader, file, &base);
    let mut nodes = Nodes::read(reader, file, &base, &lans);
    nodes.connect(reader, &lans);
    machines.place(reader, &mut nodes);
    share_with_rump(reader, &mut lans, &nodes);
    machines.join(reader, &name, &mut lans, &nodes);
    check_interfaces(reader, &lans, &nodes);
    macs::assign(&name, &mut nodes);
    addresses::assign(reader, &lans, &mut nodes);
    let shared = views::share(&base, &lans, &mut nodes);

    let after = dependencies(reader, &nodes);
    let mut made = Vec::new();
    for (draft, after) in nodes.list.iter().zip(&after) {
        if reader.found.is_full() {
            break;
        }
        reader.found.set_repeating(draft.index > 1);
        made.extend(node(reader, draft, after, &nodes, &lans));
        reader.found.set_repeating(false);
    }
    let checks = checks::read(reader, file, &shared, &lans, &nodes);
    let lans = lans.list.into_iter().map(|lan| lan.plan).collect();
    let list = machines.list.clone();
    let plan = Plan { name, machines: list, here: None, lans, nodes: made, checks };
    machines.check_ports(reader, &plan);
    plan
}

/// Makes the LANs of rump kernels such that rump kernels can share them.
fn share_with_rump(reader: &Reader<'_>, lans: &mut Lans, nodes: &Nodes<'_>) {
    let rumps = nodes.list.iter().filter(|node| node.kind == KindName::Rump);
    for interface in rumps.flat_map(|node| &node.interfaces) {
        let lan = &mut lans.list[interface.lan];
        if lan.plan.is_shmif {
            continue;
        }
        if lan.says_format {
            let message = format!("rump kernels cannot share '{}': it is not shmif", lan.plan.name);
            reader.found.add(&interface.span, message);
        } else if lan.plan.size != shmbus::BUS_SIZE && lan.says_size {
            let message =
                format!("rump kernels cannot share '{}': its size is not 1M", lan.plan.name);
            reader.found.add(&interface.span, message);
        } else {
            lan.become_shmif();
        }
    }
}

/// Adds what is wrong with interfaces: links without two ends, names that two have, MTUs.
fn check_interfaces(reader: &Reader<'_>, lans: &Lans, nodes: &Nodes<'_>) {
    let mut ends = vec![0_usize; lans.list.len()];
    for node in &nodes.list {
        reader.found.set_repeating(node.index > 1);
        let mut names = BTreeSet::new();
        let mut variables = BTreeSet::new();
        for interface in &node.interfaces {
            ends[interface.lan] += 1;
            if !names.insert(&interface.name) {
                let message = format!("{} has two interfaces '{}'", node.name, interface.name);
                reader.found.add(&interface.span, message);
            }
            let lan = &lans.list[interface.lan];
            let most = lan.max_mtu();
            if let Some((mtu, span)) = &interface.mtu
                && *mtu > most
            {
                let message = format!(
                    "the MTU {mtu} is over that of '{}', which carries {most}",
                    lan.plan.name
                );
                reader.found.add(span, message);
            }
            let is_word = |c: char| c.is_ascii_alphanumeric();
            let variable: String =
                lan.plan.name.chars().map(|c| if is_word(c) { c } else { '_' }).collect();
            variables.insert((variable, interface.lan));
        }
        if node.kind.has_commands() {
            let all = variables.len();
            let different: BTreeSet<&String> = variables.iter().map(|(name, _)| name).collect();
            if different.len() < all {
                let message = format!(
                    "two LANs of {} would both be in one variable $BUS_...: rename one",
                    node.name
                );
                reader.found.add(&node.span, message);
            }
        }
        reader.found.set_repeating(false);
    }
    for (lan, ends) in lans.list.iter().zip(ends) {
        if lan.plan.is_link && ends != 2 {
            let message = format!("the link '{}' has {ends} ends, and not two", lan.plan.name);
            reader.found.add(&lan.span, message);
        }
    }
}

/// Returns the nodes that each node waits for, and adds circles.
fn dependencies(reader: &Reader<'_>, nodes: &Nodes<'_>) -> Vec<Vec<usize>> {
    let mut after = Vec::with_capacity(nodes.list.len());
    for (number, node) in nodes.list.iter().enumerate() {
        reader.found.set_repeating(node.index > 1);
        let cell = node.layers.get("after");
        let mut behind = BTreeSet::new();
        for text in cell.map(|cell| reader.texts(cell, &node.scope)).unwrap_or_default() {
            let named = nodes.expect(reader, &text);
            // A node of a group that waits for the group waits for the others only, but it does so
            // for itself when it names itself.
            let is_itself = text.0 == node.name;
            // A node without a host has been reported.
            let elsewhere = named.iter().map(|other| &nodes.list[*other]).find(
                |other| matches!((&node.on, &other.on), (Some(on), Some(other)) if on != other),
            );
            if let Some(other) = elsewhere {
                let message = format!(
                    "{} is on another host than {}: a node waits for those of its own host, and a \
                     command of 'exec' for any, such as one that pings until there is an answer",
                    other.name, node.name
                );
                reader.found.add(&text.1, message);
                continue;
            }
            behind.extend(named.iter().filter(|other| is_itself || **other != number));
        }
        after.push(behind.into_iter().collect());
        reader.found.set_repeating(false);
    }
    if let Some(circle) = order::circle(&after) {
        let first = &nodes.list[circle[0]];
        let names = circle.iter().skip(1).chain(circle.first());
        let waits: Vec<&str> = names.map(|node| nodes.list[*node].name.as_str()).collect();
        let span = first.layers.get("after").map_or(first.span.clone(), toml::Spanned::span);
        let message = format!(
            "{} waits for {}: none is ever started",
            first.name,
            waits.join(", which waits for ")
        );
        reader.found.add(&span, message);
    }
    after
}

/// Reads all of a node.
fn node(
    reader: &Reader<'_>,
    draft: &NodeDraft<'_>,
    after: &[usize],
    nodes: &Nodes<'_>,
    lans: &Lans,
) -> Option<Node> {
    let scope = &draft.scope;
    let kind = kinds::read(reader, draft);
    let exec = draft.layers.get("exec").map(|cell| reader.texts(cell, scope)).unwrap_or_default();
    let exec = exec.into_iter();
    let exec =
        exec.filter_map(|(text, span)| commands::check_command(reader, text, &span)).collect();
    let ready_within =
        draft.layers.get("ready-within").and_then(|cell| reader.parsed(cell, scope, values::time));
    let default = if draft.kind == KindName::Vm { VM_READY_WITHIN } else { READY_WITHIN };
    let (env, files) = (commands::env(reader, draft), commands::files(reader, draft));
    let (services, ready) = (commands::services(reader, draft), commands::ready(reader, draft));
    Some(Node {
        name: draft.name.clone(),
        on: draft.on.clone(),
        kind: kind?,
        interfaces: interfaces(draft, lans),
        env,
        files,
        exec,
        services,
        ready,
        ready_within: ready_within.unwrap_or(default),
        after: after.iter().map(|other| nodes.list[*other].name.clone()).collect(),
    })
}

fn interfaces(draft: &NodeDraft<'_>, lans: &Lans) -> Vec<Interface> {
    let interfaces = draft.interfaces.iter().map(|interface| {
        let lan = &lans.list[interface.lan];
        Interface {
            lan: lan.plan.name.clone(),
            name: interface.name.clone(),
            mac: interface
                .mac
                .as_ref()
                .map(|(mac, _): &([u8; 6], Range<usize>)| *mac)
                .unwrap_or_default(),
            mtu: interface.mtu.as_ref().map(|(mtu, _)| *mtu).or(lan.mtu),
            addresses: interface.addresses.clone(),
            impair: interface.impair.clone(),
            keys: interface.keys.clone(),
        }
    });
    interfaces.collect()
}
