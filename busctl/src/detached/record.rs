//! The records of detached processes: one file each, locked while the process lives.
//!
//! A record that is not locked is left by a process that was killed: any process that looks removes
//! it. It is removed under its lock, so that it is not one that a new process is about to take.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Request;
use super::name::DetachedName;
use crate::process::identity::ProcessIdentity;
use crate::registry::{RegistryError, file};

/// A longer file is no record.
const MAX_LEN: u64 = 1 << 16;
/// How often a lock that may be held for an instant only is tried.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(2);

/// The records and logs in one state folder.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    state: PathBuf,
}

/// What a record says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    process: ProcessIdentity,
    verb: String,
    bus: Option<String>,
    /// When it started, in seconds since 1970.
    since: u64,
}

/// A detached process that lives.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) name: DetachedName,
    pub(crate) process: ProcessIdentity,
    pub(crate) verb: String,
    pub(crate) bus: Option<String>,
    /// When it started, in seconds since 1970.
    pub(crate) since: u64,
    pub(crate) log: PathBuf,
}

/// The lock of a record that was tried.
enum Tried {
    /// This process holds it now.
    Taken(File),
    /// Another process holds it.
    Held(File),
    /// The record was removed meanwhile.
    Gone,
}

impl Records {
    /// Makes the records in a state folder, which need not exist.
    pub(crate) fn new(state: PathBuf) -> Self {
        Self { state }
    }

    fn folder(&self) -> PathBuf {
        self.state.join("detached")
    }

    fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    pub(super) fn path(&self, name: &DetachedName) -> PathBuf {
        self.folder().join(name.as_str())
    }

    /// Returns the path of the log of `name`.
    pub(super) fn log_path(&self, name: &DetachedName) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Locks the record of `name`, which is made; none when a process has the name.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(super) fn claim(&self, name: &DetachedName) -> Result<Option<File>, RegistryError> {
        let path = self.path(name);
        file::make_folder(&self.folder())?;
        file::make_folder(&self.logs())?;
        for _ in 0..TRIES {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            match try_lock(&mut options, &path, File::try_lock)? {
                Tried::Taken(file) => {
                    // What a killed process left.
                    file.set_len(0).map_err(|error| RegistryError::file("write", &path, error))?;
                    return Ok(Some(file));
                }
                Tried::Held(file) => {
                    let runs = |record: Record| matches!(record.process.find(), Ok(Some(_)));
                    if Record::read(&file).is_some_and(runs) {
                        return Ok(None);
                    }
                    // A process that looks at it holds it for an instant, and releasing it wakes no
                    // other.
                    thread::sleep(PAUSE);
                }
                Tried::Gone => {}
            }
        }
        Ok(None)
    }

    /// Returns the process of that name, if one runs. What a killed one left is removed.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub(crate) fn find(&self, name: &DetachedName) -> Result<Option<Running>, RegistryError> {
        let path = self.path(name);
        // Others that look at it have shared locks as well.
        match try_lock(OpenOptions::new().read(true), &path, File::try_lock_shared)? {
            Tried::Gone => Ok(None),
            Tried::Taken(file) => {
                // If another process looks at it or has just claimed it, the file stays.
                if file.try_lock().is_ok() && is_at(&file, &path) {
                    file::remove(&path)?;
                }
                Ok(None)
            }
            // A name is printed when the record is written.
            Tried::Held(file) => {
                Ok(Record::read(&file).map(|Record { process, verb, bus, since }| {
                    let (name, log) = (name.clone(), self.log_path(name));
                    Running { name, process, verb, bus, since, log }
                }))
            }
        }
    }

    /// Returns all processes that run, by name.
    ///
    /// # Errors
    /// When the folder or a record cannot be read.
    pub(crate) fn all(&self) -> Result<Vec<Running>, RegistryError> {
        let folder = self.folder();
        let failed = |error| RegistryError::file("read", &folder, error);
        let mut names = Vec::new();
        match fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(failed)?.file_name();
                    names.extend(name.to_str().and_then(|name| name.parse::<DetachedName>().ok()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        names.sort();
        let found = names.iter().map(|name| self.find(name));
        found.filter_map(Result::transpose).collect()
    }
}

fn try_lock(
    options: &mut OpenOptions,
    path: &Path,
    lock: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<Tried, RegistryError> {
    let failed = |error| RegistryError::file("lock", path, error);
    let file = match file::open_regular(options, path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tried::Gone),
        Err(error) => return Err(failed(error)),
    };
    match lock(&file) {
        Ok(()) if is_at(&file, path) => Ok(Tried::Taken(file)),
        Ok(()) => Ok(Tried::Gone),
        Err(TryLockError::WouldBlock) => Ok(Tried::Held(file)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Returns whether the open `file` is the one at `path`.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(found)) => identity(open) == identity(found),
        _ => false,
    }
}

impl Record {
    /// Describes this process.
    ///
    /// # Errors
    /// When the kernel does not say when it was started.
    pub(super) fn of_this_process(request: &Request) -> io::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (verb, bus) = (request.verb.to_owned(), request.bus.clone());
        Ok(Self { process: ProcessIdentity::own()?, verb, bus, since })
    }

    /// Writes it into the record's file, which this process has locked.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn write(&self, mut file: &File) -> io::Result<()> {
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(self)?)
    }

    /// Reads a record; none when it is not complete.
    fn read(file: &File) -> Option<Self> {
        let mut text = Vec::new();
        file.take(MAX_LEN).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detached::{Choice, Detach};

    fn records() -> (tempfile::TempDir, Records, DetachedName) {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path().join("state"));
        (folder, records, "web".parse().unwrap())
    }

    fn record() -> Record {
        let detach = Detach { detach: Some(Choice::Default) };
        let request = detach.request("host", Some("/dev/shm/lan".to_owned())).unwrap();
        Record::of_this_process(&request).unwrap()
    }

    #[test]
    fn a_record_lives_as_long_as_its_lock() {
        let (_folder, records, name) = records();
        assert!(records.find(&name).unwrap().is_none() && records.all().unwrap().is_empty());
        let file = records.claim(&name).unwrap().unwrap();
        assert!(records.claim(&name).unwrap().is_none(), "the name is taken");
        record().write(&file).unwrap();
        let running = records.find(&name).unwrap().unwrap();
        assert_eq!((running.process.pid(), &*running.verb), (std::process::id(), "host"));
        assert_eq!(records.all().unwrap().len(), 1);
        drop(file);
        // What a killed process leaves.
        assert!(records.path(&name).exists());
        assert!(records.all().unwrap().is_empty());
        assert!(!records.path(&name).exists());
        assert!(records.claim(&name).unwrap().is_some());
    }

    #[test]
    fn a_record_that_is_no_file_is_an_error_and_blocks_nothing() {
        let (_folder, records, name) = records();
        drop(records.claim(&name).unwrap());
        fs::remove_file(records.path(&name)).unwrap();
        nix::unistd::mkfifo(&records.path(&name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(records.find(&name).is_err() && records.claim(&name).is_err());
    }
}
