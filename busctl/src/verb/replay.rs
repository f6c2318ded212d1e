//! `busctl replay`: puts the frames of a capture on a bus.

mod batch;
mod pacing;
mod progress;
mod receiver_pace;
mod receivers;
mod recording;
mod source;
mod timetable;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use capture::LinkType;
use clap::ValueHint;
use serde::Serialize;
use shmbus::MAX_BIG_FRAME;

use self::batch::Batch;
use self::pacing::{Pacing, Speed};
use self::progress::Progress;
use self::receiver_pace::{RING_TIME, on_ring};
use self::receivers::{Losses, REPORTING, Receivers};
use self::source::{Filled, Skipped, Source};
use crate::bus_argument::BusArgument;
use crate::bus_attachment::BusAttachment;
use crate::context::Context;
use crate::filter_words;
use crate::misuse::{OrMisuse as _, misuse};
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::quantity::counted;
use crate::registry::runner::POLL_INTERVAL;

/// Put the frames of a capture on a bus
///
/// FILE is pcap or pcapng, and may be compressed by gzip or zstd. The frames are sent in order: at
/// the rate of --pps or --mbit, as they were recorded (--speed 1), or else as fast as stations that
/// are awake keep up with; those of a live pipe at once. A bus does not wait for its readers, so
/// --top-speed, which is as fast as the bus takes frames, makes slower ones lose frames.
///
/// Frames that the bus does not carry are skipped and counted: those that are longer than its limit
/// (1,514 bytes on a bus that rump kernels can share), shorter than an Ethernet header, or of
/// another link type. Packets of Linux's interface "any" get an Ethernet header.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl replay capture.pcap ./lan.bus\n  \
                        busctl replay capture.pcap ./lan.bus --speed 1\n  \
                        busctl replay capture.pcap shmif0 --pps 1000 --loop 10\n  \
                        busctl dump ./one.bus -f -w - | busctl replay - ./other.bus")]
pub(crate) struct Args {
    /// The capture; - is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// An interface, or the path of a bus with a '/' in it
    #[arg(value_name = "BUS", value_hint = ValueHint::FilePath)]
    bus: BusArgument,

    /// Send only the frames that match, in the language of tcpdump, pcap-filter(7): 'tcp port 80'
    #[arg(value_name = "FILTER")]
    filter: Vec<OsString>,

    /// Read the filter from FILE, where '#' begins a comment
    #[arg(short = 'F', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    filter_file: Option<PathBuf>,

    /// Send FACTOR times as fast as recorded; 1 is as recorded
    #[arg(long, value_name = "FACTOR", group = "rate", value_parser = positive)]
    speed: Option<f64>,

    /// Send N frames a second [default: as fast as receivers keep up with]
    #[arg(long, value_name = "N", group = "rate", value_parser = clap::value_parser!(u64).range(1..))]
    pps: Option<u64>,

    /// Send N million bits a second, of frames without preamble and check sequence
    #[arg(long, value_name = "N", group = "rate", value_parser = positive)]
    mbit: Option<f64>,

    /// Send as fast as the bus takes frames; slower receivers lose some
    #[arg(short, long, alias = "topspeed", group = "rate")]
    top_speed: bool,

    /// Play the file N times
    #[arg(long = "loop", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Reads a number above 0, with digits behind the point if need be.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "not a number above 0".to_owned())
}

impl Args {
    fn speed(&self) -> Speed {
        match *self {
            Self { speed: Some(factor), .. } => Speed::Recorded(factor),
            Self { pps: Some(pps), .. } => Speed::Frames(pps),
            Self { mbit: Some(mbit), .. } => Speed::Bits(mbit * 1e6),
            Self { top_speed: true, .. } => Speed::Top,
            _ => Speed::Receivers,
        }
    }
}

/// Replays FILE until its end or until stopped.
///
/// # Errors
/// When FILE is no capture or BUS no bus; when the bus stays busy; when FILE is damaged further on.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let about_file = || format!("cannot replay {}", args.file.display());
    let stop = Shutdown::on_signals()?;
    let filter =
        filter_words::compile(&args.filter, args.filter_file.as_ref(), LinkType::Ethernet)?;
    let mut source =
        Source::open(&args.file, args.rounds, filter).with_context(about_file).misuse()?;
    let mut batch = Batch::default();
    // Before anything is changed: a file that is no capture fails at its first frame.
    let mut filled = loop {
        let filled = source.fill(&mut batch, MAX_BIG_FRAME).with_context(about_file);
        match filled {
            Ok(Filled::SoFar) if batch.is_empty() => {
                if stop.wait([source.as_fd()], None) {
                    return report(args, &Sent::default(), &source.skipped(), None);
                }
            }
            Err(error) if batch.is_empty() => return Err(misuse(error)),
            filled => break filled,
        }
    };
    let mut station = BusAttachment::join(&args.bus, context)?;
    let path = args.bus.path(&context.registry()?)?;
    let receivers = Receivers::of(&path);
    let mut progress = Progress::new(source.size());

    let begin = Instant::now();
    let mut pacing = Pacing::new(args.speed(), begin);
    let mut sent = Sent { longest: station.max_frame(), ..Sent::default() };
    let mut destroyed = Ok(());
    while !stop.requested() {
        destroyed = station.follow();
        if destroyed.is_err() {
            break;
        }
        sent.longest = station.max_frame();
        if batch.is_empty() {
            if !matches!(filled, Ok(Filled::SoFar)) {
                break;
            }
            filled = source.fill(&mut batch, sent.longest).with_context(about_file);
            if batch.is_empty() && matches!(filled, Ok(Filled::SoFar)) {
                // A process that changes the interface waits for 1 s.
                let _ = stop.wait([source.as_fd()], Some(POLL_INTERVAL));
            }
            continue;
        }
        let ring = station.bus_size();
        let due = match pacing.due(&batch, ring, Instant::now()) {
            Ok(due) => due,
            Err(pause) => {
                let _ = stop.sleep(pause.min(POLL_INTERVAL));
                continue;
            }
        };
        let frames = batch.frames().take(due);
        let count = frames.clone().count();
        let fitting = frames.filter(|frame| frame.len() <= sent.longest);
        let on_ring = fitting.clone().map(on_ring).sum();
        let before = sent.frames;
        station
            .send_burst(fitting.clone())
            .with_context(|| format!("stopped behind frame {} of the replay", sent.frames))?;
        sent.frames += fitting.clone().count() as u64;
        let bytes = fitting.map(|frame| frame.len() as u64).sum::<u64>();
        sent.bytes += bytes;
        sent.ring_turns += on_ring as f64 / ring as f64;
        pacing.sent(count, bytes, on_ring);
        let fitted = usize::try_from(sent.frames - before).unwrap_or(count);
        source.count_long(count - fitted);
        progress.advance(count, bytes);
        batch.take(count);
    }
    progress.finish();
    sent.time = begin.elapsed();
    let losses = receivers.any().then(|| {
        // What is on the ring at the end may still be read.
        if sent.ring_turns >= LOSSLESS {
            let _ = stop.sleep(REPORTING);
        }
        receivers.losses(&Receivers::of(&path))
    });
    report(args, &sent, &source.skipped(), losses.as_ref())?;
    destroyed?;
    filled.map(|_| ())
}

/// A replay that fills less of the ring overruns no receiver by itself.
const LOSSLESS: f64 = 0.5;

/// What was sent.
#[derive(Default)]
struct Sent {
    frames: u64,
    bytes: u64,
    /// How often the ring was filled.
    ring_turns: f64,
    time: Duration,
    /// The longest frame that the bus carries, in bytes.
    longest: usize,
}

impl Sent {
    /// Returns a warning when frames were overwritten before a receiver can have read them.
    fn overrun_warning(&self) -> Option<String> {
        let Self { ring_turns, time, .. } = self;
        let too_fast =
            *ring_turns >= 1.0 && time.as_secs_f64() < ring_turns * 0.7 * RING_TIME.as_secs_f64();
        too_fast.then(|| {
            format!(
                "the ring was filled {ring_turns:.0} times in {:.3} s: receivers that are not as \
                 fast lost frames; without --top-speed or a high rate, they keep up",
                time.as_secs_f64()
            )
        })
    }
}

/// The keys of `replay --json`.
#[derive(Serialize)]
struct Report<'a> {
    frames: u64,
    bytes: u64,
    seconds: f64,
    ring_turns: f64,
    /// Frames that stations and ports of ours have missed meanwhile, about; null where none reports.
    receivers_lost: Option<u64>,
    #[serde(flatten)]
    skipped: &'a Skipped,
}

fn report(
    args: &Args,
    sent: &Sent,
    skipped: &Skipped,
    losses: Option<&Losses>,
) -> anyhow::Result<()> {
    let Sent { frames, bytes, ring_turns, time, longest } = *sent;
    let seconds = time.as_secs_f64();
    if args.json {
        let receivers_lost = losses.map(Losses::frames);
        output::print_json(&Report {
            frames,
            bytes,
            seconds,
            ring_turns,
            receivers_lost,
            skipped,
        })?;
    } else {
        let (frames, bytes) = (counted(frames, "frame"), counted(bytes, "byte"));
        writeln!(output::stdout(), "{frames}, {bytes} in {seconds:.3} s")?;
    }
    // What receivers say is worth more than what can be guessed.
    let lost = match losses {
        Some(losses) => losses.warning(),
        None => sent.overrun_warning(),
    };
    skipped.warnings(longest).chain(lost).for_each(output::warn);
    Ok(())
}
