//! `busctl dump`: prints or saves what is on a bus.

use anyhow::bail;

use crate::context::Context;

/// Print the frames on a bus, or save them as a pcap file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl dump ./lan.bus")]
pub struct Args {
    /// An interface name, or a path containing a slash
    #[arg(value_name = "BUS")]
    pub bus: String,

    /// Print the header of the bus only
    #[arg(short = 'H', long)]
    pub header: bool,

    /// Write a pcap file; - is stdout
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<std::path::PathBuf>,

    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,

    /// Stop after N frames
    #[arg(short, long, value_name = "N")]
    pub count: Option<u64>,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl dump is not built yet")
}
