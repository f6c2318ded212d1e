//! The interfaces of a user, kept as readable files.
//!
//! ```text
//! STATE/lock                      held during a change, so that changes are serialised
//! STATE/interfaces/shmif0.toml    what the interface is: one record, replaced as a whole
//! STATE/sockets/1.toml            the address of memif socket 1
//! STATE/running/shmif0            the claim of its runner: locked while that process lives, its pid inside
//! STATE/reports/shmif0.toml       what the runner last reported: counters, and which revision it follows
//! ```
//!
//! There is no daemon. A record is replaced by `rename`, so a reader needs no lock and sees the old
//! record or the new one. A process that changes a record reads it again under the lock. Every file
//! is checked when it is read, because people may edit it: a damaged file is named and skipped, and
//! breaks nothing else.
//!
//! Nothing is synced to disk: a power cut also ends the processes that run the interfaces, and the
//! state folder belongs on a tmpfs.

pub(crate) mod apply;
mod claim;
mod edit;
mod error;
mod file;
pub(crate) mod file_stamp;
mod folder;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod mac;
mod memif_report;
mod name;
mod port_settings;
mod record;
mod report;
pub(crate) mod runner;
mod settings;
mod shmif;
mod socket;

pub(crate) use claim::{Claim, Runner};
pub(crate) use edit::Edit;
pub(crate) use error::RegistryError;
pub(crate) use folder::state_folder;
pub(crate) use mac::{format_mac, parse_mac};
pub(crate) use memif_report::{MemifReport, Remote, RingReport};
pub(crate) use name::{InterfaceName, Kind};
pub(crate) use port_settings::PortSettings;
pub(crate) use record::{Record, Settings, check_linkstr};
pub(crate) use report::Report;
pub(crate) use settings::KeyValue;
pub(crate) use shmif::{Media, Shmif};
pub(crate) use socket::Socket;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use self::file::Content;

/// The interfaces in one state folder. It is cheap to make: files are read by each method.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    folder: PathBuf,
}

impl Registry {
    /// Makes the registry in `folder`, which need not exist: it is made with the first interface.
    #[must_use]
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Starts a change: other processes wait until the [`Edit`] is dropped.
    ///
    /// # Errors
    /// When the state folder cannot be made or written, or another process holds the lock for too
    /// long.
    pub(crate) fn edit(&self) -> Result<Edit<'_>, RegistryError> {
        Edit::begin(self)
    }

    /// Reads the record of `name`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read, or it is damaged.
    pub(crate) fn load(&self, name: InterfaceName) -> Result<Record, RegistryError> {
        let path = self.record_path(name);
        let parsed = match file::read(&path)? {
            Content::Text(text) => Record::parse(name, &text),
            Content::Damaged(why) => Err(why.to_owned()),
            Content::Missing => {
                let others = self.names().unwrap_or_default();
                return Err(RegistryError::NoSuchInterface { name, others });
            }
        };
        parsed.map_err(|why| RegistryError::Damaged { name, path, why })
    }

    /// Returns the names that are taken, also those of damaged records.
    ///
    /// # Errors
    /// When the folder is there but cannot be read.
    pub(crate) fn names(&self) -> Result<BTreeSet<InterfaceName>, RegistryError> {
        let stems = stems(&self.interfaces())?;
        Ok(stems.iter().filter_map(|stem| InterfaceName::from_file_stem(stem)).collect())
    }

    /// Reads all records in the order of their names. Returns an error for each that cannot be
    /// read.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub(crate) fn list(&self) -> Result<(Vec<Record>, Vec<RegistryError>), RegistryError> {
        let mut records = Vec::new();
        let mut damaged = Vec::new();
        for name in self.names()? {
            match self.load(name) {
                Ok(record) => records.push(record),
                // Destroyed since its name was read.
                Err(RegistryError::NoSuchInterface { .. }) => {}
                Err(error) => damaged.push(error),
            }
        }
        Ok((records, damaged))
    }

    /// Reads the record of socket `id`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read, or its record is damaged.
    pub(crate) fn socket(&self, id: u32) -> Result<Socket, RegistryError> {
        if id == 0 {
            return Ok(Socket::zero());
        }
        let path = self.socket_path(id);
        let parsed = match file::read(&path)? {
            Content::Text(text) => Socket::parse(id, &text),
            Content::Damaged(why) => Err(why.to_owned()),
            Content::Missing => return Err(RegistryError::NoSuchSocket(id)),
        };
        parsed.map_err(|why| RegistryError::DamagedSocket { id, path, why })
    }

    /// Reads all sockets in order. Returns an error for each record that cannot be read.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub(crate) fn sockets(&self) -> Result<(Vec<Socket>, Vec<RegistryError>), RegistryError> {
        let mut ids: BTreeSet<u32> =
            stems(&self.socket_folder())?.iter().filter_map(|stem| name::number(stem)).collect();
        ids.insert(0);
        let (mut sockets, mut damaged) = (Vec::new(), Vec::new());
        for id in ids {
            match self.socket(id) {
                Ok(socket) => sockets.push(socket),
                // Removed since its number was read.
                Err(RegistryError::NoSuchSocket(_)) => {}
                Err(error) => damaged.push(error),
            }
        }
        Ok((sockets, damaged))
    }

    /// Returns the interfaces on socket `id`, also those with damaged records.
    ///
    /// # Errors
    /// When the folder is there but cannot be read.
    pub(crate) fn on_socket(&self, id: u32) -> Result<Vec<InterfaceName>, RegistryError> {
        let there = |name: &InterfaceName| matches!(name, InterfaceName::Memif { socket, .. } if *socket == id);
        Ok(self.names()?.into_iter().filter(there).collect())
    }

    /// Returns the process that runs `name` now, if there is one.
    ///
    /// # Errors
    /// When the claim cannot be read.
    pub(crate) fn runner(&self, name: InterfaceName) -> Result<Option<Runner>, RegistryError> {
        Runner::find(self, name)
    }

    /// Makes this process the runner of `name`, until the [`Claim`] is dropped or the process ends.
    ///
    /// # Errors
    /// When another process runs it, or its record cannot be read.
    pub(crate) fn claim(&self, name: InterfaceName) -> Result<Claim, RegistryError> {
        Claim::take(self, name)
    }

    /// Returns what the last runner of `name` reported. All is zero when there was no runner, or
    /// its report is damaged: counters are not worth an error.
    #[must_use]
    pub(crate) fn report(&self, name: InterfaceName) -> Report {
        Report::load(&self.report_path(name))
    }

    /// Returns when the last report was written, if there is one.
    #[must_use]
    pub(crate) fn reported_at(&self, name: InterfaceName) -> Option<SystemTime> {
        std::fs::metadata(self.report_path(name)).and_then(|file| file.modified()).ok()
    }

    /// Returns the folders with records: a process that follows the registry watches them.
    #[must_use]
    pub(crate) fn watched_folders(&self) -> Vec<PathBuf> {
        vec![self.interfaces(), self.socket_folder()]
    }

    fn interfaces(&self) -> PathBuf {
        self.folder.join("interfaces")
    }

    fn record_path(&self, name: InterfaceName) -> PathBuf {
        self.interfaces().join(format!("{}.toml", name.file_stem()))
    }

    fn socket_folder(&self) -> PathBuf {
        self.folder.join("sockets")
    }

    fn socket_path(&self, id: u32) -> PathBuf {
        self.socket_folder().join(format!("{id}.toml"))
    }

    fn running(&self) -> PathBuf {
        self.folder.join("running")
    }

    fn claim_path(&self, name: InterfaceName) -> PathBuf {
        self.running().join(name.file_stem())
    }

    fn reports(&self) -> PathBuf {
        self.folder.join("reports")
    }

    fn report_path(&self, name: InterfaceName) -> PathBuf {
        self.reports().join(format!("{}.toml", name.file_stem()))
    }
}

/// Returns the names of the TOML files in `folder`, without their extensions; none when the folder
/// does not exist.
fn stems(folder: &Path) -> Result<Vec<String>, RegistryError> {
    let cannot_read = |cause| RegistryError::file("read", folder, cause);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot_read(error)),
    };
    let mut stems = Vec::new();
    for entry in entries {
        let file_name = entry.map_err(cannot_read)?.file_name();
        stems.extend(
            file_name.to_str().and_then(|name| name.strip_suffix(".toml")).map(str::to_owned),
        );
    }
    Ok(stems)
}
