//! Which process runs an interface.
//!
//! The runner holds an exclusive `flock` on the claim file of the interface, which contains its
//! pid. The kernel releases the lock when the process ends, however that happens, so a claim never
//! outlives its holder; the pid is only for messages. The lock is taken under the lock of the
//! registry, so that two claims, or a claim and `destroy`, cannot interfere.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use node::Counters;
use port::LinkState;

use super::error::RegistryError;
use super::memif_report::MemifReport;
use super::name::InterfaceName;
use super::record::Record;
use super::report::Report;
use super::{Registry, file};

/// Counters are written no more often than this.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// More bytes than this are no pid.
const MAX_PID_TEXT: u64 = 32;

/// The process that runs an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runner {
    /// Its process id, if it could be read.
    pub(crate) pid: Option<u32>,
}

impl fmt::Display for Runner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(formatter, "process {pid}"),
            None => formatter.write_str("another process"),
        }
    }
}

impl Runner {
    /// Finds the runner by trying a shared lock, which fails only while a runner holds its
    /// exclusive one.
    pub(super) fn find(
        registry: &Registry,
        name: InterfaceName,
    ) -> Result<Option<Self>, RegistryError> {
        let path = registry.claim_path(name);
        let failed = |error| RegistryError::file("look at", &path, error);
        let mut file = match file::open_regular(OpenOptions::new().read(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(Self::read(&mut file))),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        let pid = file
            .take(MAX_PID_TEXT)
            .read_to_string(&mut text)
            .ok()
            .and_then(|_| text.trim().parse().ok());
        Self { pid }
    }
}

/// The right to run an interface, held by this process until it is dropped.
///
/// The record may change meanwhile. Call [`refresh`](Self::refresh) several times a second, so that
/// `up` and `down` can wait for it; act on the change, and report that with
/// [`acknowledge`](Self::acknowledge).
#[derive(Debug)]
pub(crate) struct Claim {
    registry: Registry,
    record: Record,
    path: PathBuf,
    /// Holds the lock.
    _file: File,
    /// The counters of earlier runners.
    before: Counters,
    report: Report,
    reported: Instant,
    unwritten: bool,
}

impl Claim {
    pub(super) fn take(registry: &Registry, name: InterfaceName) -> Result<Self, RegistryError> {
        let edit = registry.edit()?;
        let record = edit.load(name)?;
        let path = registry.claim_path(name);
        let file = lock(name, &path)?;
        let last = registry.report(name);
        let before = last.counters;
        let report =
            Report { revision: record.revision, trouble: None, link: None, blocked: false, ..last };
        let mut claim = Self {
            registry: registry.clone(),
            record,
            path,
            _file: file,
            before,
            report,
            reported: Instant::now(),
            unwritten: true,
        };
        claim.write_report()?;
        Ok(claim)
    }

    /// Returns the record as it was last read.
    #[must_use]
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Reads the record again, and returns it if it has changed.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged; the last one still stands then.
    /// [`RegistryError::NoSuchInterface`] when the interface was destroyed, also when another one
    /// has its name by now.
    pub(crate) fn refresh(&mut self) -> Result<Option<&Record>, RegistryError> {
        let record = self.registry.load(self.record.name)?;
        if record == self.record {
            return Ok(None);
        }
        if record.revision < self.record.revision {
            // The revisions of one interface only grow.
            return Err(RegistryError::NoSuchInterface {
                name: record.name,
                others: BTreeSet::new(),
            });
        }
        self.record = record;
        // This may be another interface of the same revision, whose report was removed with the old
        // one.
        self.unwritten = true;
        Ok(Some(&self.record))
    }

    /// Reports that this process does what the record says, or why it does not. The process that
    /// changed the record waits for this.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn acknowledge(&mut self, trouble: Option<String>) -> Result<(), RegistryError> {
        let revision = self.record.revision;
        self.unwritten |= (revision, &trouble) != (self.report.revision, &self.report.trouble);
        (self.report.revision, self.report.trouble) = (revision, trouble);
        if self.unwritten { self.write_report() } else { Ok(()) }
    }

    /// Reports the counters of this runner. Call it as often as you like: they are written at most
    /// ten times a second, and at the end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn count(&mut self, counters: Counters) -> Result<(), RegistryError> {
        let counters = self.before.plus(counters);
        self.unwritten |= counters != self.report.counters;
        self.report.counters = counters;
        if self.unwritten && self.reported.elapsed() >= REPORT_INTERVAL {
            self.write_report()
        } else {
            Ok(())
        }
    }

    /// Reports the connection of a port. It is written with the next [counters](Self::count).
    pub(crate) fn describe(&mut self, link: Option<LinkState>, memif: Option<MemifReport>) {
        let blocked = link == Some(LinkState::Blocked);
        let link = link.map(|link| link == LinkState::Up);
        let report = &mut self.report;
        self.unwritten |= (link, blocked) != (report.link, report.blocked) || memif != report.memif;
        (report.link, report.blocked, report.memif) = (link, blocked, memif);
    }

    /// Releases an interface that was destroyed, and removes its report.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn discard(mut self) -> Result<(), RegistryError> {
        self.unwritten = false;
        if !self.registry.interfaces().exists() {
            // The user has removed the whole folder, and it stays removed.
            return Ok(());
        }
        // Under the lock, so that this is not the report of a new interface of the same name.
        let edit = self.registry.edit()?;
        match self.registry.load(self.record.name) {
            Err(RegistryError::NoSuchInterface { .. }) => {
                file::remove(&self.registry.report_path(self.record.name))
            }
            _ => Ok(()),
        }
        .map(|()| drop(edit))
    }

    fn write_report(&mut self) -> Result<(), RegistryError> {
        self.reported = Instant::now();
        self.report.store(&self.registry.report_path(self.record.name))?;
        self.unwritten = false;
        Ok(())
    }
}

impl Drop for Claim {
    /// Writes the last counters, and removes the claim. A process that has the file open sees that
    /// it was removed.
    fn drop(&mut self) {
        if self.unwritten {
            // There is no other place to report a failure.
            let _ = self.write_report();
        }
        let _ = file::remove(&self.path);
    }
}

fn lock(name: InterfaceName, path: &Path) -> Result<File, RegistryError> {
    let failed = |error| RegistryError::file("lock", path, error);
    // A process that only looks holds a shared lock for an instant, and one that releases its claim
    // removes the file: both are over at once.
    for _ in 0..20 {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = file::open_regular(&mut options, path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) if file.metadata().map_err(failed)?.nlink() == 0 => {}
            Ok(()) => {
                write_pid(&mut file).map_err(failed)?;
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(2)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    let runner = file::open_regular(OpenOptions::new().read(true), path)
        .map_or(Runner { pid: None }, |mut file| Runner::read(&mut file));
    Err(RegistryError::Running { name, runner: runner.to_string() })
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Shmif;

    const NAME: InterfaceName = InterfaceName::Shmif(0);

    fn registry() -> (tempfile::TempDir, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(folder.path().join("state"));
        registry.edit().unwrap().create_shmif(None, Shmif::default()).unwrap();
        (folder, registry)
    }

    #[test]
    fn one_process_at_a_time_and_the_second_learns_the_pid() {
        let (_folder, registry) = registry();
        assert_eq!(registry.runner(NAME).unwrap(), None);
        let claim = registry.claim(NAME).unwrap();
        let me = Runner { pid: Some(std::process::id()) };
        assert_eq!(registry.runner(NAME).unwrap(), Some(me));
        let error = registry.claim(NAME).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(claim);
        assert_eq!(registry.runner(NAME).unwrap(), None);
        assert!(!registry.claim_path(NAME).exists());
        assert!(registry.claim(NAME).is_ok());
    }

    #[test]
    fn the_claim_of_a_dead_process_has_lapsed() {
        let (_folder, registry) = registry();
        // What a killed runner leaves: the file with its pid, and no lock.
        std::fs::write(registry.claim_path(NAME), "1\n").unwrap();
        assert_eq!(registry.runner(NAME).unwrap(), None);
        let _claim = registry.claim(NAME).unwrap();
        assert_eq!(registry.runner(NAME).unwrap(), Some(Runner { pid: Some(std::process::id()) }));
    }

    #[test]
    fn counters_outlive_the_runner_and_add_up() {
        let (_folder, registry) = registry();
        for _ in 0..2 {
            let mut claim = registry.claim(NAME).unwrap();
            claim.count(Counters { rx_packets: 3, tx_bytes: 64, ..Counters::default() }).unwrap();
            claim.count(Counters { rx_packets: 5, tx_bytes: 64, ..Counters::default() }).unwrap();
        }
        let counters = registry.report(NAME).counters;
        assert_eq!((counters.rx_packets, counters.tx_bytes), (10, 128));
    }

    #[test]
    fn the_runner_sees_a_change_once_and_acknowledges_it() {
        let (_folder, registry) = registry();
        let mut claim = registry.claim(NAME).unwrap();
        assert_eq!(claim.refresh().unwrap(), None);
        let edit = registry.edit().unwrap();
        let mut record = edit.load(NAME).unwrap();
        record.apply(&"promisc=on".parse().unwrap()).unwrap();
        edit.store(&mut record).unwrap();
        assert_eq!(claim.refresh().unwrap(), Some(&record));
        assert_eq!(claim.refresh().unwrap(), None);
        assert!(registry.report(NAME).revision < record.revision);
        claim.acknowledge(None).unwrap();
        assert_eq!(registry.report(NAME).revision, record.revision);
    }

    #[test]
    fn the_runner_of_a_destroyed_interface_takes_no_other_for_it() {
        let (_folder, registry) = registry();
        let edit = registry.edit().unwrap();
        let mut record = edit.load(NAME).unwrap();
        edit.store(&mut record).unwrap();
        drop(edit);
        let mut claim = registry.claim(NAME).unwrap();
        let destroyed = |claim: &mut Claim| {
            matches!(claim.refresh(), Err(RegistryError::NoSuchInterface { .. }))
        };
        assert!(!destroyed(&mut claim));
        registry.edit().unwrap().destroy(NAME).unwrap();
        assert!(destroyed(&mut claim));
        registry.edit().unwrap().create_shmif(Some(NAME), Shmif::default()).unwrap();
        assert!(destroyed(&mut claim), "this is another one");
        claim.discard().unwrap();
        assert_eq!(registry.runner(NAME).unwrap(), None);
        assert!(registry.load(NAME).is_ok());
    }

    #[test]
    fn a_runner_that_follows_another_interface_of_the_same_revision_acknowledges_it() {
        let (_folder, registry) = registry();
        let mut claim = registry.claim(NAME).unwrap();
        let edit = registry.edit().unwrap();
        edit.destroy(NAME).unwrap();
        let other = Shmif { promisc: true, ..Shmif::default() };
        let record = edit.create_shmif(Some(NAME), other).unwrap();
        drop(edit);
        assert_eq!(claim.refresh().unwrap(), Some(&record));
        assert_ne!(registry.report(NAME).revision, record.revision);
        claim.acknowledge(None).unwrap();
        assert_eq!(registry.report(NAME).revision, record.revision);
    }

    #[test]
    fn a_release_makes_no_folder_again() {
        let (_folder, registry) = registry();
        let claim = registry.claim(NAME).unwrap();
        std::fs::remove_dir_all(&registry.folder).unwrap();
        claim.discard().unwrap();
        assert!(!registry.folder.exists());
    }
}
