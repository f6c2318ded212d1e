//! Changing the registry: one process at a time, from reading a record to having replaced it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use super::error::RegistryError;
use super::name::InterfaceName;
use super::record::{Record, Shmif};
use super::{Registry, file};

/// Changes take well under a millisecond: who holds the lock for this long is stopped or stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// The right to change the registry, held as a lock on a file until it is dropped or the process is gone.
#[derive(Debug)]
pub struct Edit<'registry> {
    registry: &'registry Registry,
    _lock: File,
}

impl<'registry> Edit<'registry> {
    pub(super) fn begin(registry: &'registry Registry) -> Result<Self, RegistryError> {
        for folder in [registry.interfaces(), registry.running(), registry.reports()] {
            file::make_folder(&folder)?;
        }
        let path = registry.folder.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| RegistryError::file("open", &path, error))?;
        let start = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { registry, _lock: lock }),
                Err(TryLockError::Error(error)) => return Err(RegistryError::file("lock", &path, error)),
                Err(TryLockError::WouldBlock) if start.elapsed() >= PATIENCE => {
                    return Err(RegistryError::Busy { path, waited: PATIENCE });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// The record of `name`, which nobody else changes now.
    ///
    /// # Errors
    /// As [`Registry::load`].
    pub fn load(&self, name: InterfaceName) -> Result<Record, RegistryError> {
        self.registry.load(name)
    }

    /// Replaces the record of its interface, as the next revision.
    ///
    /// # Errors
    /// When it cannot be written; the old record stands then.
    pub fn store(&self, record: &mut Record) -> Result<(), RegistryError> {
        record.revision += 1;
        self.write(record)
    }

    /// Makes a shmif interface, with `name` or else with the lowest free unit.
    ///
    /// # Errors
    /// When the name is taken, or the record cannot be written.
    pub fn create_shmif(&self, name: Option<InterfaceName>, shmif: Shmif) -> Result<Record, RegistryError> {
        let taken = self.registry.names()?;
        let name = match name {
            Some(name) if taken.contains(&name) => return Err(RegistryError::Exists { name }),
            Some(name) => name,
            None => (0..=u32::MAX)
                .map(InterfaceName::Shmif)
                .find(|name| !taken.contains(name))
                .ok_or(RegistryError::Full)?,
        };
        let record = Record::new(name, shmif);
        self.write(&record)?;
        Ok(record)
    }

    /// Whether `name` can be destroyed: it is there (a damaged record is good enough), and nobody runs it.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_destroy(&self, name: InterfaceName) -> Result<(), RegistryError> {
        match self.registry.load(name) {
            Ok(_) | Err(RegistryError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.registry.runner(name)? {
            Some(runner) => Err(RegistryError::Running { name, runner }),
            None => Ok(()),
        }
    }

    /// Destroys `name` and what was kept about it.
    ///
    /// # Errors
    /// As [`check_destroy`](Self::check_destroy), and when a file cannot be removed.
    pub fn destroy(&self, name: InterfaceName) -> Result<(), RegistryError> {
        self.check_destroy(name)?;
        file::remove(&self.registry.claim_path(name))?;
        file::remove(&self.registry.report_path(name))?;
        file::remove(&self.registry.record_path(name))
    }

    fn write(&self, record: &Record) -> Result<(), RegistryError> {
        let path = self.registry.record_path(record.name);
        let text = record.to_toml().map_err(|error| {
            RegistryError::file("write", &path, std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })?;
        file::replace(&path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> (tempfile::TempDir, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(folder.path().join("state"));
        (folder, registry)
    }

    #[test]
    fn the_lowest_free_unit_is_taken_and_a_taken_name_refused() {
        let (_folder, registry) = registry();
        let create = |name| registry.edit()?.create_shmif(name, Shmif::default()).map(|record| record.name);
        assert_eq!(create(None).unwrap(), InterfaceName::Shmif(0));
        assert_eq!(create(Some(InterfaceName::Shmif(2))).unwrap(), InterfaceName::Shmif(2));
        assert_eq!(create(None).unwrap(), InterfaceName::Shmif(1));
        assert_eq!(create(None).unwrap(), InterfaceName::Shmif(3));
        assert!(matches!(create(Some(InterfaceName::Shmif(2))), Err(RegistryError::Exists { .. })));
        registry.edit().unwrap().destroy(InterfaceName::Shmif(1)).unwrap();
        assert_eq!(create(None).unwrap(), InterfaceName::Shmif(1));
    }

    #[test]
    fn a_damaged_record_is_named_passed_over_and_can_be_destroyed() {
        let (_folder, registry) = registry();
        for _ in 0..3 {
            registry.edit().unwrap().create_shmif(None, Shmif::default()).unwrap();
        }
        let path = registry.record_path(InterfaceName::Shmif(1));
        std::fs::write(&path, b"name = \xff\xfe").unwrap();

        let (records, damaged) = registry.list().unwrap();
        assert_eq!(records.len(), 2);
        assert!(damaged[0].to_string().contains(path.to_str().unwrap()), "{}", damaged[0]);

        let edit = registry.edit().unwrap();
        assert_eq!(edit.create_shmif(None, Shmif::default()).unwrap().name, InterfaceName::Shmif(3));
        edit.destroy(InterfaceName::Shmif(1)).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn reading_makes_no_folder() {
        let (_folder, registry) = registry();
        assert!(registry.list().unwrap().0.is_empty());
        assert!(matches!(registry.load(InterfaceName::Shmif(0)), Err(RegistryError::NoSuchInterface { .. })));
        assert!(!registry.folder().exists());
    }
}
