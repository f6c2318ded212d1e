//! The listening socket and its file: a live server's file is never replaced, a dead server's is.
//!
//! A socket is made under a temporary name beside the final one, and gets its final name only once
//! it listens. So a socket that has the final name and refuses connections is dead, and may be
//! replaced. Two servers that find the same dead socket must not both replace it, as the second
//! would remove the first one's: the directory is locked (`flock`) from the check of the name until
//! the new socket has it, and again to remove the file. The lock leaves no file behind and ends
//! with its process.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, FcntlArg, FdFlag, Flock, FlockArg, OFlag, fcntl};
use nix::sys::socket::{
    Backlog, Shutdown, SockType, UnixAddr, bind, getsockname, getsockopt, listen, shutdown, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use super::scm_rights;
use super::socket::{Socket, new_socket};
use crate::error::{BindError, ConnectError};
use crate::system::addr::SocketAddr;

/// How long to wait for another process that has locked the directory. This module holds the lock
/// for microseconds.
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
    let name = directory.join(format!(".{:08x}", fastrand::u32(..)));
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

    let _lock = lock(&directory, addr)?;
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) if is_dead(addr) => remove(path).map_err(fail("removing the dead socket"))?,
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

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Locks a directory against other servers that start or stop.
fn lock(directory: &Path, addr: &SocketAddr) -> Result<Flock<File>, BindError> {
    let fail = |step| move |source| BindError::System { socket: addr.to_string(), step, source };
    let mut file = File::open(directory).map_err(fail("opening the directory"))?;
    let start = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::Error::EAGAIN | nix::Error::EINTR))
                if start.elapsed() < LOCK_TIMEOUT =>
            {
                file = back;
            }
            Err((_, nix::Error::EAGAIN | nix::Error::EINTR)) => {
                return Err(BindError::Locked { directory: directory.to_owned() });
            }
            Err((_, errno)) => return Err(fail("locking the directory")(errno.into())),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let Ok(addr) = SocketAddr::path(&self.path) else { return };
        let directory = addr.directory().unwrap_or_else(|| PathBuf::from("."));
        let _lock = match lock(&directory, &addr) {
            Ok(lock) => lock,
            Err(error) => return tracing::debug!(%error, "cannot remove the socket's file"),
        };
        let ours = |meta: &fs::Metadata| meta.dev() == self.device && meta.ino() == self.inode;
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(ours)
            && let Err(error) = remove(&self.path)
        {
            tracing::debug!(%error, "cannot remove the socket's file");
        }
    }
}
