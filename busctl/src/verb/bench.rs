//! `busctl bench`: measures.

use anyhow::bail;

use crate::context::Context;

/// Measure the bus, memif, or both together
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl bench memif --frame 64 --seconds 3")]
pub struct Args {
    /// What to measure
    #[arg(value_name = "bus|memif|adapter")]
    pub subject: String,

    /// Bytes in a frame
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub frame: usize,

    /// Frames handed over at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub burst: usize,

    /// Stations, the sender included
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub stations: usize,

    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl bench is not built yet")
}
