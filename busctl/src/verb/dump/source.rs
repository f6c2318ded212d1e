//! The buses that are dumped.

use std::path::{Path, PathBuf};

use shmbus::{Bus, BusState, LegacyDump, MAX_FRAME, Tap};

use super::overruns::Overruns;
use super::stop_at::StopAt;
use crate::bus_argument::BusArgument;
use crate::context::Context;

/// A bus, opened to be read.
pub(super) struct OpenBus {
    /// The name by which the user gave it.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The state of the bus when the dump began.
    pub(super) state: BusState,
    /// Bytes of the longest frame there can be.
    pub(super) longest: u32,
    pub(super) source: Source,
}

/// Where the frames of a bus come from.
pub(super) enum Source {
    /// A bus in use.
    Live(Box<Tap>),
    /// A file that can be dumped but not joined, because of its version or byte order. No frame is
    /// added any more.
    Legacy(LegacyDump),
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
                Ok(Self { name, path, state, longest, source: Source::Live(Box::new(tap)) })
            }
        }
    }

    fn open_legacy(name: String, path: &Path) -> anyhow::Result<Self> {
        let dump = LegacyDump::open(path)?;
        let longest = u32::try_from(MAX_FRAME).unwrap_or(u32::MAX);
        Ok(Self {
            name,
            path: path.to_owned(),
            state: dump.state(),
            longest,
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
        let stop_at = (!follow).then(|| StopAt::of(&bus.state));
        let name = if alone { "the bus".to_owned() } else { bus.name };
        Self { source: bus.source, overruns: Overruns::new(name), stop_at, done: false }
    }

    /// Stops at what is newest now.
    pub(super) fn stop_here(&mut self) {
        if let Source::Live(tap) = &self.source {
            self.stop_at = Some(StopAt::of(&tap.bus().state()));
        }
    }
}
