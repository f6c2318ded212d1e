//! The file of a Unix socket that is bound: a live owner's file is never replaced, a dead owner's
//! is, and another user's is left alone.
//!
//! A socket that listens is made under a temporary name and gets its final name only once it
//! listens. So a socket that has the final name and refuses connections is dead. A dead socket is
//! renamed before it is removed, and gets its name back if another process was faster: of two
//! servers that find the same dead socket, one replaces it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use memif::SocketAddr;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::geteuid;

use crate::error::SocketFileError;

/// A socket's file. Dropping it removes it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |meta: &fs::Metadata| (meta.dev(), meta.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "cannot remove the socket's file");
        }
    }
}

/// Makes a Unix socket that blocks neither this process nor one that it starts.
pub(super) fn unix_socket(kind: SockType) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

/// Returns the system's form of an address.
pub(super) fn unix_addr(address: &SocketAddr) -> nix::Result<UnixAddr> {
    match (address.as_path(), address.as_abstract_name()) {
        (Some(path), _) => UnixAddr::new(path),
        (None, name) => UnixAddr::new_abstract(name.unwrap_or_default()),
    }
}

/// Makes a socket that listens at `address`, for this user only.
pub(super) fn listen_at(
    address: &SocketAddr,
    kind: SockType,
) -> Result<(OwnedFd, Option<SocketFile>), SocketFileError> {
    let socket = unix_socket(kind)?;
    let Some(path) = address.as_path() else {
        bind(socket.as_raw_fd(), &unix_addr(address)?).map_err(in_use)?;
        listen(&socket, Backlog::MAXCONN)?;
        return Ok((socket, None));
    };
    // The socket's file gets the permissions of the socket itself.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let temporary = Temporary(path.with_file_name(temporary_name()));
    bind(socket.as_raw_fd(), &UnixAddr::new(&temporary.0)?)?;
    listen(&socket, Backlog::MAXCONN)?;
    make_room(address, path, kind)?;
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => {}
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SocketFileError::InUse);
        }
        Err(error) => return Err(error.into()),
    }
    Ok((socket, Some(file_at(path)?)))
}

/// Makes a datagram socket that is bound to `address`, for this user only.
pub(super) fn bind_datagram(
    address: &SocketAddr,
) -> Result<(OwnedFd, Option<SocketFile>), SocketFileError> {
    let socket = unix_socket(SockType::Datagram)?;
    let target = unix_addr(address)?;
    let Some(path) = address.as_path() else {
        bind(socket.as_raw_fd(), &target).map_err(in_use)?;
        return Ok((socket, None));
    };
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    make_room(address, path, SockType::Datagram)?;
    // Peers see the name that it is bound to, so there is no temporary one.
    bind(socket.as_raw_fd(), &target).map_err(in_use)?;
    Ok((socket, Some(file_at(path)?)))
}

fn in_use(errno: Errno) -> SocketFileError {
    if errno == Errno::EADDRINUSE { SocketFileError::InUse } else { errno.into() }
}

fn file_at(path: &Path) -> io::Result<SocketFile> {
    let meta = fs::symlink_metadata(path)?;
    Ok(SocketFile { path: path.to_owned(), identity: (meta.dev(), meta.ino()) })
}

/// Removes a dead socket of this user from `path`.
fn make_room(address: &SocketAddr, path: &Path, kind: SockType) -> Result<(), SocketFileError> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    if !meta.file_type().is_socket() {
        return Err(SocketFileError::NotASocket);
    }
    if meta.uid() != geteuid().as_raw() {
        return Err(SocketFileError::OtherUser(meta.uid()));
    }
    // Only the kernel's clear answer counts. A socket of another type lives, too.
    let probe = unix_socket(kind)?;
    match connect(probe.as_raw_fd(), &unix_addr(address)?) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        _ => return Err(SocketFileError::InUse),
    }
    let aside = Temporary(path.with_file_name(temporary_name()));
    match fs::rename(path, &aside.0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => done?,
    }
    let moved = fs::symlink_metadata(&aside.0)?;
    if (moved.dev(), moved.ino()) == (meta.dev(), meta.ino()) {
        return Ok(());
    }
    // Another process has replaced it since it was looked at.
    fs::hard_link(&aside.0, path)?;
    Err(SocketFileError::InUse)
}

/// A file with a temporary name, removed on drop.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // If it is gone already, there is nothing to do.
        let _ = fs::remove_file(&self.0);
    }
}

fn temporary_name() -> String {
    format!(".{:08x}", fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = SocketAddr::path(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let (live, file) = listen_at(&address, SockType::Stream).expect("the one there is dead");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for kind in [SockType::Stream, SockType::SeqPacket] {
            let error = listen_at(&address, kind).expect_err("one listens");
            assert!(matches!(error, SocketFileError::InUse), "{error}");
        }
        assert_eq!(names(folder.path()), ["s"], "no temporary file stays");
        drop((live, file));
        assert!(names(folder.path()).is_empty());

        drop(UnixDatagram::bind(&path).unwrap());
        let (live, file) = bind_datagram(&address).expect("the one there is dead");
        let error = bind_datagram(&address).expect_err("one is bound");
        assert!(matches!(error, SocketFileError::InUse), "{error}");
        drop((live, file));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "precious").unwrap();
        let address = SocketAddr::path(&path).unwrap();
        let error = listen_at(&address, SockType::Stream).expect_err("a file is there");
        assert!(matches!(error, SocketFileError::NotASocket), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_was_replaced_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = SocketAddr::path(&path).unwrap();
        let (_live, file) = listen_at(&address, SockType::Stream).expect("free");
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn abstract_names_are_taken_once() {
        let name = format!("@port-test-{}", std::process::id());
        let address = SocketAddr::abstract_name(&name).unwrap();
        let (_live, file) = listen_at(&address, SockType::Stream).expect("free");
        assert!(file.is_none());
        let error = listen_at(&address, SockType::Stream).expect_err("taken");
        assert!(matches!(error, SocketFileError::InUse), "{error}");
        // All of the name counts.
        listen_at(&SocketAddr::abstract_name(&name[1..]).unwrap(), SockType::Stream)
            .expect("another");
    }
}
