//! `busctl bench`: measures rates and latencies.

mod sweep;
mod table;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::lab::graph::Measurements;
use anyhow::{Context as _, bail};
use serde::Serialize;

use self::table::Row;
use crate::bench::{
    self, End, EndOptions, LatencyReport, Load, MIN_FRAME, MIN_LATENCY_FRAME, MemifOptions, Plan,
    Report, RxMode, Sender, Topology,
};
use crate::context::Context;
use crate::misuse::OrMisuse as _;
use crate::output;
use crate::process::shutdown::Shutdown;

/// The longest frame over memif in bytes: 65,535 of payload, an Ethernet header and a VLAN tag.
const LONGEST_MEMIF_FRAME: usize = 65_535 + 18;

/// Measure the bus, memif, or both together
///
/// Measures how many frames a second get through, or with --latency, how long a single frame takes.
/// Sender and receivers are separate processes, each on its own CPU where there are enough. Frames
/// carry sequence numbers, so losses are counted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                  busctl bench memif --frame 64 --seconds 3\n  \
                  busctl bench bus --stations 4 --burst 32\n  \
                  busctl bench bus --sweep --rounds 5\n  \
                  busctl bench memif --latency --rx-mode interrupt\n  \
                  busctl bench adapter --count 10000000 --pps 1000000 --json\n  \
                  busctl bench memif --receive-from role=server,id=0,socket=./memif.sock")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_name = "bus|memif|adapter", value_enum, hide_possible_values = true)]
    topology: Topology,

    /// Bytes in a frame, at least 22 (30 with --latency); for frames above 1514 the bus has 16M
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    frame: usize,

    /// Frames in a burst
    #[arg(long, value_name = "N", default_value_t = 256)]
    burst: usize,

    /// Stations on the bus, the sender included
    #[arg(long, value_name = "N", default_value_t = 2)]
    stations: usize,

    /// Seconds to send [default: 3, in tables 0.5]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,

    /// Send N frames, in any time
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Send N frames a second [default: as many as possible]
    #[arg(long, value_name = "N")]
    pps: Option<u64>,

    /// Whether idle receivers poll or sleep: polling or interrupt
    #[arg(long, value_enum, default_value_t = RxMode::Polling, hide_possible_values = true, value_name = "MODE")]
    rx_mode: RxMode,

    /// Measure how long single frames take, one way and round trip
    #[arg(long)]
    latency: bool,

    /// Measure a whole table: frames, bursts, stations, rings, queues, modes
    #[arg(long, conflicts_with_all = ["frame", "burst", "stations", "count", "pps", "rx_mode", "taps", "sender", "rsize", "bsize", "queues", "zero_copy"])]
    sweep: bool,

    /// With --sweep: also draw the table, as an SVG file
    #[arg(long, value_name = "FILE", requires = "sweep")]
    svg: Option<PathBuf>,

    /// With --sweep: also write what --svg draws, with machine, command and day, as a JSON file
    #[arg(long, value_name = "FILE", requires = "sweep")]
    figures: Option<PathBuf>,

    /// Repeat everything N times; print medians with lowest and highest [default: 1, with --sweep
    /// 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// Bus: the receivers are read-only taps
    #[arg(long)]
    taps: bool,

    /// Bus, adapter: the bus is one of our own format, which rump kernels cannot share
    #[arg(long)]
    own_format: bool,

    /// Memif: which side sends, client or server
    #[arg(long, value_enum, default_value_t = Sender::Client, hide_possible_values = true, value_name = "ROLE")]
    sender: Sender,

    /// Memif: descriptors in a ring, as a power of two
    #[arg(long, value_name = "LOG2", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=14))]
    rsize: u8,

    /// Memif: bytes in a buffer; longer frames take several buffers
    #[arg(long, value_name = "BYTES", default_value_t = 2_048, value_parser = clap::value_parser!(u32).range(64..=65_535))]
    bsize: u32,

    /// Memif: queues each way, each with a thread at both ends
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    queues: u8,

    /// Memif: make and read frames in place, without copying payload
    #[arg(long)]
    zero_copy: bool,

    /// Only send: to the bus at a path, or to another program over memif (key=value,... as in
    /// attach)
    #[arg(long, value_name = "BUS|KEYS", conflicts_with_all = ["latency", "sweep", "rounds", "stations", "own_format"])]
    send_to: Option<String>,

    /// Only receive: from such a bus or program (VPP, testpmd), for --seconds from the first frame
    #[arg(long, value_name = "BUS|KEYS", conflicts_with_all = ["send_to", "latency", "sweep", "rounds", "stations", "own_format", "count", "pps"])]
    receive_from: Option<String>,

    /// With --send-to or --receive-from: stay on the N-th CPU, counted from 0
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,

    /// Print the result as JSON; with a table, each measurement when it is done, one per line
    #[arg(long)]
    json: bool,

    /// The body of a process of the measurement
    #[arg(long, hide = true)]
    worker: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// When the arguments do not fit together, or a process of the measurement fails.
pub(crate) fn run(args: &Args, _context: &Context) -> anyhow::Result<()> {
    if let Some(job) = &args.worker {
        return bench::work(job);
    }
    let plan = plan(args).misuse()?;
    if let Some(end) = end(args).misuse()? {
        let report = bench::measure_one_sided(&plan, &end)?;
        report.check()?;
        return if args.json { Ok(output::print_json(&report)?) } else { print(&report) };
    }
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    let plans = match (args.sweep, args.latency) {
        (false, _) => vec![plan],
        (true, false) => sweep::rates(&plan),
        (true, true) => sweep::latencies(&plan),
    };
    let rounds = args.rounds.unwrap_or(if args.sweep { 3 } else { 1 });
    if args.latency {
        measure(args, &plans, rounds, &stop, bench::measure_latency, print_latency)
    } else {
        measure(args, &plans, rounds, &stop, bench::measure, print)
    }
}

/// Measures every plan `rounds` times. A round goes over all plans, so that other load on the
/// machine affects all alike.
fn measure<R: Row + Serialize>(
    args: &Args,
    plans: &[Plan],
    rounds: u32,
    stop: &Shutdown,
    measure: fn(&Plan, &Shutdown) -> anyhow::Result<R>,
    print: fn(&R) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let progress = table::progress(plans.len() as u64 * u64::from(rounds));
    let mut rows: Vec<Vec<R>> = plans.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (plan, row) in plans.iter().zip(&mut rows) {
            let report = measure(plan, stop)?;
            report.check()?;
            if args.json {
                output::print_json(&report)?;
            }
            row.push(report);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    if args.svg.is_some() || args.figures.is_some() {
        let chart = table::chart(&rows, table::name(args.topology));
        let measured = Measurements::of_today(&sweep_command(args, plans, rounds), vec![chart]);
        let write = |file: &Path, text: String| {
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        if let Some(file) = &args.svg {
            write(file, measured.svg())?;
        }
        if let Some(file) = &args.figures {
            write(file, format!("{}\n", serde_json::to_string_pretty(&measured)?))?;
        }
    }
    match &rows[..] {
        _ if args.json => Ok(()),
        [row] if rounds == 1 => print(&row[0]),
        rows => table::print(rows),
    }
}

/// Returns what is typed to measure the same table again.
fn sweep_command(args: &Args, plans: &[Plan], rounds: u32) -> String {
    let mut command = format!("busctl bench {} --sweep", table::name(args.topology));
    for (flag, is_given) in [(" --latency", args.latency), (" --own-format", args.own_format)] {
        if is_given {
            command += flag;
        }
    }
    let seconds = plans.first().map_or(0.0, |plan| plan.load.time.as_secs_f64());
    format!("{command} --rounds {rounds} --seconds {seconds}")
}

fn plan(args: &Args) -> anyhow::Result<Plan> {
    let (longest, place) = match args.topology {
        Topology::Memif => (LONGEST_MEMIF_FRAME, "over memif"),
        Topology::Bus | Topology::Adapter => (shmbus::MAX_BIG_FRAME, "on a bus of any size"),
    };
    let shortest = if args.latency { MIN_LATENCY_FRAME } else { MIN_FRAME };
    if !(shortest..=longest).contains(&args.frame) {
        bail!("--frame {}: frames have {shortest} to {longest} bytes {place}", args.frame);
    }
    if !(1..=16_384).contains(&args.burst) {
        bail!("--burst {}: bursts have 1 to 16384 frames", args.burst);
    }
    if !(2..=256).contains(&args.stations) {
        bail!("--stations {}: there are 2 to 256 stations, the sender included", args.stations);
    }
    if args.stations != 2 && (args.topology != Topology::Bus || args.latency) {
        bail!("--stations {}: only the rates of 'bench bus' can have more than 2", args.stations);
    }
    let seconds =
        args.seconds.unwrap_or(if args.sweep || args.rounds.is_some() { 0.5 } else { 3.0 });
    let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
    let Some(time) = time else { bail!("--seconds {seconds}: it takes a time above 0") };
    if args.count == Some(0) || args.pps == Some(0) {
        bail!("--count and --pps are at least 1");
    }
    if args.taps && (args.topology != Topology::Bus || args.latency) {
        bail!("--taps: only the rates of 'bench bus' can have them; taps do not answer");
    }
    if args.own_format && args.topology == Topology::Memif {
        bail!("--own-format is for 'bench bus' and 'bench adapter'");
    }
    let memif = MemifOptions {
        sender: args.sender,
        rsize: args.rsize,
        bsize: args.bsize,
        queues: args.queues,
        zero_copy: args.zero_copy,
    };
    if args.topology != Topology::Memif && memif != sweep::DEFAULT_MEMIF {
        bail!("--sender, --rsize, --bsize, --queues and --zero-copy are for 'bench memif'");
    }
    if args.topology == Topology::Memif && args.send_to.is_none() && args.receive_from.is_none() {
        memif.check_frame(args.frame)?;
    }
    if args.queues > 1 && (args.count.is_some() || args.pps.is_some() || args.latency) {
        bail!("--queues {}: --count, --pps and --latency are for one queue", args.queues);
    }
    let load =
        Load { frame: args.frame, burst: args.burst, time, count: args.count, pps: args.pps };
    let options = EndOptions { rx_mode: args.rx_mode, taps: args.taps, memif };
    let (stations, own_format) = (args.stations, args.own_format);
    Ok(Plan { topology: args.topology, load, stations, own_format, options })
}

/// Returns the end of a one-sided measurement, if one is asked for.
fn end(args: &Args) -> anyhow::Result<Option<End>> {
    let cpu = args.cpu;
    let end = match (&args.send_to, &args.receive_from) {
        (Some(place), _) => Some(End::Sender { place: place.clone(), cpu }),
        (None, Some(place)) => Some(End::Receiver { place: place.clone(), cpu }),
        (None, None) => None,
    };
    if end.is_some() && args.topology == Topology::Adapter {
        bail!(
            "--send-to and --receive-from: 'bench bus' or 'bench memif' has one end; an adapter has two"
        );
    }
    if end.is_none() && cpu.is_some() {
        bail!("--cpu is for --send-to and --receive-from: with both ends, each gets its own CPU");
    }
    Ok(end)
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let gigabits = |pps: f64| pps * report.frame as f64 * 8.0 / 1e9;
    writeln!(
        out,
        "{}: frames of {} bytes, bursts of {}, {} stations, {:.2} s",
        table::name(report.bench),
        report.frame,
        report.burst,
        report.stations,
        report.seconds
    )?;
    for (what, frames, pps, cpu) in [
        ("sent", report.sent, report.tx_pps, report.tx_cpu_seconds),
        ("received", report.received, report.rx_pps, report.rx_cpu_seconds),
    ] {
        if let (Some(frames), Some(pps), Some(cpu)) = (frames, pps, cpu) {
            writeln!(
                out,
                "  {what:<9} {frames:>12}  {:>8.3} M/s  {:>7.2} Gbit/s  {cpu:>6.2} s of CPU",
                pps / 1e6,
                gigabits(pps)
            )?;
        }
    }
    if let Some(lost) = report.lost {
        writeln!(out, "  lost      {lost:>12}")?;
    }
    if report.misordered > 0 {
        writeln!(out, "  misordered {:>11}", report.misordered)?;
    }
    Ok(())
}

fn print_latency(report: &LatencyReport) -> anyhow::Result<()> {
    let mut out = output::stdout();
    writeln!(
        out,
        "{}: single frames of {} bytes, {}, {:.2} s: {} came back, {} did not",
        table::name(report.bench),
        report.frame,
        table::mode(report.rx_mode),
        report.seconds,
        report.round_trips,
        report.lost
    )?;
    for (what, [min, p50, p99, max]) in [
        (
            "there",
            [
                report.oneway_min_us,
                report.oneway_p50_us,
                report.oneway_p99_us,
                report.oneway_max_us,
            ],
        ),
        ("and back", [report.rtt_min_us, report.rtt_p50_us, report.rtt_p99_us, report.rtt_max_us]),
    ] {
        writeln!(
            out,
            "  {what:<9} min {min:>8.2} µs   median {p50:>8.2} µs   99 % {p99:>8.2} µs   max {max:>9.2} µs"
        )?;
    }
    Ok(())
}
