//! An interface of the registry that this process runs: the station of a host, the ports of
//! `attach`, a port of `node`.
//!
//! [`RunningInterface`] holds the claim and polls the record. Its owner does what the record says
//! and reports how that went ([`acknowledge`](RunningInterface::acknowledge)), because the process
//! that changed the record may wait for it. What could not be done is tried again. When the
//! interface is destroyed, the owner gives it up ([`discard`](RunningInterface::discard)).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use node::Counters;
use port::{LinkState, ReportOnce, Reporter};

use super::file_stamp::FileStamp;
use super::{Claim, InterfaceName, MemifReport, Record, Registry, RegistryError};

/// How often the record is polled. The process that changes a record waits for 1 s.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct RunningInterface {
    claim: Claim,
    file: PathBuf,
    /// The record's file as it was last read.
    stamp: Option<FileStamp>,
    polled: Instant,
    /// Why this process could not do what the record says.
    trouble: Option<String>,
    reporter: Reporter,
    /// What was reported, so that it is reported once: trouble, records that cannot be read,
    /// reports that cannot be written.
    reported_trouble: ReportOnce,
    reported_read_errors: Option<String>,
    reported_write_errors: Option<String>,
}

/// What happened to a record since it was last polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordChange {
    /// The record is the same, or cannot be read: the last one stands.
    Unchanged,
    /// The record is another, or what it says could not be done and is to be tried again.
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
    pub(crate) fn claim(
        registry: &Registry,
        name: InterfaceName,
        reporter: Reporter,
    ) -> Result<Self, RegistryError> {
        let file = registry.record_path(name);
        // Before the record is read: a change in between shows at the next poll.
        let stamp = FileStamp::of(&file);
        Ok(Self {
            claim: registry.claim(name)?,
            file,
            stamp,
            polled: Instant::now(),
            trouble: None,
            reporter,
            reported_trouble: ReportOnce::default(),
            reported_read_errors: None,
            reported_write_errors: None,
        })
    }

    /// Claims a shmif interface that is to be on its bus at once.
    ///
    /// # Errors
    /// As for [`claim`](Self::claim), and when the interface is of another kind, has no bus, or is
    /// down.
    pub(crate) fn claim_station(
        registry: &Registry,
        name: InterfaceName,
        reporter: Reporter,
    ) -> Result<Self, RegistryError> {
        let record = registry.load(name)?;
        if record.shmif().is_none() {
            return Err(RegistryError::NotAStation { name, bus: record.linkstr });
        }
        let interface = Self::claim(registry, name, reporter)?;
        interface.record().bus()?;
        if !interface.record().up {
            return Err(RegistryError::Down { name });
        }
        Ok(interface)
    }

    /// Returns the record as it was last read.
    pub(crate) fn record(&self) -> &Record {
        self.claim.record()
    }

    /// Publishes the counters and polls the record, at most ten times a second. Call it in every
    /// round of a loop.
    pub(crate) fn poll(&mut self, counters: Counters) -> RecordChange {
        if self.polled.elapsed() < POLL_INTERVAL {
            return RecordChange::Unchanged;
        }
        self.polled = Instant::now();
        self.count(counters);
        match self.poll_record() {
            RecordChange::Unchanged if self.is_in_trouble() => RecordChange::Changed,
            change => change,
        }
    }

    /// Reads the record again when its file has changed.
    pub(crate) fn poll_record(&mut self) -> RecordChange {
        let stamp = FileStamp::of(&self.file);
        if stamp == self.stamp {
            return RecordChange::Unchanged;
        }
        let (change, error) = match self.claim.refresh() {
            Ok(record) => {
                self.stamp = stamp;
                (
                    if record.is_some() { RecordChange::Changed } else { RecordChange::Unchanged },
                    None,
                )
            }
            Err(RegistryError::NoSuchInterface { .. }) => (RecordChange::Destroyed, None),
            Err(error) => (RecordChange::Unchanged, Some(error)),
        };
        warn_once(&self.reporter, &mut self.reported_read_errors, error.as_ref());
        change
    }

    /// Reports that this process does what the record says, or why it does not.
    pub(crate) fn acknowledge(&mut self, trouble: Option<String>) {
        match &trouble {
            Some(trouble) if self.reported_trouble.is_new(trouble) => {
                self.reporter.note(&format!("{}: {trouble}", self.record().name));
            }
            Some(_) => {}
            None => self.reported_trouble.clear(),
        }
        self.trouble.clone_from(&trouble);
        let written = self.claim.acknowledge(trouble);
        warn_once(&self.reporter, &mut self.reported_write_errors, written.err().as_ref());
    }

    /// Returns whether what the record says could not be done, and is to be tried again.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Publishes what was counted since the interface was claimed. Call it as often as you like:
    /// the file is written at most ten times a second.
    pub(crate) fn count(&mut self, counters: Counters) {
        let written = self.claim.count(counters);
        warn_once(&self.reporter, &mut self.reported_write_errors, written.err().as_ref());
    }

    /// Describes the connection of a port. It is written with the next counters or acknowledgement.
    pub(crate) fn describe(&mut self, link: Option<LinkState>, memif: Option<MemifReport>) {
        self.claim.describe(link, memif);
    }

    /// Gives up an interface that was destroyed.
    pub(crate) fn discard(self) {
        if let Err(error) = self.claim.discard() {
            self.reporter.warn(&error.to_string());
        }
    }
}

/// Warns of an error, unless it is the same as the last time.
fn warn_once(reporter: &Reporter, last: &mut Option<String>, error: Option<&RegistryError>) {
    let text = error.map(ToString::to_string);
    if text != *last {
        if let Some(text) = &text {
            reporter.warn(text);
        }
        *last = text;
    }
}
