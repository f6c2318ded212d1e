//! `busctl dump`: prints or saves what is on buses.

mod files;
mod outputs;
mod overruns;
mod progress;
mod source;
mod stop_at;
mod text;
mod write_behind;

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueHint;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use port::BusRemoval;
use shmbus::{Burst, MAX_SLEEP, WaitError};

use self::files::Turns;
use self::outputs::Outlets;
use self::progress::Progress;
use self::source::{Reading, Source, Subject};
use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::output::{self, ReaderGone};
use crate::process::shutdown::Shutdown;
use crate::quantity;

/// Frames read in one go.
const BURST: usize = 256;

/// How long a bus must be silent before what was kept back is handed on, and the dump sleeps until it is woken. Until then it
/// looks again and again: to be woken costs the senders time.
const SILENCE: Duration = Duration::from_millis(2);
/// The pause between two such looks; at a million frames a second the ring holds a hundred times as much.
const NAP: Duration = Duration::from_micros(100);

/// Print the frames on buses, or save them as pcap or pcapng
///
/// Begins with the oldest frame that is still on the bus, and stops behind the newest; with -f it goes on with what comes. What
/// the bus overwrites before it is read is counted and said at the end. It takes no lock and needs only permission to read
/// the bus, so it also shows what is left on one that nobody runs, and files that cannot be joined: of format version 2, and of
/// machines of the other byte order.
///
/// Of several buses, each one's frames are in order; between them the stamps tell, which are the senders' clocks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Logs are asked for before the verb: busctl -v dump.\n\n\
                        Examples:\n  \
                        busctl dump ./lan.bus\n  \
                        busctl dump shmif0 -fv\n  \
                        busctl dump ./lan.bus -w lan.pcap\n  \
                        busctl dump ./one.bus ./two.bus -f -q -w both.pcapng\n  \
                        busctl dump ./lan.bus -f -q -w ring.pcap -C 100 -W 10\n  \
                        busctl dump ./lan.bus -f -q -w - | wireshark -k -i -")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Args {
    /// An interface, or the path of a bus with a '/' in it
    #[arg(value_name = "BUS", required = true, value_hint = ValueHint::FilePath)]
    pub buses: Vec<BusArgument>,

    /// Print the header of the bus only
    #[arg(short = 'H', long, conflicts_with_all = ["write", "follow", "count", "verbose"])]
    pub header: bool,

    /// Also write a capture FILE; - is stdout, and the text then goes to stderr
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub write: Option<PathBuf>,

    /// The form of the capture [default: pcapng when FILE ends in .pcapng, else pcap]
    #[arg(long, value_name = "FORMAT", requires = "write")]
    pub format: Option<CaptureFormat>,

    /// Go on in a new FILE when it has more than SIZE million bytes (with k, m or g: so many KiB, MiB or GiB)
    #[arg(short = 'C', long, value_name = "SIZE", requires = "write", value_parser = quantity::capture_size)]
    pub turn_size: Option<u64>,

    /// With -C, write over the oldest of COUNT files instead of making more
    #[arg(short = 'W', long, value_name = "COUNT", requires = "turn_size",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub turn_files: Option<u32>,

    /// Go on with what comes, until stopped or until -c
    #[arg(short, long)]
    pub follow: bool,

    /// Stop after N frames
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Print who speaks to whom in each frame, and about what
    #[arg(short, long)]
    pub verbose: bool,

    /// Print no text: only write FILE
    #[arg(short, long, requires = "write", conflicts_with_all = ["verbose", "json"])]
    pub quiet: bool,

    /// Print JSON: an object for each bus, then one for each frame
    #[arg(long)]
    pub json: bool,
}

impl Args {
    fn turns(&self) -> Option<Turns> {
        self.turn_size.map(|size| Turns { size, files: self.turn_files })
    }
}

/// Prints and saves the frames.
///
/// # Errors
/// When a BUS is no bus or FILE cannot be made; when nothing can be written any more.
/// The form of a capture.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum CaptureFormat {
    /// One interface, microseconds; every tool reads it
    Pcap,
    /// Any number of interfaces, nanoseconds, comments
    Pcapng,
}

impl From<CaptureFormat> for capture::Format {
    fn from(format: CaptureFormat) -> Self {
        match format {
            CaptureFormat::Pcap => Self::Pcap,
            CaptureFormat::Pcapng => Self::Pcapng,
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let open = |bus| Subject::open(bus, args.follow, context);
    let subjects = args.buses.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let stop = Shutdown::on_signals()?;
    let mut outlets = Outlets::open(args, &subjects)?;
    for (bus, subject) in subjects.iter().enumerate() {
        outlets.header(bus, &subject.state)?;
    }
    if args.header {
        return outlets.finish();
    }
    let alone = subjects.len() == 1;
    let begin = |subject| Reading::begin(subject, alone, args.follow);
    let readings = subjects.into_iter().map(begin).collect();
    let left = args.count.unwrap_or(u64::MAX);
    let progress = Progress::new(args);
    let mut dump = Dump { readings, outlets, stop, progress, left };
    let done = if args.follow { dump.follow() } else { dump.drain() };
    // That a capture is not whole is worse than whatever else happened.
    dump.finish().and(done)
}

struct Dump {
    readings: Vec<Reading>,
    outlets: Outlets,
    stop: Shutdown,
    progress: Progress,
    /// Frames to go.
    left: u64,
}

impl Dump {
    /// Dumps what comes until it is asked to stop, and then what had come until that moment.
    fn follow(&mut self) -> anyhow::Result<()> {
        let mut burst = Burst::new(BURST);
        let mut heard = Instant::now();
        while !self.stop.requested() {
            let news = self.look(&mut burst)?;
            self.outlets.check()?;
            if self.left == 0 {
                return Ok(());
            }
            self.progress.show(self.outlets.frames());
            if news {
                heard = Instant::now();
            } else if heard.elapsed() < SILENCE {
                thread::sleep(NAP);
            } else {
                self.outlets.pass_on();
                self.sleep()?;
            }
        }
        // Once more: only a reader that was not overtaken is at most a ring behind, which is what the bounds go by.
        self.look(&mut burst)?;
        self.readings.iter_mut().for_each(Reading::end_here);
        self.drain()
    }

    /// Dumps what lies within the bounds of each bus.
    fn drain(&mut self) -> anyhow::Result<()> {
        let mut burst = Burst::new(BURST);
        loop {
            let news = self.look(&mut burst)?;
            self.outlets.check()?;
            if self.left == 0 || self.readings.iter().all(|reading| reading.over) {
                return Ok(());
            }
            if !news {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Dumps a burst of every bus; `false` when there was nothing on any.
    fn look(&mut self, burst: &mut Burst) -> io::Result<bool> {
        let mut news = false;
        for (bus, reading) in self.readings.iter_mut().enumerate().filter(|(_, reading)| !reading.over) {
            let tap = match &mut reading.source {
                Source::Live(tap) => tap,
                Source::Left(dump) => {
                    reading.over = true;
                    for frame in dump.frames() {
                        if self.left == 0 {
                            return Ok(true);
                        }
                        self.outlets.frame(bus, &frame)?;
                        self.left -= 1;
                    }
                    if dump.is_corrupt() {
                        output::warn("behind these frames is something that is no packet");
                    }
                    continue;
                }
            };
            tap.recv_burst(burst);
            for frame in &*burst {
                if self.left == 0 {
                    return Ok(true);
                }
                self.outlets.frame(bus, &frame)?;
                self.left -= 1;
                if reading.bounds.as_mut().is_some_and(|bounds| bounds.reached_by(&frame)) {
                    reading.over = true;
                    break;
                }
            }
            let missed = reading.missed.look(&tap.stats());
            if let Some(words) = reading.missed.news() {
                self.progress.warn(&words);
            }
            let nothing = missed == 0 && burst.is_empty();
            if let Some(bounds) = &mut reading.bounds {
                bounds.passed(missed);
                reading.over |= nothing && bounds.nothing_more(&tap.bus().state());
            }
            news |= !nothing;
        }
        Ok(news)
    }

    /// Sleeps until a frame comes, the process is asked to stop, or nobody reads stdout any more.
    fn sleep(&mut self) -> anyhow::Result<()> {
        let mut pause = MAX_SLEEP;
        for reading in &mut self.readings {
            let Source::Live(tap) = &mut reading.source else { continue };
            if let Some(words) = BusRemoval::report_once(tap.bus()) {
                self.progress.warn(&words);
            }
            pause = match tap.arm() {
                Ok(true) => Duration::ZERO,
                Ok(false) => pause,
                // There are too many watches on this machine: it has to look by itself.
                Err(WaitError::Watch { .. }) => pause.min(Duration::from_millis(1)),
                Err(error) => return Err(error.into()),
            };
        }
        let stdout = io::stdout();
        // Asked for nothing, it still tells when its other end is closed.
        let mut fds = vec![
            PollFd::new(stdout.as_fd(), PollFlags::empty()),
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
        ];
        for reading in &self.readings {
            if let Source::Live(tap) = &reading.source {
                fds.extend(tap.poll_fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            }
        }
        match poll(&mut fds, PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLERR)) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone).into());
        }
        for reading in &mut self.readings {
            if let Source::Live(tap) = &mut reading.source {
                tap.disarm();
            }
        }
        Ok(())
    }

    /// Says what was missed, and waits until all is written. Whatever happened: one of the outlets may still be written to.
    fn finish(mut self) -> anyhow::Result<()> {
        drop(self.progress);
        for (bus, reading) in self.readings.iter_mut().enumerate() {
            if let Source::Live(tap) = &reading.source {
                reading.missed.say_rest(&tap.stats());
                self.outlets.comment(bus, reading.missed.overtaken());
            }
        }
        self.outlets.finish()
    }
}
