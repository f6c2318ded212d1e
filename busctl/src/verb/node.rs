//! `busctl node`: runs the memif and tap interfaces of the registry.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::context::Context;
use crate::node_threads::Threads;
use crate::output;
use crate::process::sd_notify::SdNotify;
use crate::process::shutdown::Shutdown;
use crate::reconciler::Reconciler;

/// How old counters may become.
const TICK: Duration = Duration::from_millis(100);

/// Run every memif and tap interface that is up and plugged in, until stopped
///
/// Changes are followed live: create, linkstr, up, down, set and destroy act within a second. What goes wrong with an interface
/// is shown by 'busctl show' and tried again; the others go on. Prints 'ready' when it can be used.
///
/// A supervisor such as systemd is told when it is ready, alive and about to end (systemd: `Type=notify`).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl socket add 1 ./memif.sock && busctl create memif1/0\n  \
                        busctl linkstr memif1/0 ./lan.bus && busctl up memif1/0\n  \
                        busctl node\n  \
                        busctl node --threads 2 --cpus 2-3")]
pub(crate) struct Args {
    /// Who serves the interfaces
    #[command(flatten)]
    pub threads: Threads,
}

/// Runs the interfaces until it is asked to stop.
///
/// # Errors
/// When the registry cannot be used, or no thread or descriptor is to be had.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    allow_many_descriptors();
    let mut keeper = Reconciler::start(context.registry()?, args.threads.options())?;
    let mut supervisor = SdNotify::from_environment();
    keeper.pass();
    writeln!(output::stdout(), "ready")?;
    output::stdout().flush()?;
    supervisor.ready();
    while !stop.wait(keeper.descriptors(), Some(TICK)) {
        keeper.pass();
        supervisor.alive(|| keeper.beats());
    }
    supervisor.stopping();
    keeper.close();
    Ok(())
}

/// An interface takes some descriptors, and the usual limit of 1,024 is one for programs that use select(2).
fn allow_many_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::info!(%error, "the limit of open files stays as it is");
    }
}
