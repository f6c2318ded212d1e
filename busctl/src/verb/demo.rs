//! `busctl demo`: everything at once.

mod child;
mod peers;
mod progress;
mod report;

use std::io;
use std::time::Instant;

use anyhow::{Context as _, bail};
use shmbus::Bus;

use self::peers::Peers;
use self::progress::Progress;
use self::report::{Ping, Recording, Report};
use crate::bus_view::BusView;
use crate::context::Context;
use crate::process::shutdown::Shutdown;

/// Show everything at once: hosts on a bus and behind memif
///
/// A node with two memif hosts, and a host on the bus itself, ping each other. All of them are
/// processes without privileges in a temporary folder. The frames on the bus are kept as a pcap
/// file; nothing else is left behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0: every ping was answered.\n\n\
                        Examples:\n  \
                        busctl demo\n  \
                        tcpdump -r \"$(busctl demo --json | jq -r .pcap)\"")]
pub(crate) struct Args {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the demo.
///
/// # Errors
/// When a part of it fails, when it is interrupted, or when a ping was not answered.
pub(crate) fn run(args: &Args, _context: &Context) -> anyhow::Result<()> {
    let stop = Shutdown::on_signals()?;
    let recording = Recording::new()?;
    let begin = Instant::now();
    let outcome = run_pings(&recording, &stop);
    let (pings, bus) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Err(with_capture(error, recording)),
    };
    let report = Report::new(pings, bus, recording.keep()?, begin.elapsed())?;
    report.print(args.json)?;
    match report.unanswered() {
        0 => Ok(()),
        count => bail!("{count} pings were not answered"),
    }
}

/// Adds the path of the capture, which shows what happened before the error.
fn with_capture(error: anyhow::Error, recording: Recording) -> anyhow::Error {
    match recording.keep() {
        Ok(Some(pcap)) => {
            error.context(format!("the demo failed (its frames are in {})", pcap.display()))
        }
        _ => error.context("the demo failed"),
    }
}

/// Starts all processes, and lets each host ping each other. Afterwards all processes have ended,
/// and the folder is gone.
fn run_pings(recording: &Recording, stop: &Shutdown) -> anyhow::Result<(Vec<Ping>, BusView)> {
    let folder = tempfile::Builder::new()
        .prefix("busctl-demo-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let bus = folder.path().join(peers::BUS);
    Bus::open_or_create(&bus, 0o600)?;
    let progress = Progress::new(peers::SIZE + peers::pairs().count());
    let mut processes = Peers::start_all(folder.path(), recording.path(), stop, &progress)?;
    let mut pings = Vec::new();
    for (from, to) in peers::pairs() {
        progress.step(&format!("{} pings {}", peers::HOSTS[from].name, peers::HOSTS[to].name));
        pings.push(processes.ping(from, to, stop)?);
    }
    // Read now: the bus is removed with the first process that ends.
    let view = BusView::read(&bus)?;
    processes.stop_all()?;
    progress.finish();
    match folder.close() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context("cannot remove the temporary folder")
        }
        _ => Ok((pings, view)),
    }
}
