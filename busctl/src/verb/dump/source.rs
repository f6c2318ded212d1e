//! A bus that is dumped.

use std::path::{Path, PathBuf};

use shmbus::{Bus, BusState, LegacyDump, MAX_FRAME, Tap};

use super::overruns::Missed;
use super::stop_at::Bounds;
use crate::bus_argument::BusArgument;
use crate::context::Context;

/// A bus, opened for reading.
pub(super) struct Subject {
    /// What the user calls it.
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The bus as it was when the dump began.
    pub(super) state: BusState,
    /// Bytes of the longest frame there can be.
    pub(super) longest: u32,
    pub(super) source: Source,
}

/// Where its frames come from.
pub(super) enum Source {
    /// A bus that others may use.
    Live(Box<Tap>),
    /// A file that can be dumped and not joined: of an older version, or of another kind of machine. Nothing comes any more.
    Left(LegacyDump),
}

impl Subject {
    /// Opens it; `follow`ing is for those that live.
    pub(super) fn open(bus: &BusArgument, follow: bool, context: &Context) -> anyhow::Result<Self> {
        let (name, path) = match bus {
            BusArgument::Path(path) => (path.display().to_string(), path.clone()),
            BusArgument::Interface(name) => (name.to_string(), bus.path(&context.registry()?)?),
        };
        match Bus::open_read_only(&path) {
            Err(refusal) if refusal.can_be_dumped() && follow => {
                Err(anyhow::Error::new(refusal).context("cannot go on with what comes (-f)"))
            }
            Err(refusal) if refusal.can_be_dumped() => Self::left(name, &path),
            Err(refusal) => Err(refusal.into()),
            Ok(bus) => {
                let state = bus.state();
                let longest = u32::try_from(bus.max_frame()).unwrap_or(u32::MAX);
                let tap = Tap::oldest(bus)?.with_runts();
                Ok(Self { name, path, state, longest, source: Source::Live(Box::new(tap)) })
            }
        }
    }

    fn left(name: String, path: &Path) -> anyhow::Result<Self> {
        let dump = LegacyDump::open(path)?;
        let longest = u32::try_from(MAX_FRAME).unwrap_or(u32::MAX);
        Ok(Self { name, path: path.to_owned(), state: dump.state(), longest, source: Source::Left(dump) })
    }
}

/// A bus that is being read.
pub(super) struct Reading {
    pub(super) source: Source,
    pub(super) missed: Missed,
    /// Where to end; nowhere while following.
    pub(super) bounds: Option<Bounds>,
    /// Its end was reached.
    pub(super) over: bool,
}

impl Reading {
    /// Begins; `alone` when it is the only one. Without `follow` it ends with what is there now.
    pub(super) fn begin(subject: Subject, alone: bool, follow: bool) -> Self {
        let bounds = (!follow).then(|| Bounds::of(&subject.state));
        let bus = if alone { "the bus".to_owned() } else { subject.name };
        let missed = Missed::new(bus);
        Self { source: subject.source, missed, bounds, over: false }
    }

    /// From now on, what is there at this moment is all that is wanted.
    pub(super) fn end_here(&mut self) {
        if let Source::Live(tap) = &self.source {
            self.bounds = Some(Bounds::of(&tap.bus().state()));
        }
    }
}
