//! `busctl attach`: joins ports to a bus without a registry.

use anyhow::bail;

use crate::context::Context;

/// Join ports to a bus until stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl attach ./lan.bus memif:role=server,id=0,socket=./memif.sock")]
pub struct Args {
    /// An interface name, or a path containing a slash
    #[arg(value_name = "BUS")]
    pub bus: String,

    /// Ports: kind, colon, key=value pairs with commas between
    #[arg(value_name = "PORT", required = true)]
    pub ports: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl attach is not built yet")
}
