//! Setting up a measurement and running it.

use anyhow::Context as _;
use clap::ValueEnum;
use shmbus::Bus;

use super::frames::{Sent, Tally};
use super::worker::{Job, Medium, Role, Worker};
use super::{Plan, Report};

/// Which way the frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// From one station on a bus to the others
    Bus,
    /// From one process to another over memif
    Memif,
    /// From a memif client over a node's bus to another memif client
    Adapter,
}

/// Runs `plan` in a temporary folder, which is gone afterwards.
///
/// # Errors
/// When a process of it cannot be started or fails.
pub fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let folder = temporary_folder()?;
    let bus = folder.path().join("bus");
    let socket = folder.path().join("memif");
    let memif = |role, id| Medium::Memif { spec: format!("role={role},id={id},socket={}", socket.display()) };
    let job = |role, medium, cpu| Job { role, medium, load: plan.load, cpu };
    match plan.subject {
        Subject::Bus => {
            Bus::open_or_create(&bus, 0o600)?;
            let medium = || Medium::Bus { path: bus.clone() };
            let receivers: Vec<Job> =
                (1..plan.stations).map(|cpu| job(Role::Receive, medium(), Some(cpu))).collect();
            run(plan, "bus", &job(Role::Send, medium(), Some(0)), &receivers)
        }
        Subject::Memif => {
            let receiver = job(Role::Receive, memif("server", 0), Some(1));
            run(plan, "memif", &job(Role::Send, memif("client", 0), Some(0)), &[receiver])
        }
        Subject::Adapter => {
            let ports = [0, 1].map(|id| format!("memif:role=server,id={id},socket={}", socket.display()));
            let _node = Worker::node(&bus, &ports)?;
            // Three processes on what may be two processors: the system knows best who waits for whom.
            let receiver = job(Role::Receive, memif("client", 1), None);
            run(plan, "adapter", &job(Role::Send, memif("client", 0), None), &[receiver])
        }
    }
}

/// On a file system in memory, if there is one.
fn temporary_folder() -> anyhow::Result<tempfile::TempDir> {
    let builder =
        |parent: &std::path::Path| tempfile::Builder::new().prefix("busctl-bench-").tempdir_in(parent);
    builder("/dev/shm".as_ref())
        .or_else(|_| builder(&std::env::temp_dir()))
        .context("cannot make a temporary folder")
}

fn run(plan: &Plan, bench: &'static str, sender: &Job, receivers: &[Job]) -> anyhow::Result<Report> {
    let mut receivers = receivers.iter().map(Worker::start).collect::<anyhow::Result<Vec<_>>>()?;
    let mut sender = Worker::start(sender)?;
    for worker in receivers.iter_mut().chain([&mut sender]) {
        worker.wait_until_ready()?;
    }
    for worker in receivers.iter_mut().chain([&mut sender]) {
        worker.go()?;
    }
    let sent: Sent = sender.result()?;
    receivers.iter_mut().for_each(Worker::stop);
    let tallies = receivers.iter_mut().map(Worker::result).collect::<anyhow::Result<Vec<Tally>>>()?;
    let rate = |frames: u64, seconds: f64| if seconds > 0.0 { frames as f64 / seconds } else { 0.0 };
    let seconds = sent.time.as_secs_f64();
    Ok(Report {
        bench,
        frame: plan.load.frame,
        burst: plan.load.burst,
        stations: plan.stations,
        seconds,
        sent: sent.frames,
        received: tallies.iter().map(|tally| tally.received).sum(),
        lost: tallies.iter().map(|tally| tally.lost(sent.frames)).sum(),
        misordered: tallies.iter().map(|tally| tally.misordered).sum(),
        tx_pps: rate(sent.frames, seconds).round(),
        rx_pps: tallies
            .iter()
            .map(|tally| rate(tally.received, tally.time.as_secs_f64()))
            .sum::<f64>()
            .round(),
    })
}
