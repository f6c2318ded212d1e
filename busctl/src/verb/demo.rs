//! `busctl demo`: everything at once.

use anyhow::bail;

use crate::context::Context;

/// Show everything at once, in a temporary folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl demo")]
pub struct Args {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl demo is not built yet")
}
