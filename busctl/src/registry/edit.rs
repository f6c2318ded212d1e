//! Changes to the registry, by one process at a time: it reads a record and replaces it under the
//! lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::error::RegistryError;
use super::name::InterfaceName;
use super::record::Record;
use super::socket::Socket;
use super::{Registry, file};

/// A change takes well under a millisecond: a process that holds the lock for this long is stopped
/// or stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The right to change the registry: a file lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Edit<'registry> {
    registry: &'registry Registry,
    _lock: File,
}

impl<'registry> Edit<'registry> {
    pub(super) fn begin(registry: &'registry Registry) -> Result<Self, RegistryError> {
        for folder in [
            registry.interfaces(),
            registry.socket_folder(),
            registry.running(),
            registry.reports(),
        ] {
            file::make_folder(&folder)?;
        }
        let path = registry.folder.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = file::open_regular(&mut options, &path)
            .map_err(|error| RegistryError::file("open", &path, error))?;
        let start = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { registry, _lock: lock }),
                Err(TryLockError::Error(error)) => {
                    return Err(RegistryError::file("lock", &path, error));
                }
                Err(TryLockError::WouldBlock) if start.elapsed() >= LOCK_TIMEOUT => {
                    return Err(RegistryError::Busy { path, waited: LOCK_TIMEOUT });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Reads the record of `name`, which no other process changes now.
    ///
    /// # Errors
    /// As [`Registry::load`].
    pub(crate) fn load(&self, name: InterfaceName) -> Result<Record, RegistryError> {
        self.registry.load(name)
    }

    /// Replaces the record of its interface, as the next revision.
    ///
    /// # Errors
    /// When its role differs from that of others on its socket, or it cannot be written; the old
    /// record stands then.
    pub(crate) fn store(&self, record: &mut Record) -> Result<(), RegistryError> {
        self.check_role(record)?;
        record.revision += 1;
        self.write(record)
    }

    /// Makes the interface that `record` is of.
    ///
    /// # Errors
    /// When the name is taken, there is no such socket, or interfaces on it have another role; when
    /// the record cannot be written.
    pub(crate) fn create(&self, record: Record) -> Result<Record, RegistryError> {
        let name = record.name;
        if self.registry.names()?.contains(&name) {
            return Err(RegistryError::Exists { name });
        }
        if let InterfaceName::Memif { socket, .. } = name {
            self.registry.socket(socket)?;
            self.check_role(&record)?;
        }
        // The report of a killed runner about an earlier interface of this name.
        file::remove(&self.registry.report_path(name))?;
        self.write(&record)?;
        Ok(record)
    }

    /// Makes the interface with the lowest free unit instead of its own.
    ///
    /// # Errors
    /// As [`create`](Self::create), and when every unit is taken.
    pub(crate) fn create_lowest(&self, record: Record) -> Result<Record, RegistryError> {
        let taken = self.registry.names()?;
        let units = (0..=u32::MAX).map(|unit| record.name.with_unit(unit));
        let free =
            units.into_iter().find(|name| !taken.contains(name)).ok_or(RegistryError::Full)?;
        self.create(Record { name: free, ..record })
    }

    /// Fails when another interface on the socket has another role. Damaged records have none.
    fn check_role(&self, record: &Record) -> Result<(), RegistryError> {
        let (Some(role), InterfaceName::Memif { socket, .. }) = (record.role(), record.name) else {
            return Ok(());
        };
        for other in self.registry.on_socket(socket)? {
            let its = self.registry.load(other).ok().and_then(|record| record.role());
            if let Some(its) = its.filter(|its| *its != role)
                && other != record.name
            {
                return Err(RegistryError::Role { socket, other, role: its });
            }
        }
        Ok(())
    }

    /// Adds a socket.
    ///
    /// # Errors
    /// When its number or its address is taken, or the record cannot be written.
    pub(crate) fn add_socket(&self, socket: &Socket) -> Result<(), RegistryError> {
        let Socket { id, path } = socket;
        let refuse = |why: String| Err(RegistryError::Socket(why));
        match self.registry.socket(*id) {
            Ok(zero) if *id == 0 => {
                return refuse(format!("socket 0 is {} and fixed: take another number", zero.path));
            }
            Ok(same) if same == *socket => return Ok(()),
            Ok(there) => {
                return refuse(format!(
                    "socket {id} is {}: an address is never changed; 'busctl socket del {id}' first",
                    there.path
                ));
            }
            Err(RegistryError::NoSuchSocket(_)) => {}
            Err(error) => return Err(error),
        }
        if let Some(there) = self.registry.sockets()?.0.iter().find(|other| other.path == *path) {
            return refuse(format!("{path} is socket {} already: use that", there.id));
        }
        let file = self.registry.socket_path(*id);
        let text = toml::to_string(socket).map_err(|error| unwritable(&file, error))?;
        file::replace(&file, &text)
    }

    /// Removes a socket, also one with a damaged record.
    ///
    /// # Errors
    /// When there is none, it is fixed, or an interface uses it.
    pub(crate) fn del_socket(&self, id: u32) -> Result<(), RegistryError> {
        match self.registry.socket(id) {
            Ok(_) | Err(RegistryError::DamagedSocket { .. }) => {}
            Err(error) => return Err(error),
        }
        if id == 0 {
            return Err(RegistryError::Socket(
                "socket 0 is fixed and cannot be removed".to_owned(),
            ));
        }
        let users: Vec<_> = self.registry.on_socket(id)?.iter().map(ToString::to_string).collect();
        if !users.is_empty() {
            let users = users.join(" ");
            return Err(RegistryError::Socket(format!(
                "socket {id} is used by {users}: first 'busctl destroy {users}'"
            )));
        }
        file::remove(&self.registry.socket_path(id))
    }

    /// Checks that `name` can be destroyed, which includes damaged records.
    ///
    /// # Errors
    /// When there is no such interface.
    pub(crate) fn check_destroy(&self, name: InterfaceName) -> Result<(), RegistryError> {
        match self.registry.load(name) {
            Ok(_) | Err(RegistryError::Damaged { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Destroys `name`, with its claim and its report. A process that runs it removes these two
    /// when it releases it.
    ///
    /// # Errors
    /// As [`check_destroy`](Self::check_destroy), and when a file cannot be removed.
    pub(crate) fn destroy(&self, name: InterfaceName) -> Result<(), RegistryError> {
        self.check_destroy(name)?;
        if self.registry.runner(name)?.is_none() {
            file::remove(&self.registry.claim_path(name))?;
            file::remove(&self.registry.report_path(name))?;
        }
        file::remove(&self.registry.record_path(name))
    }

    fn write(&self, record: &Record) -> Result<(), RegistryError> {
        let path = self.registry.record_path(record.name);
        let text = record.to_toml().map_err(|error| unwritable(&path, error))?;
        file::replace(&path, &text)
    }
}

fn unwritable(path: &Path, error: toml::ser::Error) -> RegistryError {
    RegistryError::file("write", path, std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
impl Edit<'_> {
    /// Makes a shmif interface for a test, with `name` or else with the lowest free unit.
    pub(crate) fn create_shmif(
        &self,
        name: Option<InterfaceName>,
        shmif: super::Shmif,
    ) -> Result<Record, RegistryError> {
        let draft = |name| Record::new(name, super::Settings::Shmif(shmif));
        match name {
            Some(name) => self.create(draft(name)),
            None => self.create_lowest(draft(InterfaceName::Shmif(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{PortSettings, Settings, Shmif};

    fn registry() -> (tempfile::TempDir, Registry) {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(folder.path().join("state"));
        (folder, registry)
    }

    #[test]
    fn the_lowest_free_unit_is_taken_and_a_taken_name_refused() {
        let (_folder, registry) = registry();
        let create =
            |name| registry.edit()?.create_shmif(name, Shmif::default()).map(|record| record.name);
        assert_eq!(create(None).unwrap(), InterfaceName::Shmif(0));
        assert_eq!(create(Some(InterfaceName::Shmif(2))).unwrap(), InterfaceName::Shmif(2));
        assert_eq!(create(None).unwrap(), InterfaceName::Shmif(1));
        assert_eq!(create(None).unwrap(), InterfaceName::Shmif(3));
        assert!(matches!(create(Some(InterfaceName::Shmif(2))), Err(RegistryError::Exists { .. })));
        registry.edit().unwrap().destroy(InterfaceName::Shmif(1)).unwrap();
        assert_eq!(create(None).unwrap(), InterfaceName::Shmif(1));
    }

    #[test]
    fn a_damaged_record_is_named_skipped_and_can_be_destroyed() {
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
        assert_eq!(
            edit.create_shmif(None, Shmif::default()).unwrap().name,
            InterfaceName::Shmif(3)
        );
        edit.destroy(InterfaceName::Shmif(1)).unwrap();
        assert!(!path.exists());
    }

    fn memif(socket: u32, id: u32, role: &str) -> Record {
        let name = InterfaceName::Memif { socket, id };
        let mut record = Record::new(name, Settings::Port(PortSettings::default()));
        record.apply(&format!("role={role}").parse().unwrap()).unwrap();
        record
    }

    #[test]
    fn all_interfaces_on_a_socket_have_one_role() {
        let (_folder, registry) = registry();
        let edit = registry.edit().unwrap();
        edit.create(memif(0, 0, "server")).unwrap();
        edit.create(memif(0, 1, "")).unwrap();
        let refused = edit.create(memif(0, 2, "client")).unwrap_err();
        assert!(refused.to_string().contains("socket 0 has memif0/0, a server"), "{refused}");

        // The only interface on a socket may change its role.
        edit.destroy(InterfaceName::Memif { socket: 0, id: 1 }).unwrap();
        let mut alone = edit.load(InterfaceName::Memif { socket: 0, id: 0 }).unwrap();
        alone.apply(&"role=client".parse().unwrap()).unwrap();
        edit.store(&mut alone).unwrap();
        assert!(edit.create(memif(0, 1, "")).is_err());
        edit.create(memif(0, 1, "slave")).unwrap();
    }

    #[test]
    fn a_socket_is_made_used_and_removed_by_the_rules() {
        let (_folder, registry) = registry();
        let edit = registry.edit().unwrap();
        let socket = |id, path: &str| Socket::new(id, path.as_ref()).unwrap();
        let refused = |result: Result<(), RegistryError>, why: &str| {
            let error = result.unwrap_err();
            assert!(error.is_misuse() && error.to_string().contains(why), "{error}");
        };
        refused(edit.add_socket(&socket(0, "/tmp/m.sock")), "fixed");
        refused(edit.del_socket(0), "fixed");
        refused(edit.del_socket(1), "there is no socket 1");
        refused(edit.create(memif(1, 0, "")).map(drop), "'busctl socket add 1 PATH'");
        edit.add_socket(&socket(1, "/tmp/m.sock")).unwrap();
        edit.add_socket(&socket(1, "/tmp/m.sock")).unwrap();
        refused(edit.add_socket(&socket(1, "/tmp/n.sock")), "socket 1 is /tmp/m.sock");
        refused(edit.add_socket(&socket(2, "/tmp/m.sock")), "/tmp/m.sock is socket 1 already");
        edit.create(memif(1, 7, "")).unwrap();
        refused(edit.del_socket(1), "used by memif1/7: first 'busctl destroy memif1/7'");
        edit.destroy(InterfaceName::Memif { socket: 1, id: 7 }).unwrap();

        std::fs::write(registry.socket_path(1), "id = 1").unwrap();
        let (sockets, damaged) = registry.sockets().unwrap();
        assert_eq!(sockets, [Socket::zero()]);
        assert!(damaged[0].to_string().contains("'busctl socket del 1'"), "{}", damaged[0]);
        edit.del_socket(1).unwrap();
        assert!(registry.sockets().unwrap().1.is_empty());
    }

    #[test]
    fn reading_makes_no_folder() {
        let (_folder, registry) = registry();
        assert!(registry.list().unwrap().0.is_empty());
        assert!(matches!(
            registry.load(InterfaceName::Shmif(0)),
            Err(RegistryError::NoSuchInterface { .. })
        ));
        assert!(!registry.folder.exists());
    }
}
