//! `busctl up`: for interfaces.

use anyhow::bail;

use crate::context::Context;

/// Up interfaces
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl up shmif0")]
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
    bail!("busctl up is not built yet")
}
