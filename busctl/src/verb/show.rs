//! `busctl show`: shows interfaces and buses.

use anyhow::bail;

use crate::context::Context;

/// Show interfaces, or a bus
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl show")]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl show is not built yet")
}
