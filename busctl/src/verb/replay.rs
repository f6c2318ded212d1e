//! `busctl replay`: puts the frames of a pcap file on a bus.

use anyhow::bail;

use crate::context::Context;

/// Put the frames of a pcap file on a bus
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl replay capture.pcap ./lan.bus --pps 1000")]
pub struct Args {
    /// The pcap file
    #[arg(value_name = "FILE")]
    pub file: std::path::PathBuf,

    /// An interface name, or a path containing a slash
    #[arg(value_name = "BUS")]
    pub bus: String,

    /// Frames a second [default: as fast as it goes]
    #[arg(long, value_name = "N")]
    pub pps: Option<u64>,

    /// How often to play the file
    #[arg(long = "loop", value_name = "N", default_value_t = 1)]
    pub rounds: u64,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl replay is not built yet")
}
