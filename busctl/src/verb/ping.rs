//! `busctl ping`: asks a host on the bus for echoes.

use anyhow::bail;

use crate::context::Context;

/// Ping a host on the bus
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 3")]
pub struct Args {
    /// An interface name, or a path containing a slash
    #[arg(value_name = "BUS")]
    pub bus: String,

    /// Whom to ping
    #[arg(value_name = "ADDR")]
    pub target: std::net::IpAddr,

    /// Our own address on the bus
    #[arg(long, value_name = "ADDR/LEN")]
    pub from: String,

    /// Stop after N requests
    #[arg(short, long, value_name = "N")]
    pub count: Option<u64>,

    /// Seconds between requests
    #[arg(short, long, value_name = "SEC", default_value_t = 1.0)]
    pub interval: f64,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// Always: it is not built yet.
pub fn run(_args: &Args, _context: &Context) -> anyhow::Result<()> {
    bail!("busctl ping is not built yet")
}
