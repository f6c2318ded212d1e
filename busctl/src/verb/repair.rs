//! `busctl repair`: frees a bus whose lock holder is gone.

use std::io::Write as _;

use anyhow::anyhow;
use serde::Serialize;
use shmbus::{LockFound, RepairError, RingFound};

use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::misuse::misuse;
use crate::output;

/// Free a bus whose lock holder is gone
#[derive(Debug, clap::Args)]
#[command(
    after_help = "This is for a lock that a rump kernel left. When another station dies with the lock, the next station takes it over, \
                  and no repair is needed; without one, rump kernels wait for it, and repair frees it. While a process that may hold \
                  the lock uses the bus, repair is refused.\n\n\
                  Examples:\n  busctl repair ./lan.bus"
)]
pub(crate) struct Args {
    /// An interface, or the path of a bus with a '/' in it
    #[arg(value_name = "BUS")]
    bus: BusArgument,

    /// Repair even while other processes may hold the lock, and mend the version of the format
    #[arg(long)]
    force: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What was done. The fields are the keys of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether anything was wrong.
    repaired: bool,
    what: String,
    /// Packets on the ring, empty ones included.
    packets: u32,
    /// Processes whose mappings could not be read.
    unseen: usize,
    /// The number that stood where the version does.
    scribbled_version: Option<u32>,
    /// Whether the generation was raised, because a wake-up may have overwritten it.
    generation_raised: bool,
}

/// Repairs the bus.
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
        // A live process uses the bus, or may use it.
        error => misuse(anyhow!("{error} (busctl repair --force {})", path.display())),
    })?;
    let report = Report {
        repaired: repair.lock != LockFound::Free
            || repair.ring != RingFound::Sound
            || repair.scribbled_version.is_some(),
        what: repair.to_string(),
        packets: repair.packets,
        unseen: repair.unseen,
        scribbled_version: repair.scribbled_version,
        generation_raised: repair.generation_raised,
    };
    if args.json {
        output::print_json(&report)?;
    } else {
        writeln!(output::stdout(), "{}: {}", path.display(), report.what)?;
    }
    Ok(())
}
