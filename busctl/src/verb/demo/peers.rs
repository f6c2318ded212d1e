//! Who takes part: a recorder, a node, and three hosts. Each is a process of its own.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::child::Child;
use super::progress::Progress;
use super::report::Ping;
use crate::process::shutdown::Shutdown;

/// The bus's file. Paths are relative to the folder, which so may be as deep as it likes: a socket's path is short.
pub(super) const BUS: &str = "lan.bus";

/// Who starts when: recorder, node, hosts.
const RECORDER: usize = 0;
const FIRST_HOST: usize = 2;

/// Processes.
pub(super) const SIZE: usize = FIRST_HOST + HOSTS.len();

/// Each host pings each other so often, with so many seconds between.
const PINGS: u64 = 5;
const INTERVAL: f64 = 0.05;

/// How long a process may take until it can be used, and a ping until it is over.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is looked meanwhile whether the others live and the demo was not interrupted.
const LOOK: Duration = Duration::from_millis(20);

/// A host of the demo.
pub(super) struct Host {
    pub(super) name: &'static str,
    /// Where it is plugged in.
    nic: &'static str,
    address: &'static str,
}

/// The hosts.
pub(super) const HOSTS: [Host; 3] = [
    Host { name: "memif host A", nic: "memif:role=client,id=0,socket=memif.sock", address: "10.83.0.1" },
    Host { name: "memif host B", nic: "memif:role=client,id=1,socket=memif.sock", address: "10.83.0.2" },
    Host { name: "bus host C", nic: "./lan.bus", address: "10.83.0.3" },
];

/// Who pings whom.
pub(super) fn pairs() -> impl Iterator<Item = (usize, usize)> {
    let hosts = 0..HOSTS.len();
    hosts
        .clone()
        .flat_map(move |from| hosts.clone().map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
}

/// All processes, in the order in which they started; when this is dropped, they end.
#[derive(Default)]
pub(super) struct Peers {
    children: Vec<Child>,
}

impl Peers {
    /// Starts everybody, each when the one before can be used.
    pub(super) fn start_all(
        folder: &Path,
        pcap: &Path,
        stop: &Shutdown,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let mut peers = Self::default();
        let bus = format!("./{BUS}");
        progress.step("starting a recorder on the bus");
        let arguments = ["dump", &bus, "-f", "-w"].map(OsString::from).into_iter().chain([pcap.into()]);
        peers.start("recorder", folder, arguments)?;
        // The header of the bus.
        peers.line(RECORDER, stop)?;
        progress.step("starting a node with two memif sockets");
        let ports = [0, 1].map(|id| format!("memif:role=server,id={id},socket=memif.sock"));
        let node = peers.start("node", folder, ["attach", &bus, &ports[0], &ports[1]])?;
        peers.wait_until_ready(node, stop)?;
        for host in &HOSTS {
            progress.step(&format!("starting {}, {}", host.name, host.address));
            let address = format!("{}/24", host.address);
            let child = peers.start(host.name, folder, ["host", host.nic, &address, "--commands"])?;
            peers.wait_until_ready(child, stop)?;
        }
        Ok(peers)
    }

    /// Lets one host ping another.
    pub(super) fn ping(&mut self, from: usize, to: usize, stop: &Shutdown) -> anyhow::Result<Ping> {
        let target = HOSTS[to].address;
        self.children[FIRST_HOST + from].send_line(&format!("ping {target} {PINGS} {INTERVAL}"), stop)?;
        let answer = self.line(FIRST_HOST + from, stop)?;
        // Without one of the others, what was answered means little.
        self.check(stop)?;
        let result = serde_json::from_str(&answer)
            .with_context(|| format!("{} did not ping but said '{answer}'", HOSTS[from].name))?;
        Ok(Ping { from: HOSTS[from].name, to: HOSTS[to].name, target: target.to_owned(), result })
    }

    /// Ends everybody, the recorder last, so that it has seen all there was.
    pub(super) fn stop_all(mut self) -> anyhow::Result<()> {
        while let Some(child) = self.children.pop() {
            child.end()?;
        }
        Ok(())
    }

    /// Its place among the others.
    fn start(
        &mut self,
        name: &'static str,
        folder: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> anyhow::Result<usize> {
        self.children.push(Child::start(name, folder, arguments, BUS)?);
        Ok(self.children.len() - 1)
    }

    fn wait_until_ready(&mut self, child: usize, stop: &Shutdown) -> anyhow::Result<()> {
        match self.line(child, stop)?.as_str() {
            "ready" => Ok(()),
            other => bail!("a process of the demo said '{other}' and not that it is ready"),
        }
    }

    /// The next line of one of them. It may be waiting for another in its turn, so all of them have to live meanwhile.
    fn line(&mut self, child: usize, stop: &Shutdown) -> anyhow::Result<String> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(line) = self.children[child].line(stop, LOOK)? {
                return Ok(line);
            }
            self.check(stop)?;
            if Instant::now() >= deadline {
                return Err(self.children[child].timed_out(START_TIMEOUT));
            }
        }
    }

    /// Fails when one of them has ended.
    fn check(&mut self, stop: &Shutdown) -> anyhow::Result<()> {
        self.children.iter_mut().try_for_each(|child| child.check(stop))
    }
}

impl Drop for Peers {
    /// The same when something went wrong.
    fn drop(&mut self) {
        while self.children.pop().is_some() {}
    }
}
