//! `busctl stop`: ends what `--detach` started.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use crate::context::Context;
use crate::detached::{DetachedName, Records, Running};
use crate::output;
use crate::process::identity::FoundProcess;
use crate::process::shutdown::Shutdown;
use crate::quantity;

/// End what --detach started, and wait until it has ended
///
/// 'busctl list' shows the names. A process that has not ended some seconds after it was asked to is
/// killed; what a killed one leaves, the next one cleans up.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 1: nothing of that name runs; the others are ended all the same.\n\n\
                        Examples:\n  \
                        busctl stop node\n  \
                        busctl stop host-lan attach-lan\n  \
                        busctl stop --all"
)]
pub(crate) struct Args {
    /// The names of the processes
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<DetachedName>,

    /// End all of them
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Kill a process that has not ended after SEC seconds
    #[arg(short, long, value_name = "SEC", default_value = "10", value_parser = parse_seconds)]
    timeout: Duration,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    quantity::seconds(text)
        .filter(|timeout| *timeout <= Duration::from_hours(24))
        .ok_or_else(|| "it takes a number of seconds up to 86400, such as 10 or 0.5".to_owned())
}

/// Ends the processes and waits for that.
///
/// # Errors
/// When there is none of a name, or one cannot be ended. The others are ended all the same.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let records = context.detached_records()?;
    let stop = Shutdown::on_signals()?;
    let mut troubles = Vec::new();
    let mut running = Vec::new();
    if args.all {
        running = records.all()?;
    }
    for name in &args.names {
        match records.find(name)? {
            Some(process) => running.push(process),
            None => troubles.push(missing(name, &records)?),
        }
    }
    let mut asked = Vec::new();
    for process in &running {
        match ask(process, &records) {
            Ok(found) => asked.extend(found.map(|found| (process, found))),
            Err(trouble) => troubles.push(trouble),
        }
    }
    let deadline = Instant::now() + args.timeout;
    for (process, found) in &asked {
        wait(process, found, deadline, &stop)?;
    }
    // What a killed one left.
    records.all()?;
    let last = troubles.pop();
    for trouble in troubles {
        output::error(&format!("{trouble:#}"));
    }
    last.map_or(Ok(()), Err)
}

fn missing(name: &DetachedName, records: &Records) -> anyhow::Result<anyhow::Error> {
    let running = records.all()?;
    let hint =
        port::suggest::hint(name.as_str(), running.iter().map(|running| running.name.as_str()));
    Ok(anyhow!("nothing named '{name}' runs detached{hint}; 'busctl list' shows what does"))
}

/// Asks the process to end; returns none when it has ended.
fn ask(process: &Running, records: &Records) -> anyhow::Result<Option<FoundProcess>> {
    let Running { name, process: identity, .. } = process;
    let cannot = || format!("cannot stop {name}, process {}", identity.pid());
    let Some(found) = identity.find().with_context(cannot)? else {
        // Its record is locked as long as it lives.
        if records.find(name)?.is_some_and(|there| there.process == *identity) {
            bail!("{}: it lives in another pid namespace; stop it there", cannot());
        }
        return Ok(None);
    };
    found.terminate().with_context(cannot)?;
    Ok(Some(found))
}

/// Waits until the process has ended; kills it at the deadline.
///
/// # Errors
/// When the user does not want to wait.
fn wait(
    process: &Running,
    found: &FoundProcess,
    deadline: Instant,
    stop: &Shutdown,
) -> anyhow::Result<()> {
    let name = &process.name;
    let left = deadline.saturating_duration_since(Instant::now());
    if stop.wait([found.as_fd()], Some(left)) {
        bail!("interrupted: {name} may still run");
    }
    if !found.has_ended() {
        output::warn(format_args!("{name} has not ended in time: it is killed"));
        found.kill()?;
        if stop.wait([found.as_fd()], None) {
            bail!("interrupted: {name} may still run");
        }
    }
    Ok(())
}
