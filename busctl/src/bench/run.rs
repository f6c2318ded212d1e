//! Sets up a measurement and runs it.

use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shmbus::{BIG_BUS_SIZE, BUS_SIZE, BusOptions, MAX_FRAME};

use super::frames::{Sent, Tally};
use super::latency::RoundTrips;
use super::protocol::{Job, Medium, Reported, Role};
use super::worker::Worker;
use super::{LatencyReport, Plan, Report, Sender};
use crate::process::shutdown::Shutdown;

/// The way of the frames.
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

/// Measures how many frames get through, in a temporary folder that is removed afterwards.
///
/// # Errors
/// When a process cannot be started or fails, or when asked to stop.
pub(crate) fn measure(plan: &Plan, stop: &Shutdown) -> anyhow::Result<Report> {
    let run: Run<Sent, Tally> = run(plan, [Role::Send, Role::Receive], stop)?;
    Ok(Report::new(plan, &run.first, &run.others))
}

/// Measures how long single frames take, in the same way.
///
/// # Errors
/// As for [`measure`].
pub(crate) fn measure_latency(plan: &Plan, stop: &Shutdown) -> anyhow::Result<LatencyReport> {
    let run: Run<RoundTrips, ()> = run(plan, [Role::Ask, Role::Answer], stop)?;
    LatencyReport::new(plan, &run.first, &run.others).context("no frame came back")
}

/// What the processes of a measurement reported.
struct Run<F, O> {
    first: Reported<F>,
    others: Vec<Reported<O>>,
}

/// Sets up the bus or the sockets, and runs the processes.
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
            make_bus(plan, &bus)?;
            let medium = || Medium::Bus { path: bus.clone() };
            let others: Vec<Job> =
                (1..plan.stations).map(|cpu| job(other, medium(), Some(cpu))).collect();
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
            let ports =
                [0, 1].map(|id| format!("memif:{}", spec(plan, "server", id, folder.path())));
            make_bus(plan, &bus)?;
            let _node = Worker::node(&bus, &ports, stop)?;
            let medium = |id| Medium::Memif { spec: spec(plan, "client", id, folder.path()) };
            // Three processes on what may be two CPUs: the scheduler knows best which waits for
            // which.
            run_workers(&job(first, medium(0), None), &[job(other, medium(1), None)], stop)
        }
    }
}

/// Makes the bus: the usual one, or for jumbo frames one that carries them and has room for bursts.
fn make_bus(plan: &Plan, path: &Path) -> anyhow::Result<()> {
    let size = if plan.load.frame > MAX_FRAME { BIG_BUS_SIZE } else { BUS_SIZE };
    BusOptions::new().size(size).shmif(!plan.own_format).open_or_create(path)?;
    Ok(())
}

/// Returns the keys of a memif interface, in the form of `attach`.
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

/// Makes a temporary folder, on a file system in memory if there is one.
fn temporary_folder() -> anyhow::Result<tempfile::TempDir> {
    let builder =
        |parent: &Path| tempfile::Builder::new().prefix("busctl-bench-").tempdir_in(parent);
    builder("/dev/shm".as_ref())
        .or_else(|_| builder(&std::env::temp_dir()))
        .context("cannot make a temporary folder")
}

/// Starts the processes, lets them begin when all are ready, and collects what they report.
fn run_workers<F: DeserializeOwned, O: DeserializeOwned>(
    first: &Job,
    others: &[Job],
    stop: &Shutdown,
) -> anyhow::Result<Run<F, O>> {
    let start = |job| Worker::start(job, stop);
    // The process that acts first is started last: its partner, perhaps a memif server, should be
    // there.
    let mut others = others.iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut first = start(first)?;
    for worker in others.iter_mut().chain([&mut first]) {
        worker.wait_until_ready()?;
    }
    for worker in others.iter_mut().chain([&mut first]) {
        worker.go()?;
    }
    let result = first.result()?;
    others.iter_mut().for_each(Worker::stop);
    let others = others.iter_mut().map(Worker::result).collect::<anyhow::Result<_>>()?;
    Ok(Run { first: result, others })
}
