//! `busctl up`: sets interfaces up.

use crate::context::Context;
use crate::registry::{InterfaceName, apply};

/// Set interfaces up
///
/// The state is recorded. When a process runs the interface, busctl waits up to 1 s for it to
/// follow.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl up shmif0\n  busctl up shmif0 shmif1")]
pub(crate) struct Args {
    /// The interfaces, which must be plugged into a bus
    #[arg(value_name = "IFNAME", required = true)]
    interfaces: Vec<InterfaceName>,
}

/// Sets the interfaces up, all or none.
///
/// # Errors
/// When one does not exist or has no bus, or the process that runs it does not follow.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    apply::change(&context.registry()?, &args.interfaces, |record| {
        record.bus()?;
        record.up = true;
        Ok(())
    })
}
