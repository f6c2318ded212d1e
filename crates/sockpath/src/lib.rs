//! Unix sockets at paths: a live owner's file is never replaced, a dead owner's is.
//!
//! A socket that listens is made under a temporary name beside the final one, and gets its final name
//! only once it listens. So a socket that has the final name and refuses connections is dead, and may
//! be replaced. The processes of one user take turns to check a name and to give it to their socket.
//! No lock that another user can hold is waited for.
//!
//! In any case a socket is renamed before it is removed, and gets its name back if it is not the
//! expected one.
//!
//! ```
//! use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("socket");
//! let make = || socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None);
//! let (first, second) = (make()?, make()?);
//! let file = sockpath::listen(&first, &path, None)?;
//! assert!(matches!(sockpath::listen(&second, &path, None), Err(sockpath::Error::InUse)));
//! // The file goes with its owner.
//! drop(file);
//! assert!(!path.exists());
//! # Ok(())
//! # }
//! ```

mod error;
mod turn;

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, socket,
    sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use nix::unistd::geteuid;

pub use self::error::Error;
use self::turn::Turn;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The file of a bound socket. Dropping it removes the file, unless another socket has the path by
/// then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
    stays: bool,
}

/// Device and inode of a file.
type Identity = (u64, u64);

impl SocketFile {
    /// Leaves the file in its place: another process removes it.
    pub fn leave(mut self) {
        self.stays = true;
    }

    fn at(path: &Path) -> io::Result<Self> {
        let identity = identity(&fs::symlink_metadata(path)?);
        Ok(Self { path: path.to_owned(), identity, stays: false })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let removed = Turn::take(&folder_of(&self.path)).and_then(|_turn| {
            let is_there =
                fs::symlink_metadata(&self.path).is_ok_and(|meta| identity(&meta) == self.identity);
            if is_there {
                remove(&self.path, self.identity).map_err(Error::at("removing the socket"))?;
            }
            Ok(())
        });
        if let Err(error) = removed {
            tracing::debug!(%error, "cannot remove the socket's file");
        }
    }
}

/// Makes a stream or packet socket listen at `path`. The file has the permissions `mode`, or those
/// that the umask leaves.
///
/// # Errors
/// [`Error`] when another process uses the path, something else is there, or a system call fails.
pub fn listen(socket: &OwnedFd, path: &Path, mode: Option<u32>) -> Result<SocketFile, Error> {
    let folder = existing_folder_of(path)?;
    let name = temporary_name(path);
    bind_at(socket, &name)?;
    let temporary = Temporary(name);
    if let Some(mode) = mode {
        // Not through a link: another user with write access to the folder could have put one there.
        let (mode, no_link) = (Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink);
        fchmodat(AT_FDCWD, &temporary.0, mode, no_link).map_err(Error::at("chmod"))?;
    }
    socket::listen(socket, Backlog::MAXCONN).map_err(Error::at("listen"))?;

    let _turn = Turn::take(&folder)?;
    make_room(socket, path)?;
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => {}
        // A process that does not take turns was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::InUse),
        Err(error) => return Err(Error::at("linking the socket to its path")(error)),
    }
    let mut file = SocketFile::at(&temporary.0).map_err(Error::at("checking the socket"))?;
    path.clone_into(&mut file.path);
    Ok(file)
}

/// Binds a datagram socket to `path`. The file has the permissions `mode`, without those that the
/// umask takes away.
///
/// Peers see the name that the socket is bound to, so it has no temporary one.
///
/// # Errors
/// As those of [`listen`].
pub fn bind_datagram(socket: &OwnedFd, path: &Path, mode: u32) -> Result<SocketFile, Error> {
    // The file gets the permissions of the socket itself.
    fchmod(socket, Mode::from_bits_truncate(mode)).map_err(Error::at("chmod"))?;
    let _turn = Turn::take(&existing_folder_of(path)?)?;
    make_room(socket, path)?;
    bind_at(socket, path)?;
    SocketFile::at(path).map_err(Error::at("checking the socket"))
}

/// Returns the folder that a path is in.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn existing_folder_of(path: &Path) -> Result<PathBuf, Error> {
    let folder = folder_of(path);
    if folder.is_dir() { Ok(folder) } else { Err(Error::NoFolder(folder)) }
}

fn bind_at(socket: &OwnedFd, path: &Path) -> Result<(), Error> {
    let bound = UnixAddr::new(path).and_then(|address| bind(socket.as_raw_fd(), &address));
    bound.map_err(|errno| match errno {
        Errno::EADDRINUSE => Error::InUse,
        Errno::ENAMETOOLONG => Error::TooLong,
        errno => Error::at("bind")(errno),
    })
}

/// Removes a dead socket from `path`.
fn make_room(socket: &OwnedFd, path: &Path) -> Result<(), Error> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta.map_err(Error::at("checking the path"))?,
    };
    if !meta.file_type().is_socket() {
        return Err(Error::NotASocket);
    }
    let kind = getsockopt(socket, sockopt::SockType).map_err(Error::at("checking the socket"))?;
    match probe(path, kind) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        // Perhaps it is dead, and perhaps not.
        Err(Errno::EACCES) if meta.uid() != geteuid().as_raw() => {
            return Err(Error::OtherUser(meta.uid()));
        }
        // Only the kernel's clear answer counts. A socket of another type lives, too.
        _ => return Err(Error::InUse),
    }
    match remove(path, identity(&meta)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::InUse),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::OtherUser(meta.uid()))
        }
        Err(error) => Err(Error::at("removing the dead socket")(error)),
    }
}

/// Connects to the socket at `path`, without waiting.
fn probe(path: &Path, kind: SockType) -> nix::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, kind, flags, None)?;
    connect(probe.as_raw_fd(), &UnixAddr::new(path)?)
}

/// Removes a socket's file if it is still the expected one. Returns whether the path is free now.
fn remove(path: &Path, expected: Identity) -> io::Result<bool> {
    // With another name first: another process may have replaced the file since it was checked.
    let aside = Temporary(temporary_name(path));
    match fs::rename(path, &aside.0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        done => done?,
    }
    if identity(&fs::symlink_metadata(&aside.0)?) == expected {
        return Ok(true);
    }
    fs::hard_link(&aside.0, path)?;
    Ok(false)
}

fn identity(meta: &fs::Metadata) -> Identity {
    (meta.dev(), meta.ino())
}

/// A file with a temporary name, removed on drop.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // If it is gone already, there is nothing to do.
        let _ = fs::remove_file(&self.0);
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    folder_of(path).join(format!(".{:08x}", fastrand::u32(..)))
}

#[cfg(test)]
mod tests;
