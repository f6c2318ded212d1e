//! `busctl dump`: prints or saves what is on a bus.

mod bounds;
mod legacy;
mod missed;
mod outlets;

use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shmbus::{Burst, Bus, Frame, SLEEP_BOUND, Tap};

use self::bounds::Bounds;
use self::missed::Missed;
use self::outlets::Outlets;
use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::output::ReaderGone;
use crate::stop::Stop;

/// Frames read in one go.
const BURST: usize = 256;

/// Print the frames on a bus, or save them as a pcap file
///
/// Begins with the oldest frame that is still on the bus, and stops behind the newest; with -f it goes on with what comes.
/// It takes no lock and needs only permission to read the bus, so it also shows what is left on one that nobody runs, and
/// files that cannot be joined: of format version 2, and of machines of the other byte order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl dump ./lan.bus\n  \
                        busctl dump shmif0 -f\n  \
                        busctl dump ./lan.bus -w lan.pcap\n  \
                        busctl dump ./lan.bus -f -w - | wireshark -k -i -")]
pub struct Args {
    /// An interface, or the path of a bus with a '/' in it
    #[arg(value_name = "BUS")]
    pub bus: BusArgument,

    /// Print the header of the bus only
    #[arg(short = 'H', long, conflicts_with_all = ["write", "follow", "count"])]
    pub header: bool,

    /// Also write a pcap FILE; - is stdout, and the text then goes to stderr
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Go on with what comes, until stopped or until -c
    #[arg(short, long)]
    pub follow: bool,

    /// Stop after N frames
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Prints and saves the frames.
///
/// # Errors
/// When BUS is no bus or FILE cannot be made; when nothing can be written any more.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let path = match &args.bus {
        BusArgument::Path(path) => path.clone(),
        interface @ BusArgument::Interface(_) => interface.path(&context.registry()?)?,
    };
    let bus = match Bus::open_read_only(&path) {
        Err(refusal) if refusal.can_be_dumped() => return legacy::dump(args, &path, refusal),
        bus => bus?,
    };
    let stop = Stop::on_signals()?;
    let state = bus.state();
    let mut outlets = Outlets::open(args.write.as_deref(), &path)?;
    outlets.header(&state)?;
    if args.header {
        return outlets.flush();
    }
    let tap = Tap::oldest(bus)?.with_runts();
    let left = args.count.unwrap_or(u64::MAX);
    let mut dump = Dump { tap, outlets, stop, missed: Missed::default(), left };
    let done = if args.follow { dump.follow() } else { dump.drain(Bounds::of(&state)) };
    dump.missed.say(&dump.tap.stats());
    // Whatever happened: one of the two may still be written to.
    done.and(dump.outlets.flush())
}

/// How far a burst was dumped.
#[derive(PartialEq, Eq)]
enum Taken {
    /// All of it, and there may be more.
    All,
    /// Up to the last frame that is wanted.
    Last,
}

struct Dump {
    tap: Tap,
    outlets: Outlets,
    stop: Stop,
    missed: Missed,
    /// Frames to go.
    left: u64,
}

impl Dump {
    /// Dumps what comes until it is asked to stop, and then what had come until that moment.
    fn follow(&mut self) -> anyhow::Result<()> {
        let mut burst = Burst::new(BURST);
        while !self.stop.requested() {
            if self.take(&mut burst, |_| false)? == Taken::Last {
                return Ok(());
            }
            let missed = self.missed.look(&self.tap.stats());
            self.missed.say_now_and_then();
            if missed == 0 && burst.is_empty() {
                self.outlets.flush()?;
                self.sleep()?;
            }
        }
        let now = self.tap.bus().state();
        self.drain(Bounds::of(&now))
    }

    /// Dumps what lies within `bounds`.
    fn drain(&mut self, mut bounds: Bounds) -> anyhow::Result<()> {
        let mut burst = Burst::new(BURST);
        loop {
            if self.take(&mut burst, |frame| bounds.reached_by(frame))? == Taken::Last {
                return Ok(());
            }
            let missed = self.missed.look(&self.tap.stats());
            bounds.passed(missed);
            if missed == 0 && burst.is_empty() {
                if bounds.nothing_more(&self.tap.bus().state()) {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Dumps the frames that are there, up to the last that is wanted.
    fn take(
        &mut self,
        burst: &mut Burst,
        mut is_last: impl FnMut(&Frame<'_>) -> bool,
    ) -> anyhow::Result<Taken> {
        self.tap.recv_burst(burst);
        for frame in &*burst {
            self.outlets.frame(&frame)?;
            self.left -= 1;
            if is_last(&frame) || self.left == 0 {
                return Ok(Taken::Last);
            }
        }
        Ok(Taken::All)
    }

    /// Sleeps until a frame comes, the process is asked to stop, or nobody reads stdout any more.
    fn sleep(&mut self) -> anyhow::Result<()> {
        if !self.tap.arm()? {
            let stdout = io::stdout();
            let mut fds = [
                PollFd::new(self.tap.poll_fd().context("an armed tap has a descriptor")?, PollFlags::POLLIN),
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
                // Asked for nothing, it still tells when its other end is closed.
                PollFd::new(stdout.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, PollTimeout::try_from(SLEEP_BOUND).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if fds[2].revents().is_some_and(|events| events.intersects(PollFlags::POLLERR)) {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone).into());
            }
        }
        self.tap.disarm();
        Ok(())
    }
}
