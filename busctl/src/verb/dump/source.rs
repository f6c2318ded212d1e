//! What is dumped: buses, or what a memif peer sends.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use capture::LinkType;
use memif::Mode;
use port::Port as _;
use port::memif::{MemifPort, MemifSpec, Sockets};
use shmbus::{Bus, BusState, Frame, LegacyDump, MAX_BIG_FRAME, MAX_FRAME, Tap};

use super::overruns::Overruns;
use super::stamp::Stamp;
use super::stop_at::StopAt;
use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::output;

/// A bus or a memif interface, opened to be read.
pub(super) struct OpenBus {
    /// The name by which the user gave it.
    pub(super) name: String,
    /// The file of a bus.
    pub(super) path: Option<PathBuf>,
    /// The state of a bus when the dump began.
    pub(super) state: Option<BusState>,
    /// Bytes of the longest frame there can be.
    pub(super) longest: u32,
    /// What its frames begin with.
    pub(super) link: LinkType,
    pub(super) source: Source,
}

/// A frame that is dumped.
pub(super) struct Dumped<'f> {
    pub(super) bytes: &'f [u8],
    /// The sender's clock on a bus; else when it arrived.
    pub(super) stamp: Stamp,
    /// Who has put it on a bus; 0: it was on none.
    pub(super) sender: u64,
    /// Where it lies on a bus.
    pub(super) offset: Option<u32>,
}

impl<'f> From<&Frame<'f>> for Dumped<'f> {
    fn from(frame: &Frame<'f>) -> Self {
        let info = frame.info;
        Self {
            bytes: frame.bytes,
            stamp: Stamp { seconds: info.seconds.into(), microseconds: info.microseconds },
            sender: info.sender,
            offset: Some(info.offset),
        }
    }
}

/// Where the frames of a bus come from.
pub(super) enum Source {
    /// A bus in use.
    Live(Box<Tap>),
    /// A file that can be dumped but not joined, because of its version or byte order. No frame is
    /// added any more.
    Legacy(LegacyDump),
    /// A memif interface. The dump is its peer's only reader.
    Memif(Box<MemifPort>),
}

impl OpenBus {
    /// Opens the bus. Only a live bus can be `follow`ed.
    ///
    /// With `now`, what is on it already is left out.
    pub(super) fn open(
        bus: &BusArgument,
        follow: bool,
        now: bool,
        context: &Context,
    ) -> anyhow::Result<Self> {
        let (name, path) = match bus {
            BusArgument::Path(path) => (path.display().to_string(), path.clone()),
            BusArgument::Interface(name) => (name.to_string(), bus.path(&context.registry()?)?),
        };
        match Bus::open_read_only(&path) {
            Err(refusal) if refusal.can_be_dumped() && follow => {
                Err(anyhow::Error::new(refusal).context("cannot follow the bus (-f)"))
            }
            Err(refusal) if refusal.can_be_dumped() => Self::open_legacy(name, &path),
            Err(refusal) => Err(refusal.into()),
            Ok(bus) => {
                let state = bus.state();
                let longest = u32::try_from(bus.max_frame()).unwrap_or(u32::MAX);
                let tap = if now { Tap::new(bus) } else { Tap::oldest(bus) }?.with_runts();
                Ok(Self {
                    name,
                    path: Some(path),
                    state: Some(state),
                    longest,
                    link: LinkType::Ethernet,
                    source: Source::Live(Box::new(tap)),
                })
            }
        }
    }

    /// Listens or connects as a memif interface.
    pub(super) fn open_memif(spec: &MemifSpec) -> anyhow::Result<Self> {
        let sockets = Sockets::start(crate::PROGRAM, &output::reporter())?;
        let name = spec.to_string();
        let port = sockets.open(spec, name.clone())?;
        Ok(Self {
            name,
            path: None,
            state: None,
            longest: u32::try_from(MAX_BIG_FRAME).unwrap_or(u32::MAX),
            link: if spec.mode == Mode::Ip { LinkType::Ip } else { LinkType::Ethernet },
            source: Source::Memif(Box::new(port)),
        })
    }

    fn open_legacy(name: String, path: &Path) -> anyhow::Result<Self> {
        let dump = LegacyDump::open(path)?;
        let longest = u32::try_from(MAX_FRAME).unwrap_or(u32::MAX);
        Ok(Self {
            name,
            path: Some(path.to_owned()),
            state: Some(dump.state()),
            longest,
            link: LinkType::Ethernet,
            source: Source::Legacy(dump),
        })
    }
}

/// A bus that is being read.
pub(super) struct BusReader {
    pub(super) source: Source,
    pub(super) overruns: Overruns,
    /// Where to stop; none while following.
    pub(super) stop_at: Option<StopAt>,
    /// Whether the end was reached.
    pub(super) done: bool,
}

impl BusReader {
    /// Begins to read `bus`, which is `alone` when it is the only one. Without `follow`, reading
    /// stops at what is newest now.
    pub(super) fn begin(bus: OpenBus, alone: bool, follow: bool) -> Self {
        let stop_at = bus.state.filter(|_| !follow).map(|state| StopAt::of(&state));
        let name = if alone { "the bus".to_owned() } else { bus.name };
        Self { source: bus.source, overruns: Overruns::new(name), stop_at, done: false }
    }

    /// Stops at what is newest now.
    pub(super) fn stop_here(&mut self) {
        match &self.source {
            Source::Live(tap) => self.stop_at = Some(StopAt::of(&tap.bus().state())),
            // It has no end of its own.
            Source::Memif(_) => self.done = true,
            Source::Legacy(_) => {}
        }
    }
}

/// Dumps a burst of a memif peer with `dump`. Returns whether there was any.
pub(super) fn dump_peer(
    port: &mut MemifPort,
    dump: &mut dyn FnMut(&Dumped<'_>) -> std::io::Result<()>,
) -> std::io::Result<bool> {
    if port.wants_service() {
        // The thread that serves the sockets reports what there is to report.
        port.service(&mut |line| output::note(line));
    }
    // A clock before 1970 is not set: any stamp is as good.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stamp = Stamp { seconds: now.as_secs(), microseconds: now.subsec_micros() };
    let mut result = Ok(());
    let taken = port.take(&mut |request| {
        if result.is_ok() {
            result = dump(&Dumped { bytes: request.frame, stamp, sender: 0, offset: None });
        }
    });
    result.map(|()| taken > 0)
}
