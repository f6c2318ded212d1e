//! `busctl bench`: measures.

use std::io::Write as _;
use std::time::Duration;

use anyhow::bail;

use crate::bench::{self, Load, MIN_FRAME, Plan, Report, Subject};
use crate::context::Context;
use crate::exit::OrMisuse as _;
use crate::output;

/// Measure the bus, memif, or both together
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Sender and receivers are processes of their own. Frames carry sequence numbers: what is lost is counted.\n\n\
                  Examples:\n  \
                  busctl bench memif --frame 64 --seconds 3\n  \
                  busctl bench bus --stations 4 --burst 32\n  \
                  busctl bench adapter --count 10000000 --pps 1000000 --json"
)]
pub struct Args {
    /// What to measure
    #[arg(value_name = "bus|memif|adapter", value_enum, hide_possible_values = true)]
    pub subject: Subject,

    /// Bytes in a frame, at least 22
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub frame: usize,

    /// Frames handed over at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub burst: usize,

    /// Stations on the bus, the sender included
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub stations: usize,

    /// How long to send
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,

    /// Send N frames, whatever time it takes
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,

    /// Send N frames a second [default: as many as possible]
    #[arg(long, value_name = "N")]
    pub pps: Option<u64>,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    /// The body of a process of the measurement
    #[arg(long, hide = true)]
    pub worker: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// When the figures make no sense, or a process of the measurement fails.
pub fn run(args: &Args, _context: &Context) -> anyhow::Result<()> {
    if let Some(job) = &args.worker {
        return bench::work(job);
    }
    let plan = plan(args).misuse()?;
    let report = bench::measure(&plan)?;
    if args.json {
        output::print_json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(())
}

fn plan(args: &Args) -> anyhow::Result<Plan> {
    let longest = if args.subject == Subject::Memif { 65_535 } else { shmbus::MAX_FRAME };
    if !(MIN_FRAME..=longest).contains(&args.frame) {
        bail!("--frame {}: frames have {MIN_FRAME} to {longest} bytes here", args.frame);
    }
    if !(1..=16_384).contains(&args.burst) {
        bail!("--burst {}: bursts have 1 to 16384 frames", args.burst);
    }
    if !(2..=256).contains(&args.stations) {
        bail!("--stations {}: there are 2 to 256 stations, the sender included", args.stations);
    }
    if args.stations != 2 && args.subject != Subject::Bus {
        bail!("--stations {}: only 'bench bus' can have more than 2", args.stations);
    }
    let time = Duration::try_from_secs_f64(args.seconds).ok().filter(|time| !time.is_zero());
    let Some(time) = time else { bail!("--seconds {}: this is no time to send for", args.seconds) };
    if args.count == Some(0) || args.pps == Some(0) {
        bail!("--count and --pps are at least 1");
    }
    let load = Load { frame: args.frame, burst: args.burst, time, count: args.count, pps: args.pps };
    Ok(Plan { subject: args.subject, load, stations: args.stations })
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let gigabits = |pps: f64| pps * report.frame as f64 * 8.0 / 1e9;
    writeln!(
        out,
        "{}: frames of {} bytes, bursts of {}, {} stations, {:.2} s",
        report.bench, report.frame, report.burst, report.stations, report.seconds
    )?;
    writeln!(
        out,
        "  sent      {:>12}  {:>8.3} M/s  {:>7.2} Gbit/s",
        report.sent,
        report.tx_pps / 1e6,
        gigabits(report.tx_pps)
    )?;
    writeln!(
        out,
        "  received  {:>12}  {:>8.3} M/s  {:>7.2} Gbit/s",
        report.received,
        report.rx_pps / 1e6,
        gigabits(report.rx_pps)
    )?;
    writeln!(out, "  lost      {:>12}", report.lost)?;
    if report.misordered > 0 {
        writeln!(out, "  misordered {:>11}", report.misordered)?;
    }
    Ok(())
}
