//! `busctl set`: changes settings.

use anyhow::bail;

use crate::context::Context;

/// Change settings of an interface
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl set shmif0 promisc=on")]
pub struct Args {
    /// The interface, such as shmif0
    #[arg(value_name = "IFNAME")]
    pub interface: String,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl set is not built yet")
}
