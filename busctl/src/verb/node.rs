//! `busctl node`: runs the memif, tap and sock interfaces of the registry.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::context::Context;
use crate::detached::{Detach, Request};
use crate::node_threads::Threads;
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::reconciler::Reconciler;

/// How old counters may become.
const TICK: Duration = Duration::from_millis(100);

/// Run every memif, tap and sock interface that is up and plugged in, until stopped
///
/// A node follows changes live: create, linkstr, up, down, set and destroy act within a second.
/// When an interface fails, 'busctl show' says why, the node tries again, and the other interfaces
/// continue. It prints 'ready' when it can be used.
///
/// The node notifies a supervisor such as systemd when it is ready, alive and about to end
/// (systemd: Type=notify). With -d it runs in the background instead.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl socket add 1 ./memif.sock && busctl create memif1/0\n  \
                        busctl linkstr memif1/0 ./lan.bus && busctl up memif1/0\n  \
                        busctl node\n  \
                        busctl node --threads 2 --cpus 2-3\n  \
                        busctl node -d && busctl stop node")]
pub(crate) struct Args {
    /// The threads that serve the interfaces
    #[command(flatten)]
    threads: Threads,

    /// Whether it runs in the background
    #[command(flatten)]
    detach: Detach,
}

impl Args {
    /// Returns what is to run detached, if that is asked for.
    pub(crate) fn detached(&self) -> Option<Request> {
        self.detach.request("node", None)
    }
}

/// Runs the interfaces until it is asked to stop.
///
/// # Errors
/// When the registry cannot be used, or no thread or descriptor is available.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    allow_many_descriptors();
    let mut reconciler = Reconciler::start(context.registry()?, args.threads.options())?;
    let mut service = context.service();
    reconciler.pass();
    service.ready()?;
    writeln!(output::stdout(), "ready")?;
    output::stdout().flush()?;
    while !stop.wait(reconciler.descriptors(), Some(TICK)) {
        reconciler.pass();
        service.alive(|| reconciler.beats());
    }
    service.stopping();
    reconciler.close();
    Ok(())
}

/// Raises the limit of open files. Each interface takes several descriptors, and the usual limit of
/// 1,024 is for programs that use select(2).
fn allow_many_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::info!(%error, "the limit of open files stays as it is");
    }
}
