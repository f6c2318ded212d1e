//! Opens the files that captures are written to.
//!
//! A capture may be written by a privileged user to a folder where every user may make files, such
//! as `/tmp`. There, a link of another user may point at any file that its victim may write. The
//! kernel refuses such links where `fs.protected_symlinks` is set, which many containers lack; so
//! the same rule holds here, for every link on the way.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use nix::unistd::geteuid;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Opens the file at `path` to be written, or makes it. It keeps its content: look which file it is
/// before you empty it. Writing to it blocks.
///
/// Returns `None` for a named pipe that no process reads at the moment.
///
/// # Errors
/// The system's error. [`ErrorKind::PermissionDenied`] for a link of another user in a folder where
/// every user may make files.
pub fn open_output(path: &Path) -> io::Result<Option<File>> {
    let target = follow(path)?;
    let open = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | target.flags)
        .open(&target.path);
    let file = match open {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_pipe(&target.path) => {
            return Ok(None);
        }
        file => file?,
    };
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(Some(file))
}

/// Opens the named pipe at `path` to be written. Waits until a process reads it.
///
/// # Errors
/// As [`open_output`].
pub(crate) fn open_pipe(path: &Path) -> io::Result<File> {
    let target = follow(path)?;
    File::options().write(true).custom_flags(libc::O_NOCTTY | target.flags).open(&target.path)
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// Where a path leads: to a file that exists or not, by a name without links.
struct Target {
    path: PathBuf,
    /// Flags for opening it, so that a link that took its place is refused.
    flags: libc::c_int,
}

/// Follows the links in `path`.
fn follow(path: &Path) -> io::Result<Target> {
    let mut at = PathBuf::new();
    let mut left: VecDeque<OsString> = components(path);
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." && at.file_name().is_some() {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let found = match fs::symlink_metadata(&next) {
            Ok(found) if found.is_symlink() => found,
            // What is missing or no folder fails when it is opened.
            _ => {
                at = next;
                continue;
            }
        };
        // The links of `/proc` are the kernel's, and lead to files that may have no name.
        if statfs(&folder(&next)).is_ok_and(|on| on.filesystem_type() == PROC_SUPER_MAGIC) {
            let rest = left.iter().collect::<PathBuf>();
            let path = if left.is_empty() { next } else { next.join(rest) };
            return Ok(Target { path, flags: 0 });
        }
        if is_planted(&found, &fs::metadata(folder(&next))?, geteuid().as_raw()) {
            let (link, owner) = (next.display(), found.uid());
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                format!(
                    "{link} is a link of user {owner}, in a folder where every user may make files"
                ),
            ));
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let leads_to = fs::read_link(&next)?;
        if leads_to.is_absolute() {
            at = PathBuf::new();
        }
        for name in components(&leads_to).into_iter().rev() {
            left.push_front(name);
        }
    }
    Ok(Target { path: at, flags: libc::O_NOFOLLOW })
}

/// Returns the names in `path`, of which the first may be the root.
fn components(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter(|name| *name != Component::CurDir);
    names.map(|name| name.as_os_str().to_owned()).collect()
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns whether the link lies in a folder where every user may make files, and belongs to
/// neither this user nor the folder's owner.
fn is_planted(link: &Metadata, folder: &Metadata, user: u32) -> bool {
    const OPEN_TO_ALL: u32 = libc::S_ISVTX | libc::S_IWOTH;
    folder.mode() & OPEN_TO_ALL == OPEN_TO_ALL && link.uid() != user && link.uid() != folder.uid()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn links_of_ones_own_are_followed_wherever_they_lead() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("real")).unwrap();
        fs::write(path("real/old"), "old").unwrap();
        symlink("real", path("there")).unwrap();
        symlink("../real/new", path("real/link")).unwrap();
        symlink(path("there/old"), path("absolute")).unwrap();
        for name in ["there/old", "absolute", "there/../there/./old", "there/link"] {
            let mut file = open_output(&path(name)).unwrap().unwrap();
            assert!(file.metadata().unwrap().is_file(), "{name}");
            file.write_all(b"OLD").unwrap();
        }
        assert_eq!(fs::read(path("real/old")).unwrap(), b"OLD");
        assert_eq!(fs::read(path("real/new")).unwrap(), b"OLD");
        symlink("loop", path("loop")).unwrap();
        assert!(open_output(&path("loop")).is_err());
        let missing = open_output(&path("nowhere/file")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn the_kernels_own_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        open_output(Path::new(&link)).unwrap().unwrap().write_all(b"here").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"here");
    }

    #[test]
    fn a_link_of_another_user_in_an_open_folder_is_planted() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("target", &link).unwrap();
        let mode = |bits| {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(bits)).unwrap();
            fs::metadata(folder.path()).unwrap()
        };
        let link = fs::symlink_metadata(&link).unwrap();
        let (me, open) = (link.uid(), mode(0o1777));
        // The folder and the link have one owner, whose links are followed everywhere.
        assert!(!is_planted(&link, &open, me) && !is_planted(&link, &open, me + 1));
        // Root's `/tmp` with a link of a user, as the user and as another one.
        let tmp = fs::metadata("/tmp").unwrap();
        if tmp.mode() & 0o1002 == 0o1002 && tmp.uid() != me {
            assert!(!is_planted(&link, &tmp, me));
            assert!(is_planted(&link, &tmp, me + 1));
        }
        assert!(!is_planted(&link, &mode(0o755), me + 1));
    }

    #[test]
    fn a_pipe_is_opened_once_it_has_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(open_output(&path).unwrap().is_none());
        let mut reader =
            File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        open_output(&path).unwrap().unwrap().write_all(b"frame").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "frame");
    }
}
