//! The folder of a lab that is up, in the user's state folder.
//!
//! ```text
//! STATE/labs/NAME/lock          locked while the lab is up
//! STATE/labs/NAME/plan.json     what was started
//! STATE/labs/NAME/control       the socket of the supervisor
//! STATE/labs/NAME/bus/LAN       the buses
//! STATE/labs/NAME/node/NODE/    the scratch folder of a node
//! STATE/labs/NAME/log/NODE.log  what its commands print; NODE.log.1 is what came before
//! ```
//!
//! The kernel unlocks the lock when the supervisor ends, however that happens. A folder that is not
//! locked is left by one that was killed: any process that looks removes it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::{LabError, at, system};
use crate::plan::Plan;

/// The longest path of a Unix socket, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// The folder of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

/// The lock of a lab, held.
#[derive(Debug)]
pub struct Locked {
    /// The open file is the lock.
    pub(crate) file: File,
}

impl Folder {
    /// Returns the folder of the lab `name` in a state folder. It need not exist.
    ///
    /// # Errors
    /// When that cannot be the name of a lab.
    pub fn new(state: &Path, name: &str) -> Result<Self, LabError> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(is_good)
            && !name.starts_with(['.', '-']);
        if !is_name {
            return Err(LabError::BadName(name.to_owned()));
        }
        Ok(Self { path: state.join("labs").join(name) })
    }

    /// Returns the folder at `path`.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the labs of a state folder that are up, in the order of their names. What killed
    /// ones have left is removed.
    ///
    /// # Errors
    /// When the state folder cannot be read.
    pub fn all(state: &Path) -> Result<Vec<Self>, LabError> {
        let labs = state.join("labs");
        let entries = match fs::read_dir(&labs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at("read", &labs))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let folder = Self { path: entry.map_err(at("read", &labs))?.path() };
            if folder.is_up()? {
                found.push(folder);
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the lab.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Returns the path of the bus of a LAN.
    #[must_use]
    pub fn bus(&self, lan: &str) -> PathBuf {
        self.path.join("bus").join(lan)
    }

    /// Returns the scratch folder of a node.
    #[must_use]
    pub fn scratch(&self, node: &str) -> PathBuf {
        self.path.join("node").join(node)
    }

    /// Returns the path of the log of a node.
    #[must_use]
    pub fn log(&self, node: &str) -> PathBuf {
        self.logs().join(format!("{node}.log"))
    }

    /// Returns the folder of the logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    pub(crate) fn write_plan(&self, plan: &Plan) -> Result<(), LabError> {
        let path = self.plan();
        let text = serde_json::to_vec(plan).map_err(io::Error::from).map_err(at("write", &path))?;
        fs::write(&path, text).map_err(at("write", &path))
    }

    fn plan(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    /// Reads the plan of the lab that is up.
    ///
    /// # Errors
    /// When none is.
    pub fn read_plan(&self) -> Result<Plan, LabError> {
        let path = self.plan();
        let text = fs::read(&path).map_err(at("read", &path))?;
        serde_json::from_slice(&text).map_err(io::Error::from).map_err(at("read", &path))
    }

    /// Takes the lab's name: makes its folder, empty but for the lock, which is held.
    ///
    /// # Errors
    /// When a lab of that name is up, or the folder cannot be made.
    pub fn take(&self) -> Result<Locked, LabError> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        make(parent)?;
        loop {
            make(&self.path)?;
            let Some(locked) = self.try_lock(true)? else {
                return Err(LabError::IsUp(self.name()));
            };
            // Another may have removed the folder between the two.
            if self.has(&locked) {
                self.clear()?;
                return Ok(locked);
            }
        }
    }

    /// Returns whether the lab is up. What a killed one has left is removed.
    ///
    /// # Errors
    /// When that cannot be removed.
    pub fn is_up(&self) -> Result<bool, LabError> {
        let Some(locked) = (match self.try_lock(false) {
            Err(LabError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(false);
            }
            tried => tried?,
        }) else {
            return Ok(true);
        };
        self.remove(locked)?;
        Ok(false)
    }

    /// Waits until the lab is down, for `timeout` at most, and removes what a killed one has left.
    /// Returns whether it is down.
    ///
    /// # Errors
    /// When that cannot be removed, or the system refuses the wait.
    pub fn wait_until_down(&self, timeout: Duration) -> Result<bool, LabError> {
        if !self.is_up()? {
            return Ok(true);
        }
        let path = self.path.join("lock");
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            opened => opened.map_err(at("open", &path))?,
        };
        let (unlocked, heard) = mpsc::channel();
        // The kernel gives the lock away when the supervisor ends. A wait for it has no limit of
        // time, so after one the thread stays until then.
        let wait = move || {
            let locked = file.lock().map(|()| file);
            // The limit may be over, and the lock is given back.
            let _ = unlocked.send(locked);
        };
        thread::Builder::new().spawn(wait).map_err(system("start a thread"))?;
        match heard.recv_timeout(timeout) {
            Ok(locked) => {
                self.remove(Locked { file: locked.map_err(at("lock", &path))? })?;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Removes the folder, whose lock is held.
    ///
    /// # Errors
    /// When not all of it can be removed.
    pub fn remove(&self, locked: Locked) -> Result<(), LabError> {
        if !self.has(&locked) {
            return Ok(());
        }
        self.clear()?;
        // The lock is the last that goes: until then no other process makes the lab anew.
        let lock = self.path.join("lock");
        fs::remove_file(&lock).map_err(at("remove", &lock))?;
        drop(locked);
        match fs::remove_dir(&self.path) {
            // Another has begun to make a lab of this name.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed.map_err(at("remove", &self.path)),
        }
    }

    /// Removes all but the lock.
    fn clear(&self) -> Result<(), LabError> {
        for entry in fs::read_dir(&self.path).map_err(at("read", &self.path))? {
            let entry = entry.map_err(at("read", &self.path))?;
            if entry.file_name() == "lock" {
                continue;
            }
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed =
                if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(at("remove", &path))?;
        }
        Ok(())
    }

    /// Makes the folders in it.
    pub(crate) fn make_folders(&self) -> Result<(), LabError> {
        ["bus", "node", "log"].iter().try_for_each(|name| make(&self.path.join(name)))
    }

    /// Tries to lock; none when another process holds the lock.
    fn try_lock(&self, make: bool) -> Result<Option<Locked>, LabError> {
        let path = self.path.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(make).mode(0o600);
        let file = options.open(&path).map_err(at("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Locked { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(at("lock", &path)(error)),
        }
    }

    /// Returns whether the lock is that of this folder.
    fn has(&self, locked: &Locked) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::metadata(self.path.join("lock"));
        let held = locked.file.metadata();
        matches!((found, held), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
    }
}

/// Returns a path of the same file that is short enough for a Unix socket, and works as long as the
/// file beside it is open.
pub(crate) fn short(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok((None, path.to_owned()));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((Some(folder), path))
}

/// Makes a folder for this user alone, with those above it.
fn make(path: &Path) -> Result<(), LabError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at("make", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_removed_when_its_lab_was_killed() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::new(state.path(), "two.routers").unwrap();
        assert!(!folder.is_up().unwrap());
        let locked = folder.take().unwrap();
        folder.make_folders().unwrap();
        fs::write(folder.log("r1"), "hello").unwrap();
        assert!(matches!(folder.take(), Err(LabError::IsUp(_))));
        assert_eq!(Folder::all(state.path()).unwrap(), std::slice::from_ref(&folder));
        // As when the process is killed.
        drop(locked);
        assert!(Folder::all(state.path()).unwrap().is_empty());
        assert!(!folder.path().exists());
        let locked = folder.take().unwrap();
        folder.remove(locked).unwrap();
        assert!(!folder.path().exists());
    }

    #[test]
    fn names_are_names() {
        for name in ["", ".", "..", "a/b", "-d", "a b", &"x".repeat(65)] {
            assert!(
                matches!(Folder::new(Path::new("/"), name), Err(LabError::BadName(_))),
                "{name}"
            );
        }
    }
}
