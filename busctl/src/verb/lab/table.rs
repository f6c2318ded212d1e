//! A lab as people see it.

use std::io::Write as _;

use ::lab::{InterfaceState, LabState, NodeState, Phase};
use comfy_table::{Table, presets};

use crate::output;

/// Prints the nodes of a lab.
pub(super) fn print(lab: &LabState) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["NODE", "KIND", "STATE", "LAN", "ADDRESS"]);
    for node in &lab.nodes {
        let mut first = [node.name.clone(), node.kind.clone(), state(node)];
        let mut add = |lan: &str, address: &str| {
            let [name, kind, state] = std::mem::take(&mut first);
            table.add_row([name, kind, state, lan.to_owned(), address.to_owned()]);
        };
        if node.interfaces.is_empty() {
            add("", "");
        }
        for InterfaceState { lan, addresses, .. } in &node.interfaces {
            if addresses.is_empty() {
                add(lan, "");
            }
            for (number, address) in addresses.iter().enumerate() {
                add(if number == 0 { lan } else { "" }, address);
            }
        }
    }
    let mut stdout = output::stdout();
    writeln!(stdout, "lab {}: {}", lab.name, summary(lab))?;
    for line in table.lines() {
        writeln!(stdout, "{}", line.trim_end())?;
    }
    Ok(())
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
