//! Symbolic links on the way to a bus.
//!
//! They are followed, as everywhere, except planted ones: in a folder like `/tmp`, where every user
//! may make files, a link of another user may point at any file that its victim may write. The
//! kernel refuses such links where `fs.protected_symlinks` is set, which many containers lack; so
//! the same rule holds here.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::libc;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::geteuid;

use crate::error::OpenError;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Where a path leads: to a file, by a name that is no link.
pub(crate) struct Target {
    pub(crate) path: PathBuf,
    /// Flags for opening it, so that a link that took its place is refused.
    pub(crate) flags: libc::c_int,
}

/// Follows links. Each is opened once, so the link that is checked is the one that is followed.
pub(crate) fn follow(path: &Path) -> Result<Target, OpenError> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        let found = match File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(&at)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound && at != path => {
                return Err(OpenError::DeadLink { path: path.to_owned(), target: at });
            }
            found => found.map_err(|error| OpenError::io(path, error))?,
        };
        let link = found.metadata().map_err(|error| OpenError::io(path, error))?;
        if !link.is_symlink() {
            return Ok(Target { path: at, flags: libc::O_NOFOLLOW });
        }
        // The links of `/proc` are the kernel's, and lead to files that may have no name.
        if fstatfs(&found).is_ok_and(|on| on.filesystem_type() == PROC_SUPER_MAGIC) {
            return Ok(Target { path: at, flags: 0 });
        }
        let folder = match at.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let place = std::fs::metadata(folder).map_err(|error| OpenError::io(path, error))?;
        if is_planted(&link, &place) {
            return Err(OpenError::PlantedLink {
                path: path.to_owned(),
                link: at,
                owner: link.uid(),
            });
        }
        // By the empty name it is the link that was looked at.
        let next =
            readlinkat(&found, OsStr::new("")).map_err(|error| OpenError::io(path, error))?;
        at = folder.join(next);
    }
    Err(OpenError::io(path, Errno::ELOOP))
}

/// Whether the link lies in a folder where every user may make files, and belongs to neither this
/// user nor the folder's owner.
fn is_planted(link: &Metadata, folder: &Metadata) -> bool {
    const OPEN_TO_ALL: u32 = libc::S_ISVTX | libc::S_IWOTH;
    folder.mode() & OPEN_TO_ALL == OPEN_TO_ALL
        && link.uid() != geteuid().as_raw()
        && link.uid() != folder.uid()
}
