//! `busctl dump`: prints or saves what is on buses.

mod files;
mod hex;
mod outputs;
mod overruns;
mod progress;
mod source;
mod stamp;
mod stop_at;
mod text;
mod write_behind;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use capture::{Filter, LinkType};
use clap::ValueHint;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use port::{BusRemoval, Port as _};
use shmbus::{Burst, MAX_SLEEP, WaitError};

use self::files::Rotation;
use self::hex::{Hex, HexForm};
use self::outputs::Outputs;
use self::progress::Progress;
use self::source::{BusReader, Dumped, OpenBus, Source};
use crate::context::Context;
use crate::filter_words;
use crate::misuse::misuse;
use crate::nic_argument::NicArgument;
use crate::output::{self, ReaderGone};
use crate::process::shutdown::Shutdown;
use crate::quantity;

/// Frames read at once.
const BURST: usize = 256;

/// How long a bus must be silent before the buffers are flushed and the dump sleeps until it is
/// woken. Until then it polls: waking a reader costs the senders time.
const SILENCE: Duration = Duration::from_millis(2);
/// The pause between two such polls. At a million frames a second the ring holds a hundred times as
/// much.
const POLL_PAUSE: Duration = Duration::from_micros(100);

/// Print the frames on buses, or save them as pcap or pcapng
///
/// The dump begins with the oldest frame on the bus and stops behind the newest; with -f it
/// continues with new frames. What the bus overwrites before it is read is counted and reported at
/// the end. A dump takes no lock and needs only permission to read the file. So it also shows what
/// is left on a bus without users, and files that cannot be joined: those of format version 2, and
/// those of machines of the other byte order.
///
/// With memif:key=value,... in place of BUS, the dump is a memif interface, and prints what its peer sends,
/// until it is stopped: Ethernet frames, or with mode=ip packets, whose captures have the link type RAW.
///
/// With several buses, the frames of each bus are in order. Across buses compare the timestamps,
/// which the senders' clocks made, or with --arrival the clock of this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "To see logs, write -v before the verb: busctl -v dump.\n\n\
                        Examples:\n  \
                        busctl dump ./lan.bus\n  \
                        busctl dump shmif0 -fv\n  \
                        busctl dump ./lan.bus -fv tcp port 80 and host 10.0.0.1\n  \
                        busctl dump ./lan.bus -w lan.pcap\n  \
                        busctl dump ./one.bus ./two.bus -f -q -w both.pcapng\n  \
                        busctl dump ./lan.bus -f -q -w ring.pcap -C 100 -W 10\n  \
                        busctl dump memif:role=client,mode=ip,socket=./ip.sock -w packets.pcap\n  \
                        busctl dump ./lan.bus -f -q -w - | wireshark -k -i -")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Args {
    /// An interface, the path of a bus with a '/' in it, or memif:key=value,... as 'busctl attach' takes
    /// it
    #[arg(value_name = "BUS", value_hint = ValueHint::FilePath)]
    bus: NicArgument,

    /// More buses, and a filter in the language of tcpdump, pcap-filter(7): 'tcp port 80'
    #[arg(value_name = "BUS|FILTER", value_hint = ValueHint::FilePath)]
    words: Vec<OsString>,

    /// Read the filter from FILE, where '#' begins a comment
    #[arg(short = 'F', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    filter_file: Option<PathBuf>,

    /// Print the header of the bus only
    #[arg(short = 'H', long, conflicts_with_all = ["write", "follow", "now", "count", "summaries"])]
    header: bool,

    /// Also write a capture to FILE; - is stdout, and then the text goes to stderr. A FILE that ends
    /// in .gz or .zst is compressed
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    write: Option<PathBuf>,

    /// The format of the capture [default: pcapng when FILE ends in .pcapng, else pcap]
    #[arg(long, value_name = "FORMAT", requires = "write")]
    format: Option<CaptureFormat>,

    /// Start a new FILE after SIZE million bytes (with k, m or g: KiB, MiB or GiB)
    #[arg(short = 'C', long, value_name = "SIZE", requires = "write", group = "turns",
          value_parser = quantity::capture_size)]
    turn_size: Option<u64>,

    /// With -C, overwrite the oldest of COUNT files instead of adding more; with -G, end after COUNT
    /// files
    #[arg(short = 'W', long, value_name = "COUNT", requires = "turns",
          value_parser = clap::value_parser!(u32).range(1..))]
    turn_files: Option<u32>,

    /// Start a new FILE every SECONDS; FILE holds a time in strftime(3)'s form: lan-%H%M%S.pcap
    #[arg(short = 'G', long, value_name = "SECONDS", requires = "write", group = "turns",
          value_parser = clap::value_parser!(u32).range(1..))]
    turn_seconds: Option<u32>,

    /// Keep only the first BYTES of each frame; 0 is all
    #[arg(short, long, value_name = "BYTES")]
    snaplen: Option<u32>,

    /// Follow: continue with new frames until stopped or until -c
    #[arg(short, long)]
    follow: bool,

    /// Follow, and begin now: nothing of what is on the bus already
    #[arg(long)]
    now: bool,

    /// With -f or --now, stamp frames with the time at which they are read, not with their senders' clocks
    ///
    /// The clock of a rump kernel may count from its start, so stamps of several senders can jump
    /// by years.
    #[arg(long)]
    arrival: bool,

    /// Stop after N frames
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Print a summary of each frame: addresses, protocol, what it is about; -vv also prints the
    /// fields of its IP header
    #[arg(id = "summaries", short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(flatten)]
    habits: Habits,

    /// With -w, print no text, only write FILE; else print short summaries
    #[arg(short, long, conflicts_with_all = ["summaries", "json"])]
    quiet: bool,

    /// Print JSON: an object for each bus, then one for each frame
    #[arg(long)]
    json: bool,
}

/// Flags as `tcpdump` has them. Each of them makes a line a summary.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
struct Habits {
    /// Print summaries; addresses and ports are always numbers
    #[arg(short = 'n')]
    numeric: bool,

    /// Print the Ethernet addresses in summaries, as -v does
    #[arg(short = 'e')]
    ethernet: bool,

    /// Print no time; -tt: seconds, -ttt: since the frame before, -tttt: with the date, -ttttt: since
    /// the first frame
    #[arg(short = 't', action = clap::ArgAction::Count)]
    times: u8,

    /// Print the packet in hexadecimal; -xx: with the Ethernet header
    #[arg(short = 'x', action = clap::ArgAction::Count)]
    hex: u8,

    /// Print the packet in hexadecimal and ASCII; -XX: with the Ethernet header
    #[arg(short = 'X', action = clap::ArgAction::Count)]
    hex_ascii: u8,

    /// Print the packet in ASCII
    #[arg(short = 'A')]
    ascii: bool,
}

impl Habits {
    fn any(&self) -> bool {
        let Self { numeric, ethernet, times, hex, hex_ascii, ascii } = *self;
        numeric || ethernet || ascii || times > 0 || hex > 0 || hex_ascii > 0
    }

    fn hex(&self) -> Option<Hex> {
        let (form, link) = match (self.hex_ascii, self.hex) {
            (0, 0) if self.ascii => (HexForm::Ascii, false),
            (0, 0) => return None,
            (0, count) => (HexForm::Hex, count > 1),
            (count, _) => (HexForm::HexAndAscii, count > 1),
        };
        Some(Hex { link, form })
    }
}

impl Args {
    /// Returns whether the dump continues with new frames.
    fn follows(&self) -> bool {
        self.follow || self.now || self.is_memif()
    }

    /// Returns whether what a memif peer sends is dumped.
    fn is_memif(&self) -> bool {
        matches!(self.bus, NicArgument::Memif(_))
    }

    fn rotation(&self) -> Option<Rotation> {
        let period = self.turn_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let (size, files) = (self.turn_size, self.turn_files);
        (size.is_some() || period.is_some()).then_some(Rotation { size, files, period })
    }

    /// Returns whether text is left out.
    fn is_silent(&self) -> bool {
        self.quiet && self.write.is_some()
    }

    /// Returns how many bytes of a frame are kept.
    fn snaplen(&self) -> usize {
        match self.snaplen {
            None | Some(0) => usize::MAX,
            Some(bytes) => bytes as usize,
        }
    }
}

/// The format of a capture.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum CaptureFormat {
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

/// Prints and saves the frames.
///
/// # Errors
/// When a BUS is no bus or FILE cannot be made; when the output cannot be written.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    if args.arrival && !args.follows() {
        return Err(misuse(anyhow!(
            "--arrival is for frames that arrive: use it with --follow or --now"
        )));
    }
    let (more, words) = filter_words::split(&args.words);
    if args.is_memif() && (args.header || !more.is_empty()) {
        return Err(misuse(anyhow!(
            "a memif interface has no header, and is dumped alone: leave out -H and further buses"
        )));
    }
    let link = if args.bus.is_ip_mode() { LinkType::Ip } else { LinkType::Ethernet };
    let filter = filter_words::compile(words, args.filter_file.as_ref(), link)?;
    let open = |bus| OpenBus::open(bus, args.follows(), args.now, context);
    let first = match &args.bus {
        NicArgument::Bus(bus) => open(bus)?,
        NicArgument::Memif(spec) => OpenBus::open_memif(spec)?,
    };
    let more = more.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let buses: Vec<_> = std::iter::once(first).chain(more).collect();
    let stop = Shutdown::on_signals()?;
    let Some(mut outputs) = Outputs::open(args, &buses, &stop)? else { return Ok(()) };
    for (index, bus) in buses.iter().enumerate() {
        if let Some(state) = &bus.state {
            outputs.header(index, state)?;
        }
    }
    if args.header {
        return outputs.finish();
    }
    let alone = buses.len() == 1;
    let begin = |bus| BusReader::begin(bus, alone, args.follows());
    let readers = buses.into_iter().map(begin).collect();
    let left = args.count.unwrap_or(u64::MAX);
    let progress = Progress::new(args);
    let mut dump = Dump { readers, filter, outputs, stop, progress, left };
    let done = if args.follows() { dump.follow() } else { dump.drain() };
    // An incomplete capture is worse than any other error.
    dump.finish().and(done)
}

/// Returns whether the filter, if there is one, lets a frame pass.
fn matches(filter: Option<&Filter>, frame: &[u8]) -> bool {
    filter.is_none_or(|filter| filter.matches(frame, frame.len()))
}

struct Dump {
    readers: Vec<BusReader>,
    /// Which frames are dumped; `None`: all.
    filter: Option<Filter>,
    outputs: Outputs,
    stop: Shutdown,
    progress: Progress,
    /// Frames that are left to dump.
    left: u64,
}

impl Dump {
    /// Dumps new frames until the process is asked to stop, and then those that were sent before
    /// that moment.
    fn follow(&mut self) -> anyhow::Result<()> {
        let mut burst = Burst::new(BURST);
        let mut last_frame = Instant::now();
        while !self.stop.requested() {
            let received = self.poll(&mut burst)?;
            self.outputs.check()?;
            if self.left == 0 || self.outputs.are_complete() {
                return Ok(());
            }
            self.progress.show(self.outputs.frames());
            if received {
                last_frame = Instant::now();
            } else if last_frame.elapsed() < SILENCE {
                thread::sleep(POLL_PAUSE);
            } else {
                self.outputs.flush();
                self.sleep()?;
            }
        }
        // Read once more: the bounds hold only for a reader that is at most a ring behind, which is
        // one that was not overtaken.
        self.poll(&mut burst)?;
        self.readers.iter_mut().for_each(BusReader::stop_here);
        self.drain()
    }

    /// Dumps each bus up to where it stops.
    fn drain(&mut self) -> anyhow::Result<()> {
        let mut burst = Burst::new(BURST);
        loop {
            let received = self.poll(&mut burst)?;
            self.outputs.check()?;
            if self.left == 0 || self.readers.iter().all(|reader| reader.done) {
                return Ok(());
            }
            if !received {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Dumps a burst of every bus; returns `false` when there was nothing on any.
    fn poll(&mut self, burst: &mut Burst) -> io::Result<bool> {
        let mut received = false;
        let filter = self.filter.as_ref();
        for (bus, reader) in self.readers.iter_mut().enumerate().filter(|(_, reader)| !reader.done)
        {
            let tap = match &mut reader.source {
                Source::Live(tap) => tap,
                Source::Legacy(dump) => {
                    reader.done = true;
                    for frame in dump.frames().filter(|frame| matches(filter, frame.bytes)) {
                        if self.left == 0 {
                            return Ok(true);
                        }
                        self.outputs.frame(bus, &Dumped::from(&frame))?;
                        self.left -= 1;
                    }
                    if dump.is_corrupt() {
                        output::warn("what follows these frames is no packet");
                    }
                    continue;
                }
                Source::Memif(port) => {
                    let (outputs, left) = (&mut self.outputs, &mut self.left);
                    outputs.note_arrival();
                    received |= source::dump_peer(port, &mut |frame| {
                        if *left == 0 || !matches(filter, frame.bytes) {
                            return Ok(());
                        }
                        *left -= 1;
                        outputs.frame(bus, frame)
                    })?;
                    continue;
                }
            };
            tap.recv_burst(burst);
            self.outputs.note_arrival();
            for frame in &*burst {
                if self.left == 0 {
                    return Ok(true);
                }
                if matches(filter, frame.bytes) {
                    self.outputs.frame(bus, &Dumped::from(&frame))?;
                    self.left -= 1;
                }
                if reader.stop_at.as_mut().is_some_and(|stop_at| stop_at.is_reached_by(&frame)) {
                    reader.done = true;
                    break;
                }
            }
            let missed = reader.overruns.update(&tap.stats());
            if let Some(warning) = reader.overruns.warning() {
                self.progress.warn(&warning);
            }
            let nothing = missed == 0 && burst.is_empty();
            if let Some(stop_at) = &mut reader.stop_at {
                stop_at.skip(missed);
                reader.done |= nothing && stop_at.is_reached_in_silence(&tap.bus().state());
            }
            received |= !nothing;
        }
        Ok(received)
    }

    /// Sleeps until a frame comes, the process is asked to stop, or the reader of stdout is gone.
    fn sleep(&mut self) -> anyhow::Result<()> {
        let mut pause = MAX_SLEEP;
        for reader in &mut self.readers {
            let tap = match &mut reader.source {
                Source::Live(tap) => tap,
                Source::Legacy(_) => continue,
                Source::Memif(port) => {
                    let longest = port.max_sleep().min(port.first_poll());
                    let is_ready = port.arm() || port.wants_service();
                    pause = if is_ready { Duration::ZERO } else { pause.min(longest) };
                    continue;
                }
            };
            if let Some(warning) = BusRemoval::report_once(tap.bus()) {
                self.progress.warn(&warning);
            }
            pause = match tap.arm() {
                Ok(true) => Duration::ZERO,
                Ok(false) => pause,
                // There are too many inotify watches on this machine: poll instead.
                Err(WaitError::Watch { .. }) => pause.min(Duration::from_millis(1)),
                Err(error) => return Err(error.into()),
            };
        }
        let stdout = io::stdout();
        // Polled for no event, it still reports that its other end is closed.
        let mut fds = vec![
            PollFd::new(stdout.as_fd(), PollFlags::empty()),
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
        ];
        for reader in &self.readers {
            let mut watch = |fd| fds.push(PollFd::new(fd, PollFlags::POLLIN));
            match &reader.source {
                Source::Live(tap) => tap.poll_fd().into_iter().for_each(watch),
                Source::Memif(port) => port.descriptors(&mut watch),
                Source::Legacy(_) => {}
            }
        }
        match poll(&mut fds, PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLERR)) {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone).into());
        }
        for reader in &mut self.readers {
            match &mut reader.source {
                Source::Live(tap) => tap.disarm(),
                Source::Memif(port) => port.disarm(),
                Source::Legacy(_) => {}
            }
        }
        Ok(())
    }

    /// Reports what was missed, and waits until all is written. This is right after an error, too:
    /// another output may still be writable.
    fn finish(mut self) -> anyhow::Result<()> {
        drop(self.progress);
        for (bus, reader) in self.readers.iter_mut().enumerate() {
            if let Source::Live(tap) = &reader.source {
                reader.overruns.report_rest(&tap.stats());
                self.outputs.comment(bus, reader.overruns.summary());
            }
        }
        self.outputs.finish()
    }
}
