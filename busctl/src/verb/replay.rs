//! `busctl replay`: puts the frames of a capture on a bus.

mod batch;
mod progress;
mod source;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use capture::Pace;
use clap::ValueHint;
use serde::Serialize;

use self::batch::Batch;
use self::progress::Progress;
use self::source::{Skipped, Source};
use crate::bus_argument::BusArgument;
use crate::bus_attachment::BusAttachment;
use crate::context::Context;
use crate::misuse::OrMisuse as _;
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::registry::runner::POLL_INTERVAL;

/// Put the frames of a capture on a bus
///
/// FILE is pcap or pcapng. The frames are sent in order, as fast as the bus takes them or at the
/// rate of --pps. Frames that the bus does not carry (over 1,514 bytes, or shorter than an Ethernet
/// header) are skipped and counted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl replay capture.pcap ./lan.bus\n  \
                        busctl replay capture.pcap shmif0 --pps 1000 --loop 10\n  \
                        busctl dump ./one.bus -f -w - | busctl replay - ./other.bus")]
pub(crate) struct Args {
    /// The capture; - is stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// An interface, or the path of a bus with a '/' in it
    #[arg(value_name = "BUS", value_hint = ValueHint::FilePath)]
    bus: BusArgument,

    /// Send N frames a second [default: as fast as the bus takes them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pps: Option<u64>,

    /// Play the file N times
    #[arg(long = "loop", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Replays FILE until its end or until stopped.
///
/// # Errors
/// When FILE is no capture or BUS no bus; when the bus stays busy; when FILE is damaged further on.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let about_file = || format!("cannot replay {}", args.file.display());
    let mut source = Source::open(&args.file, args.rounds).with_context(about_file).misuse()?;
    let mut batch = Batch::new();
    // Before anything is changed: a file that is no capture fails at its first frame.
    let mut damage = source.fill(&mut batch).with_context(about_file);
    if batch.is_empty() {
        damage = Ok(damage.misuse()?);
    }
    let mut station = BusAttachment::join(&args.bus, context)?;
    let stop = Shutdown::on_signals()?;
    let mut progress = Progress::new(source.size());

    let begin = Instant::now();
    let mut pace = args.pps.map(|pps| Pace::new(pps, begin));
    let mut sent = Sent::default();
    let mut destroyed = Ok(());
    while !batch.is_empty() && !stop.requested() {
        destroyed = station.follow();
        if destroyed.is_err() {
            break;
        }
        let frames = match &mut pace {
            None => batch.frames(),
            Some(pace) => match pace.due(Instant::now()) {
                Ok(due) => &batch.frames()[..due.min(batch.frames().len())],
                Err(pause) => {
                    // A process that changes the interface waits for 1 s.
                    let _ = stop.sleep(pause.min(POLL_INTERVAL));
                    continue;
                }
            },
        };
        station
            .send_burst(frames)
            .with_context(|| format!("stopped behind frame {} of the replay", sent.frames))?;
        let count = frames.len();
        let bytes = frames.iter().map(|frame| frame.as_ref().len() as u64).sum::<u64>();
        sent.frames += count as u64;
        sent.bytes += bytes;
        if let Some(pace) = &mut pace {
            pace.sent(count);
        }
        progress.advance(count, bytes);
        batch.take(count);
        if batch.is_empty() && damage.is_ok() {
            damage = source.fill(&mut batch).with_context(about_file);
        }
    }
    progress.finish();
    report(args, &sent, source.skipped(), begin.elapsed())?;
    destroyed?;
    damage
}

/// What was sent.
#[derive(Default)]
struct Sent {
    frames: u64,
    bytes: u64,
}

/// The keys of `replay --json`.
#[derive(Serialize)]
struct Report<'a> {
    frames: u64,
    bytes: u64,
    seconds: f64,
    #[serde(flatten)]
    skipped: &'a Skipped,
}

fn report(args: &Args, sent: &Sent, skipped: &Skipped, time: Duration) -> anyhow::Result<()> {
    let Sent { frames, bytes } = *sent;
    let seconds = time.as_secs_f64();
    if args.json {
        output::print_json(&Report { frames, bytes, seconds, skipped })?;
    } else {
        writeln!(output::stdout(), "{frames} frames, {bytes} bytes in {seconds:.3} s")?;
    }
    skipped.warnings().for_each(output::warn);
    Ok(())
}
