//! `busctl create`: makes an interface.

use anyhow::bail;

use crate::context::Context;

/// Make an interface and print its name
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl create")]
pub struct Args {
    /// What to make: shmif, or a name such as shmif0; then key=value settings
    #[arg(value_name = "NAME|KEY=VALUE")]
    pub words: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl create is not built yet")
}
