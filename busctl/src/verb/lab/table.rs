//! A lab as people see it.

use std::io::Write as _;

use ::lab::{InterfaceState, LabState, LanState, NodeState, Phase, TrunkState};
use comfy_table::{Table, presets};

use crate::output;

/// Prints the nodes of a lab, and which other hosts its LANs lead to.
pub(super) fn print(lab: &LabState) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["NODE", "KIND", "STATE", "LAN", "ADDRESS"]);
    for node in &lab.nodes {
        let interfaces = node.interfaces.iter();
        let interfaces = interfaces.map(|InterfaceState { lan, addresses, .. }| (lan, addresses));
        add(&mut table, [node.name.clone(), node.kind.clone(), state(node)], interfaces);
    }
    // By host, in the order of the lab.
    let mut hosts: Vec<&str> = Vec::new();
    for node in &lab.elsewhere {
        if !hosts.contains(&&*node.host) {
            hosts.push(&node.host);
        }
    }
    for host in hosts {
        for node in lab.elsewhere.iter().filter(|node| node.host == host) {
            let interfaces = node.interfaces.iter().map(|(lan, addresses)| (lan, addresses));
            let first = [node.name.clone(), node.kind.clone(), format!("on {host}")];
            add(&mut table, first, interfaces);
        }
    }
    let mut stdout = output::stdout();
    let here = lab.host.as_ref().map(|host| format!(", host {host}")).unwrap_or_default();
    writeln!(stdout, "lab {}{here}: {}", lab.name, summary(lab))?;
    for line in table.lines() {
        writeln!(stdout, "{}", line.trim_end())?;
    }
    for LanState { name, trunk, .. } in &lab.lans {
        if let Some(trunk) = trunk {
            writeln!(stdout, "{name} {}", leads_to(trunk))?;
        }
    }
    Ok(())
}

/// Adds the rows of a node: one for each of its addresses.
fn add<'l>(
    table: &mut Table,
    mut first: [String; 3],
    interfaces: impl Iterator<Item = (&'l String, &'l Vec<String>)>,
) {
    let mut add = |lan: &str, address: &str| {
        let [name, kind, state] = std::mem::take(&mut first);
        table.add_row([name, kind, state, lan.to_owned(), address.to_owned()]);
    };
    let mut has_none = true;
    for (lan, addresses) in interfaces {
        has_none = false;
        if addresses.is_empty() {
            add(lan, "");
        }
        for (number, address) in addresses.iter().enumerate() {
            add(if number == 0 { lan } else { "" }, address);
        }
    }
    if has_none {
        add("", "");
    }
}

/// Returns which other hosts a LAN leads to.
fn leads_to(trunk: &TrunkState) -> String {
    if let Some(why) = &trunk.closed {
        return format!("no longer reaches other hosts: {why}");
    }
    let remotes = trunk.remotes.iter().map(|remote| match (&*remote.host, &*remote.address) {
        (host, "") => host.to_owned(),
        (host, address) => format!("{host} ({address})"),
    });
    match remotes.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => format!("has found no other host yet, by {}", trunk.port),
        remotes => format!("leads to {remotes}, by {}", trunk.port),
    }
}

/// Returns how a lab is, in a few words.
pub(super) fn summary(lab: &LabState) -> String {
    if let Some(failed) = &lab.failed {
        return format!("failed: {failed}");
    }
    let ready = lab.nodes.iter().filter(|node| node.phase == Phase::Ready).count();
    if lab.ready {
        "ready".to_owned()
    } else {
        format!("{ready} of {} nodes are ready", lab.nodes.len())
    }
}

fn state(node: &NodeState) -> String {
    let word = match node.phase {
        Phase::Waiting => "waiting",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Ready => "ready",
        Phase::Failed => "failed",
    };
    match &*node.detail {
        "" => word.to_owned(),
        detail => format!("{word}: {detail}"),
    }
}
