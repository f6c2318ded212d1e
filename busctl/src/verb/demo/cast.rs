//! Who takes part: a recorder, a node, and three hosts. Each is a process of its own.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::child::Child;
use super::progress::Progress;
use super::report::Ping;
use crate::stop::Stop;

/// The bus's file. Paths are relative to the folder, which so may be as deep as it likes: a socket's path is short.
pub(super) const BUS: &str = "lan.bus";

/// Processes.
pub(super) const SIZE: usize = 2 + HOSTS.len();

/// Each host pings each other so often, with so many seconds between.
const PINGS: u64 = 5;
const INTERVAL: f64 = 0.05;

/// How long a process may take until it can be used, and a ping until it is over.
const PATIENCE: Duration = Duration::from_secs(15);

/// A host of the demo.
pub(super) struct Host {
    pub(super) name: &'static str,
    /// Where it is plugged in.
    plug: &'static str,
    address: &'static str,
}

/// The hosts.
pub(super) const HOSTS: [Host; 3] = [
    Host { name: "memif host A", plug: "memif:role=client,id=0,socket=memif.sock", address: "10.83.0.1" },
    Host { name: "memif host B", plug: "memif:role=client,id=1,socket=memif.sock", address: "10.83.0.2" },
    Host { name: "bus host C", plug: "./lan.bus", address: "10.83.0.3" },
];

/// Who pings whom.
pub(super) fn pairs() -> impl Iterator<Item = (usize, usize)> {
    let hosts = 0..HOSTS.len();
    hosts
        .clone()
        .flat_map(move |from| hosts.clone().map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
}

/// All processes; when this is dropped, they end.
pub(super) struct Cast {
    hosts: Vec<Child>,
    node: Child,
    recorder: Child,
}

impl Cast {
    /// Starts everybody, each when the one before can be used.
    pub(super) fn enter(
        folder: &Path,
        pcap: &Path,
        stop: &Stop,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let bus = format!("./{BUS}");
        progress.step("starting a recorder on the bus");
        let arguments = ["dump", &bus, "-f", "-w"].map(OsString::from).into_iter().chain([pcap.into()]);
        let mut recorder = Child::start("recorder", folder, arguments)?;
        // The header of the bus.
        recorder.line(stop, PATIENCE)?;
        progress.step("starting a node with two memif sockets");
        let ports = [0, 1].map(|id| format!("memif:role=server,id={id},socket=memif.sock"));
        let mut node = Child::start("node", folder, ["attach", &bus, &ports[0], &ports[1]])?;
        wait_until_ready(&mut node, stop)?;
        let mut hosts = Vec::new();
        for host in &HOSTS {
            progress.step(&format!("starting {}, {}", host.name, host.address));
            let address = format!("{}/24", host.address);
            let mut child = Child::start(host.name, folder, ["host", host.plug, &address, "--commands"])?;
            wait_until_ready(&mut child, stop)?;
            hosts.push(child);
        }
        Ok(Self { hosts, node, recorder })
    }

    /// Lets one host ping another.
    pub(super) fn ping(&mut self, from: usize, to: usize, stop: &Stop) -> anyhow::Result<Ping> {
        let (host, target) = (&mut self.hosts[from], HOSTS[to].address);
        host.tell(&format!("ping {target} {PINGS} {INTERVAL}"), stop)?;
        let answer = host.line(stop, PATIENCE)?;
        // Without one of the others, what was answered means little.
        for child in self.hosts.iter_mut().chain([&mut self.node, &mut self.recorder]) {
            child.check(stop)?;
        }
        let result = serde_json::from_str(&answer)
            .with_context(|| format!("{} did not ping but said '{answer}'", HOSTS[from].name))?;
        Ok(Ping { from: HOSTS[from].name, to: HOSTS[to].name, target: target.to_owned(), result })
    }

    /// Ends everybody, the recorder last, so that it has seen all there was.
    pub(super) fn leave(self) -> anyhow::Result<()> {
        let Self { hosts, node, recorder } = self;
        for host in hosts {
            host.end()?;
        }
        node.end()?;
        recorder.end()
    }
}

fn wait_until_ready(child: &mut Child, stop: &Stop) -> anyhow::Result<()> {
    match child.line(stop, PATIENCE)?.as_str() {
        "ready" => Ok(()),
        other => bail!("a process of the demo said '{other}' and not that it is ready"),
    }
}
