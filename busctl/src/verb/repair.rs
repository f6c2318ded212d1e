//! `busctl repair`: frees a bus whose lock holder is gone.

use std::io::Write as _;

use anyhow::anyhow;
use serde::Serialize;
use shmbus::{RepairError, RingFound};

use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::misuse::misuse;
use crate::output;

/// Free a bus whose lock holder is gone
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A lock that one of our stations died with is taken over by the next one, and needs no repair. This is for locks \
                  that a rump kernel left. While other processes use the bus it is refused.\n\n\
                  Examples:\n  busctl repair ./lan.bus"
)]
pub(crate) struct Args {
    /// An interface name, or a path containing a slash
    #[arg(value_name = "BUS")]
    pub bus: BusArgument,

    /// Even while other processes use the bus
    #[arg(long)]
    pub force: bool,

    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

/// What was done. The fields are the keys of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether anything had to be done.
    repaired: bool,
    what: String,
    /// Packets on the ring, empty ones included.
    packets: u32,
    /// Processes that could not be looked into.
    unseen: usize,
}

/// Runs the verb.
///
/// # Errors
/// When the bus cannot be opened, or other processes use it.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let path = match &args.bus {
        BusArgument::Path(path) => path.clone(),
        name @ BusArgument::Interface(_) => name.path(&context.registry()?)?,
    };
    let repair = shmbus::repair(&path, args.force).map_err(|error| match error {
        RepairError::Open(error) => error.into(),
        error @ (RepairError::Repairing { .. } | RepairError::Busy { .. }) => error.into(),
        // A live user of the bus is in the way, or may be.
        error => misuse(anyhow!("{error} (busctl repair --force {})", path.display())),
    })?;
    let report = Report {
        repaired: repair.lock != shmbus::LockFound::Free || repair.ring != RingFound::Sound,
        what: repair.to_string(),
        packets: repair.packets,
        unseen: repair.unseen,
    };
    if args.json {
        output::print_json(&report)?;
    } else {
        writeln!(output::stdout(), "{}: {}", path.display(), report.what)?;
    }
    Ok(())
}
