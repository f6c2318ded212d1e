//! `busctl host`: a small IP host on a bus.

use anyhow::bail;

use crate::context::Context;

/// Be a small IP host on the bus until stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl host ./lan.bus 10.0.0.1/24")]
pub struct Args {
    /// An interface name, or a path containing a slash
    #[arg(value_name = "BUS")]
    pub bus: String,

    /// Its addresses
    #[arg(value_name = "ADDR/LEN", required = true)]
    pub addresses: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl host is not built yet")
}
