//! `busctl linkstr`: plugs an interface into a bus.

use anyhow::bail;

use crate::context::Context;

/// Plug an interface into a bus
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl linkstr shmif0 ./lan.bus")]
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
    bail!("busctl linkstr is not built yet")
}
