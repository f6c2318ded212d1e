//! The listening socket and its file: a live server's file is never replaced, a dead server's is.
//!
//! A socket is made under a temporary name beside the final one, and gets its final name only once
//! it listens. So a socket that has the final name and refuses connections is dead, and may be
//! replaced. Two servers that find the same dead socket must not both replace it, as the second
//! would remove the first one's. So the servers of one user take turns: they lock a file in the
//! directory that only this user can open, from the check of the name until the new socket has it,
//! and again to remove the socket's file. The holder of the lock removes the lock file.
//!
//! Another user can put a file in the place of the lock. It is not waited for: then servers do not
//! take turns. In any case a socket is renamed before it is removed, and gets its name back if it is
//! not the expected one.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, FcntlArg, FdFlag, Flock, FlockArg, OFlag, fcntl};
use nix::sys::socket::{
    Backlog, Shutdown, SockType, UnixAddr, bind, getsockname, getsockopt, listen, shutdown, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::geteuid;

use super::scm_rights;
use super::socket::{Socket, new_socket};
use crate::error::{BindError, ConnectError};
use crate::system::addr::SocketAddr;

/// How long to wait for another server of this user. This module holds the lock for microseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A listening socket. Dropping it removes its file.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    /// Whether no other process continues to listen on it.
    exclusive: bool,
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Whether the file stays: another process removes it.
    stays: bool,
}

impl Listener {
    /// Listens at `addr`. The socket's file has the permissions `mode`, or those that the umask
    /// leaves.
    pub(crate) fn bind(addr: &SocketAddr, mode: Option<u32>) -> Result<Self, BindError> {
        let fail =
            |step| move |source| BindError::System { socket: addr.to_string(), step, source };
        let fd = new_socket().map_err(fail("socket"))?;
        let Some(path) = addr.as_path() else {
            let target = addr.to_unix().map_err(fail("address"))?;
            return match bind(fd.as_raw_fd(), &target).and_then(|()| listen(&fd, Backlog::MAXCONN))
            {
                Ok(()) => Ok(Self { fd, exclusive: true, file: None }),
                Err(nix::Error::EADDRINUSE) => Err(BindError::InUse { socket: addr.to_string() }),
                Err(errno) => Err(fail("bind")(errno.into())),
            };
        };
        let file = publish(addr, path, &fd, mode)?;
        Ok(Self { fd, exclusive: true, file: Some(file) })
    }

    /// Adopts a socket that listens already. The caller says at which `addr`: a socket from `bind`
    /// is bound to its temporary name.
    pub(crate) fn adopt(fd: OwnedFd, addr: &SocketAddr) -> Result<Self, BindError> {
        let no = |_| BindError::NotListening;
        getsockname::<UnixAddr>(fd.as_raw_fd()).map_err(no)?;
        let kind = getsockopt(&fd, sockopt::SockType).map_err(no)?;
        let listens = getsockopt(&fd, sockopt::AcceptConn).map_err(no)?;
        if !listens || kind != SockType::SeqPacket {
            return Err(BindError::NotListening);
        }
        let fail = |errno: nix::Error| {
            let (socket, step) = (addr.to_string(), "fcntl");
            BindError::System { socket, step, source: errno.into() }
        };
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(fail)?;
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(fail)?;
        Ok(Self { fd, exclusive: false, file: None })
    }

    /// Returns a duplicate of the socket's descriptor; dropping the listener then leaves the file.
    pub(crate) fn hand_over(&mut self) -> io::Result<OwnedFd> {
        let fd = self.fd.try_clone()?;
        self.exclusive = false;
        if let Some(mut file) = self.file.take() {
            file.stays = true;
        }
        Ok(fd)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.exclusive {
            // From now on no process connects.
            let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Read);
            // Connections that were not accepted may have descriptors in their queues.
            loop {
                match scm_rights::accept(self.fd.as_fd()) {
                    Ok(connection) => drop(Socket::accepted(connection)),
                    Err(nix::Error::EINTR | nix::Error::ECONNABORTED) => {}
                    Err(_) => break,
                }
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket's file under its temporary name, removed on drop.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // If it is gone already, there is nothing to do.
        let _ = fs::remove_file(&self.0);
    }
}

fn publish(
    addr: &SocketAddr,
    path: &Path,
    fd: &OwnedFd,
    mode: Option<u32>,
) -> Result<SocketFile, BindError> {
    let fail = |step| move |source| BindError::System { socket: addr.to_string(), step, source };
    let directory = addr.directory().unwrap_or_else(|| PathBuf::from("."));
    if addr.missing_directory().is_some() {
        return Err(BindError::NoDirectory { path: path.to_owned(), directory });
    }
    let name = directory.join(temporary_name());
    let too_long = |_| BindError::TooLong { path: path.to_owned() };
    let target = UnixAddr::new(&name).map_err(too_long)?;
    bind(fd.as_raw_fd(), &target).map_err(|errno| fail("bind")(errno.into()))?;
    let temporary = Temporary(name);
    if let Some(mode) = mode {
        // Not through a link: another user with write access to the directory could have put one
        // there.
        let (mode, no_link) = (Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink);
        fchmodat(AT_FDCWD, &temporary.0, mode, no_link)
            .map_err(|errno| fail("chmod")(errno.into()))?;
    }
    listen(fd, Backlog::MAXCONN).map_err(|errno| fail("listen")(errno.into()))?;

    let _lock = Lock::take(&directory)?;
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(meta) if is_dead(addr) => {
            if !remove(path, (meta.dev(), meta.ino())).map_err(fail("removing the dead socket"))? {
                return Err(BindError::InUse { socket: addr.to_string() });
            }
        }
        Ok(_) => return Err(BindError::InUse { socket: addr.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail("checking the path")(error)),
    }
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => {}
        // A process that does not use the lock was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BindError::InUse { socket: addr.to_string() });
        }
        Err(error) => return Err(fail("linking the socket to its path")(error)),
    }
    let meta = fs::symlink_metadata(&temporary.0).map_err(fail("checking the socket"))?;
    Ok(SocketFile { path: path.to_owned(), device: meta.dev(), inode: meta.ino(), stays: false })
}

/// Returns whether no server listens on the socket at `addr`. Only the kernel's clear answer
/// counts.
fn is_dead(addr: &SocketAddr) -> bool {
    matches!(
        Socket::connect(addr),
        Err(ConnectError::NotListening { .. } | ConnectError::NoSocket { .. })
    )
}

/// Removes a socket's file if it is still the one with this device and inode. Returns whether the
/// path is free now.
fn remove(path: &Path, expected: (u64, u64)) -> io::Result<bool> {
    // With another name first: another process may have replaced the file since it was checked.
    let aside = Temporary(path.with_file_name(temporary_name()));
    match fs::rename(path, &aside.0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        done => done?,
    }
    let meta = fs::symlink_metadata(&aside.0)?;
    if (meta.dev(), meta.ino()) == expected {
        return Ok(true);
    }
    fs::hard_link(&aside.0, path)?;
    Ok(false)
}

fn temporary_name() -> String {
    format!(".{:08x}", fastrand::u32(..))
}

/// The turn of a server among those of its user in one directory. It ends with its process.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Waits for the turn. Returns `None` where there can be none: another user has taken the file's
    /// name.
    fn take(directory: &Path) -> Result<Option<Self>, BindError> {
        let path = directory.join(format!(".memif-{}", geteuid()));
        let start = Instant::now();
        loop {
            let Some(file) = open_own(&path) else { return Ok(None) };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // The one before has removed the file that it had locked.
                Ok(file) if !is_at(&file, &path) => continue,
                Ok(file) => return Ok(Some(Self { path, _file: file })),
                Err((_, nix::Error::EAGAIN | nix::Error::EINTR)) => {}
                Err(_) => return Ok(None),
            }
            if start.elapsed() >= LOCK_TIMEOUT {
                return Err(BindError::Locked { directory: directory.to_owned() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Lock {
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

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let Ok(addr) = SocketAddr::path(&self.path) else { return };
        let directory = addr.directory().unwrap_or_else(|| PathBuf::from("."));
        let _lock = match Lock::take(&directory) {
            Ok(lock) => lock,
            Err(error) => return tracing::debug!(%error, "cannot remove the socket's file"),
        };
        let expected = (self.device, self.inode);
        let ours = |meta: &fs::Metadata| (meta.dev(), meta.ino()) == expected;
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(ours)
            && let Err(error) = remove(&self.path, expected)
        {
            tracing::debug!(%error, "cannot remove the socket's file");
        }
    }
}
