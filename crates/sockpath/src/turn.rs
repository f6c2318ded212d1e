//! The turns of one user's processes in a folder: who checks a name, and gives it to its own socket.
//!
//! Two processes that find the same dead socket must not both replace it, as the second would remove
//! the first one's. So they lock a file in the folder that only their user can open. Its holder
//! removes it.
//!
//! Another user can put a file in the place of the lock. It is not waited for: then processes do not
//! take turns.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;

use crate::error::Error;

/// How long to wait for another process of this user. It holds its turn for microseconds.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(1);

/// The turn of a process among those of its user in one folder. It ends with its process.
#[derive(Debug)]
pub(crate) struct Turn {
    path: PathBuf,
    _file: Flock<File>,
}

impl Turn {
    /// Waits for the turn. Returns `None` where there can be none: another user has taken the file's
    /// name.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process keeps its turn.
    pub(crate) fn take(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(format!(".sockpath-{}", geteuid()));
        let start = Instant::now();
        loop {
            let Some(file) = open_own(&path) else { return Ok(None) };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // The one before has removed the file that it had locked.
                Ok(file) if !is_at(&file, &path) => continue,
                Ok(file) => return Ok(Some(Self { path, _file: file })),
                Err((_, Errno::EAGAIN | Errno::EINTR)) => {}
                Err(_) => return Ok(None),
            }
            if start.elapsed() >= TIMEOUT {
                return Err(Error::Locked(folder.to_owned()));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the lock is free, so that no other process has locked this file.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "cannot remove the lock file");
        }
    }
}

/// Opens or makes a file that no other user can open, or returns `None`.
fn open_own(path: &Path) -> Option<File> {
    let no_link = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(no_link)
        .open(path)
        .ok()?;
    let meta = file.metadata().ok()?;
    let own = meta.is_file()
        && meta.uid() == geteuid().as_raw()
        && (meta.mode() | 0o600) & 0o777 == 0o600;
    own.then_some(file)
}

/// Returns whether `path` leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |here: &fs::Metadata, there: &fs::Metadata| {
        (here.dev(), here.ino()) == (there.dev(), there.ino())
    };
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(here), Ok(there)) => same(&here, &there),
        _ => false,
    }
}
