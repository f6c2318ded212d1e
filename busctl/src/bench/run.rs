//! Setting up a measurement and running it.

use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shmbus::Bus;

use super::frames::{Sent, Tally};
use super::latency::RoundTrips;
use super::protocol::{Job, Medium, Reported, Role};
use super::worker::Worker;
use super::{LatencyReport, Plan, Report, Sender};
use crate::process::shutdown::Shutdown;

/// Which way the frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topology {
    /// From one station on a bus to the others
    Bus,
    /// From one process to another over memif
    Memif,
    /// From a memif client over a node's bus to another memif client
    Adapter,
}

/// Runs `plan` in a temporary folder, which is gone afterwards: how many frames get through.
///
/// # Errors
/// When a process of it cannot be started or fails, or when asked to stop.
pub(crate) fn measure(plan: &Plan, stop: &Shutdown) -> anyhow::Result<Report> {
    let run: Run<Sent, Tally> = run(plan, [Role::Send, Role::Receive], stop)?;
    Ok(Report::new(plan, &run.first, &run.others))
}

/// Runs `plan` in the same way: how long single frames take.
///
/// # Errors
/// As for [`measure`].
pub(crate) fn measure_latency(plan: &Plan, stop: &Shutdown) -> anyhow::Result<LatencyReport> {
    let run: Run<RoundTrips, ()> = run(plan, [Role::Ask, Role::Answer], stop)?;
    LatencyReport::new(plan, &run.first, &run.others).context("no frame came back")
}

/// What the processes of a measurement said.
struct Run<F, O> {
    first: Reported<F>,
    others: Vec<Reported<O>>,
}

/// Sets up the bus or the sockets, and the processes.
fn run<F: DeserializeOwned, O: DeserializeOwned>(
    plan: &Plan,
    [first, other]: [Role; 2],
    stop: &Shutdown,
) -> anyhow::Result<Run<F, O>> {
    let folder = temporary_folder()?;
    let bus = folder.path().join("bus");
    let job = |role, medium, cpu| Job { role, medium, load: plan.load, options: plan.options, cpu };
    match plan.topology {
        Topology::Bus => {
            Bus::open_or_create(&bus, 0o600)?;
            let medium = || Medium::Bus { path: bus.clone() };
            let others: Vec<Job> = (1..plan.stations).map(|cpu| job(other, medium(), Some(cpu))).collect();
            run_workers(&job(first, medium(), Some(0)), &others, stop)
        }
        Topology::Memif => {
            let [sender, receiver] = match plan.options.memif.sender {
                Sender::Client => ["client", "server"],
                Sender::Server => ["server", "client"],
            };
            let medium = |role| Medium::Memif { spec: spec(plan, role, 0, folder.path()) };
            let other = job(other, medium(receiver), Some(1));
            run_workers(&job(first, medium(sender), Some(0)), &[other], stop)
        }
        Topology::Adapter => {
            let ports = [0, 1].map(|id| format!("memif:{}", spec(plan, "server", id, folder.path())));
            let _node = Worker::node(&bus, &ports, stop)?;
            let medium = |id| Medium::Memif { spec: spec(plan, "client", id, folder.path()) };
            // Three processes on what may be two processors: the system knows best who waits for whom.
            run_workers(&job(first, medium(0), None), &[job(other, medium(1), None)], stop)
        }
    }
}

/// A memif interface of the measurement, in the form of `attach`.
fn spec(plan: &Plan, role: &str, id: u32, folder: &Path) -> String {
    let memif = plan.options.memif;
    let keys = match role {
        "client" => {
            let (rsize, bsize, queues) = (memif.rsize, memif.bsize, memif.queues);
            format!(",rsize={rsize},bsize={bsize},rx-queues={queues},tx-queues={queues}")
        }
        _ => String::new(),
    };
    format!("role={role},id={id},socket={}{keys}", folder.join("memif").display())
}

/// On a file system in memory, if there is one.
fn temporary_folder() -> anyhow::Result<tempfile::TempDir> {
    let builder = |parent: &Path| tempfile::Builder::new().prefix("busctl-bench-").tempdir_in(parent);
    builder("/dev/shm".as_ref())
        .or_else(|_| builder(&std::env::temp_dir()))
        .context("cannot make a temporary folder")
}

/// Starts the processes, lets them loose when all are ready, and gathers what they say.
fn run_workers<F: DeserializeOwned, O: DeserializeOwned>(
    first: &Job,
    others: &[Job],
    stop: &Shutdown,
) -> anyhow::Result<Run<F, O>> {
    let start = |job| Worker::start(job, stop);
    // The one that makes the first move, last: its partner, a memif server perhaps, should be there.
    let mut others = others.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut first = start(first)?;
    for worker in others.iter_mut().chain([&mut first]) {
        worker.wait_until_ready()?;
    }
    for worker in others.iter_mut().chain([&mut first]) {
        worker.go()?;
    }
    let said = first.result()?;
    others.iter_mut().for_each(Worker::stop);
    let others = others.iter_mut().map(Worker::result).collect::<anyhow::Result<_>>()?;
    Ok(Run { first: said, others })
}
