//! Two hosts behind a node, with further ports beside theirs.

use std::path::PathBuf;

use system_tests::{Lab, Process, port};

use super::crowd::{Crowd, memif_client};
use super::hosts;
use crate::comparison::{Criterion, Table};
use crate::ours;

/// Compares TCP between two memif hosts with the same through a node that has only their two ports.
/// Each further port has an idle host. A hub hands every frame to every port, so it has no target.
pub(super) fn of_a_node(table: &mut Table<'_>, sizes: &[usize]) {
    let (lab, time) = (ours::lab(), table.time());
    table.heading(
        "two memif hosts through a node, idle ones on further ports",
        "TCP in Gbit/s",
        "two ports",
    );
    for (how, keys) in [("hub", ""), ("learn=on", "learn=on")] {
        let two = Node::start(&lab, &format!("{how}-two"), keys, 0);
        for size in sizes.iter().copied().filter(|size| *size > 0) {
            let many = Node::start(&lab, &format!("{how}-{size}"), keys, size);
            let target = match (how, size) {
                ("learn=on", 64) => Some(0.85),
                ("learn=on", 250) => Some(0.8),
                _ => None,
            };
            table.row(
                &format!("{how}, {size} further ports"),
                Criterion::Ratio(target),
                &mut || many.tcp(&lab, time),
                &mut || many.idle.suspended(|| two.tcp(&lab, time)),
            );
        }
    }
}

/// A node on a bus of its own.
struct Node {
    idle: Crowd,
    _process: Process,
    socket: PathBuf,
}

impl Node {
    /// Starts a node with two ports and further ones, and a host on each of these.
    fn start(lab: &Lab, name: &str, keys: &str, further: usize) -> Self {
        let socket = lab.path(&format!("{name}.sock"));
        let mut command = vec!["attach".to_owned(), lab.arg(&format!("{name}.bus"))];
        command.extend((0..2 + further).map(|id| {
            port::server(&socket, u32::try_from(id).expect("there are few ports"), keys)
        }));
        let process = lab.ready(&command);
        let idle = Crowd::on_memif(lab, &socket, 2..2 + further);
        Self { idle, _process: process, socket }
    }

    fn tcp(&self, lab: &Lab, time: std::time::Duration) -> f64 {
        let nics = [0, 1].map(|id| memif_client(&self.socket, id));
        hosts::tcp(lab, [&nics[0], &nics[1]], time)
    }
}
