//! An interface of the registry that is run here, on whatever: the station of a host, the ports of `attach`, a seat of the
//! node.
//!
//! The claim is held, and the record is looked at again and again. Whoever runs it does what the record says and tells how that
//! went ([`did`](RunningInterface::did)): somebody may be waiting for it. What went wrong is to be tried again. When the interface is
//! destroyed, it is let go of.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use node::Counters;
use port::ReportOnce;

use crate::misuse::{misuse, sentence};
use crate::output;
use crate::registry::file_stamp::FileStamp;
use crate::registry::{Claim, InterfaceName, MemifReport, Record, Registry, RegistryError, Shmif};

/// How often the record is looked at: whoever changes it waits for a second.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct RunningInterface {
    claim: Claim,
    file: PathBuf,
    /// The record's file as it was last read.
    signature: Option<FileStamp>,
    looked: Instant,
    /// Why what the record says could not be done.
    trouble: Option<String>,
    /// What was reported, so that it is reported once: trouble, and that the record cannot be read or the report not be written.
    reported: ReportOnce,
    unreadable: ReportOnce,
    unwritable: ReportOnce,
}

/// What has become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It is as it was, or cannot be read: the last one stands.
    None,
    /// It is another, or could not be obeyed: it is to be, now.
    Changed,
    /// The interface was destroyed.
    Destroyed,
}

/// The end of a verb whose interface was destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} was destroyed")]
pub(crate) struct Destroyed(pub(crate) InterfaceName);

impl RunningInterface {
    /// Claims an interface.
    ///
    /// # Errors
    /// When it does not exist, its record cannot be read, or another process runs it.
    pub(crate) fn claim(registry: &Registry, name: InterfaceName) -> Result<Self, RegistryError> {
        let file = registry.record_file(name);
        // Before the record is read: a change in between is seen the next time.
        let signature = FileStamp::of(&file);
        Ok(Self {
            claim: registry.claim(name)?,
            file,
            signature,
            looked: Instant::now(),
            trouble: None,
            reported: ReportOnce::default(),
            unreadable: ReportOnce::default(),
            unwritable: ReportOnce::default(),
        })
    }

    /// Claims a shmif interface for somebody who is to be on its bus at once.
    ///
    /// # Errors
    /// Also when it is of another kind, has no bus, or is down.
    pub(crate) fn claim_station(registry: &Registry, name: InterfaceName) -> anyhow::Result<Self> {
        station_of(&registry.load(name)?)?;
        let followed = Self::claim(registry, name)?;
        plugged_in(followed.record())?;
        if !followed.record().up {
            return Err(misuse(anyhow!("{name} is down; 'busctl up {name}' sets it up")));
        }
        Ok(followed)
    }

    /// The record as it was last read.
    pub(crate) fn record(&self) -> &Record {
        self.claim.record()
    }

    /// What those do who go round a loop: ten times a second it lets others see what was counted, and looks. What could not be
    /// done is to be tried again then.
    pub(crate) fn round(&mut self, counters: Counters) -> News {
        if self.looked.elapsed() < INTERVAL {
            return News::None;
        }
        self.looked = Instant::now();
        self.count(counters);
        match self.look() {
            News::None if self.is_troubled() => News::Changed,
            news => news,
        }
    }

    /// Looks whether the record is another.
    pub(crate) fn look(&mut self) -> News {
        let signature = FileStamp::of(&self.file);
        if signature == self.signature {
            return News::None;
        }
        let (news, wrong) = match self.claim.refresh() {
            Ok(record) => {
                self.signature = signature;
                (if record.is_some() { News::Changed } else { News::None }, None)
            }
            Err(RegistryError::NoSuchInterface { .. }) => (News::Destroyed, None),
            Err(error) => (News::None, Some(error)),
        };
        warn_once(&mut self.unreadable, wrong.as_ref());
        news
    }

    /// Tells how it went to do what the record says: whoever changed it is waiting for this.
    pub(crate) fn did(&mut self, result: anyhow::Result<()>) {
        let trouble = result.err().map(|error| sentence(&error));
        match &trouble {
            Some(trouble) if self.reported.is_new(trouble) => {
                output::note(&format!("{}: {trouble}", self.record().name));
            }
            Some(_) => {}
            None => self.reported.clear(),
        }
        self.trouble.clone_from(&trouble);
        let written = self.claim.acknowledge(trouble);
        warn_once(&mut self.unwritable, written.err().as_ref());
    }

    /// Whether it could not be done, and is to be tried again.
    pub(crate) fn is_troubled(&self) -> bool {
        self.trouble.is_some()
    }

    /// Lets others see what was counted since it was claimed. To be called often: it is written now and then.
    pub(crate) fn count(&mut self, counters: Counters) {
        let written = self.claim.count(counters);
        warn_once(&mut self.unwritable, written.err().as_ref());
    }

    /// Lets others see how the connection of a port is, with what is told or counted next.
    pub(crate) fn describe(&mut self, link: Option<bool>, memif: Option<MemifReport>) {
        self.claim.describe(link, memif);
    }

    /// Lets go of an interface that was destroyed.
    pub(crate) fn discard(self) {
        if let Err(error) = self.claim.discard() {
            output::warn(error);
        }
    }
}

/// The bus of an interface.
///
/// # Errors
/// When it has none.
pub(crate) fn plugged_in(record: &Record) -> anyhow::Result<&Path> {
    let name = record.name;
    record.linkstr.as_deref().ok_or_else(|| {
        misuse(anyhow!("{name} has no bus; 'busctl linkstr {name} BUSPATH' plugs it into one"))
    })
}

/// The settings of an interface that is a station, and so can be on a bus for whoever uses it.
///
/// # Errors
/// When it is a port.
pub(crate) fn station_of(record: &Record) -> anyhow::Result<&Shmif> {
    let (name, kind) = (record.name, record.name.kind());
    record.shmif().ok_or_else(|| {
        let bus = record.linkstr.as_ref().map_or("of its bus".into(), |bus| bus.display().to_string());
        misuse(anyhow!("{name} is a {kind} interface, which 'busctl node' runs: give a shmif interface, or the path {bus}"))
    })
}

/// Warns of what is wrong, once until it is right again.
fn warn_once(reported: &mut ReportOnce, wrong: Option<&RegistryError>) {
    match wrong.map(ToString::to_string) {
        Some(text) if reported.is_new(&text) => output::warn(text),
        Some(_) => {}
        None => reported.clear(),
    }
}
