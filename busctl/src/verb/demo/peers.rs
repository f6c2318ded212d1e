//! The processes of the demo: a recorder, a node, and three hosts.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::child::Child;
use super::progress::Progress;
use super::report::Ping;
use crate::process::shutdown::Shutdown;

/// The file of the bus. Paths are relative to the folder, so that the path of a socket stays short
/// in the deepest folder.
pub(super) const BUS: &str = "lan.bus";

/// Positions in the order of start: recorder, node, hosts.
const RECORDER: usize = 0;
const FIRST_HOST: usize = 2;

/// The number of processes.
pub(super) const SIZE: usize = FIRST_HOST + HOSTS.len();

/// How often each host pings each other, and the seconds between.
const PINGS: u64 = 5;
const INTERVAL: f64 = 0.05;

/// How long a process may take until it is ready, and a ping until it is over.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How often, meanwhile, to check that the others live and the demo was not interrupted.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A host of the demo.
pub(super) struct Host {
    pub(super) name: &'static str,
    /// Its BUS argument.
    nic: &'static str,
    address: &'static str,
}

/// The hosts.
pub(super) const HOSTS: [Host; 3] = [
    Host {
        name: "memif host A",
        nic: "memif:role=client,id=0,socket=memif.sock",
        address: "10.83.0.1",
    },
    Host {
        name: "memif host B",
        nic: "memif:role=client,id=1,socket=memif.sock",
        address: "10.83.0.2",
    },
    Host { name: "bus host C", nic: "./lan.bus", address: "10.83.0.3" },
];

/// Returns the pairs of hosts: which one pings which.
pub(super) fn pairs() -> impl Iterator<Item = (usize, usize)> {
    let hosts = 0..HOSTS.len();
    hosts
        .clone()
        .flat_map(move |from| hosts.clone().map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
}

/// All processes, in the order of their start. Dropping this ends them.
#[derive(Default)]
pub(super) struct Peers {
    children: Vec<Child>,
}

impl Peers {
    /// Starts all processes, each when the one before is ready.
    pub(super) fn start_all(
        folder: &Path,
        pcap: &Path,
        stop: &Shutdown,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let mut peers = Self::default();
        let bus = format!("./{BUS}");
        progress.step("starting a recorder on the bus");
        let arguments =
            ["dump", &bus, "-f", "-w"].map(OsString::from).into_iter().chain([pcap.into()]);
        peers.spawn("recorder", folder, arguments)?;
        // The header of the bus: the recorder is ready.
        peers.line(RECORDER, stop)?;
        progress.step("starting a node with two memif sockets");
        let ports = [0, 1].map(|id| format!("memif:role=server,id={id},socket=memif.sock"));
        let node = peers.spawn("node", folder, ["attach", &bus, &ports[0], &ports[1]])?;
        peers.wait_until_ready(node, stop)?;
        for host in &HOSTS {
            progress.step(&format!("starting {}, {}", host.name, host.address));
            let address = format!("{}/24", host.address);
            let child =
                peers.spawn(host.name, folder, ["host", host.nic, &address, "--commands"])?;
            peers.wait_until_ready(child, stop)?;
        }
        Ok(peers)
    }

    /// Lets one host ping another.
    pub(super) fn ping(&mut self, from: usize, to: usize, stop: &Shutdown) -> anyhow::Result<Ping> {
        let target = HOSTS[to].address;
        self.children[FIRST_HOST + from]
            .send_line(&format!("ping {target} {PINGS} {INTERVAL}"), stop)?;
        let answer = self.line(FIRST_HOST + from, stop)?;
        // An answer means little when another process has failed.
        self.check(stop)?;
        let result = serde_json::from_str(&answer)
            .with_context(|| format!("{} did not ping but printed '{answer}'", HOSTS[from].name))?;
        Ok(Ping { from: HOSTS[from].name, to: HOSTS[to].name, target: target.to_owned(), result })
    }

    /// Ends all processes, the recorder last, so that it records every frame.
    pub(super) fn stop_all(mut self) -> anyhow::Result<()> {
        while let Some(child) = self.children.pop() {
            child.end()?;
        }
        Ok(())
    }

    /// Starts a process, and returns its index.
    fn spawn(
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
            other => bail!("a process of the demo printed '{other}' instead of 'ready'"),
        }
    }

    /// Returns the next line of a process. The process may be waiting for another one, so all of
    /// them must live meanwhile.
    fn line(&mut self, child: usize, stop: &Shutdown) -> anyhow::Result<String> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(line) = self.children[child].line(stop, CHECK_INTERVAL)? {
                return Ok(line);
            }
            self.check(stop)?;
            if Instant::now() >= deadline {
                return Err(self.children[child].timed_out(START_TIMEOUT));
            }
        }
    }

    /// Fails when a process has ended.
    fn check(&mut self, stop: &Shutdown) -> anyhow::Result<()> {
        self.children.iter_mut().try_for_each(|child| child.check(stop))
    }
}

impl Drop for Peers {
    /// Ends all processes after an error.
    fn drop(&mut self) {
        while self.children.pop().is_some() {}
    }
}
