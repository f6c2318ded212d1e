//! The listening socket and its file: a live server is never replaced, a dead one's leftover is.
//!
//! A socket is made under a temporary name beside the one asked for, and gets that name only once it listens. So
//! whatever socket has the name and refuses connections is dead, and may be replaced. Two servers that find the same dead
//! socket must not both replace it, the second thereby removing the first: the directory is locked (`flock`) from the
//! look at the name until it is ours, and again to remove it. That lock leaves no file behind and goes with its process.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, FcntlArg, FdFlag, Flock, FlockArg, OFlag, fcntl};
use nix::sys::socket::{Backlog, SockType, UnixAddr, bind, getsockname, getsockopt, listen, sockopt};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use super::socket::{Socket, new_socket};
use super::untrusted_fd;
use crate::error::{BindError, ConnectError};
use crate::system::addr::SocketAddr;

/// How long to wait for another process that has the directory locked. We ourselves hold it for microseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// A listening socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    /// Nobody else goes on to listen on it.
    ours: bool,
    /// Removed with it.
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// It is somebody else's to remove.
    stays: bool,
}

impl Listener {
    /// Listens at `addr`. `mode` is that of the socket's file, else the umask decides.
    pub(crate) fn bind(addr: &SocketAddr, mode: Option<u32>) -> Result<Self, BindError> {
        let fail = |step| move |source| BindError::System { socket: addr.to_string(), step, source };
        let fd = new_socket().map_err(fail("socket"))?;
        let Some(path) = addr.as_path() else {
            let target = addr.to_unix().map_err(fail("address"))?;
            return match bind(fd.as_raw_fd(), &target).and_then(|()| listen(&fd, Backlog::MAXCONN)) {
                Ok(()) => Ok(Self { fd, ours: true, file: None }),
                Err(nix::Error::EADDRINUSE) => Err(BindError::InUse { socket: addr.to_string() }),
                Err(errno) => Err(fail("bind")(errno.into())),
            };
        };
        let file = publish(addr, path, &fd, mode)?;
        Ok(Self { fd, ours: true, file: Some(file) })
    }

    /// Takes a socket that listens already, at `addr` as the caller says: ours are bound to another name than they have.
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
        Ok(Self { fd, ours: false, file: None })
    }

    /// Another descriptor of the socket; its file is not removed any more.
    pub(crate) fn hand_out(&mut self) -> io::Result<OwnedFd> {
        let fd = self.fd.try_clone()?;
        self.ours = false;
        if let Some(mut file) = self.file.take() {
            file.stays = true;
        }
        Ok(fd)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.ours {
            // Connections that nobody has taken may have descriptors in their queues.
            untrusted_fd::empty(self.fd.as_fd());
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Removes its file when dropped, whatever happens to it before it has its final name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.0);
    }
}

fn publish(addr: &SocketAddr, path: &Path, fd: &OwnedFd, mode: Option<u32>) -> Result<SocketFile, BindError> {
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
        // Not through a link: who may write to the directory could have put one there.
        let (mode, no_link) = (Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink);
        fchmodat(AT_FDCWD, &temporary.0, mode, no_link).map_err(|errno| fail("chmod")(errno.into()))?;
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
        Err(error) => return Err(fail("looking at the path")(error)),
    }
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => {}
        // Somebody who does not know of the lock was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BindError::InUse { socket: addr.to_string() });
        }
        Err(error) => return Err(fail("linking the socket to its path")(error)),
    }
    let meta = fs::symlink_metadata(&temporary.0).map_err(fail("looking at the socket"))?;
    Ok(SocketFile { path: path.to_owned(), device: meta.dev(), inode: meta.ino(), stays: false })
}

/// Whether the socket at `addr` has nobody behind it. Any answer but a clear no means somebody.
fn is_dead(addr: &SocketAddr) -> bool {
    matches!(Socket::connect(addr), Err(ConnectError::NobodyListens { .. } | ConnectError::NoSocket { .. }))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Locks a directory against other servers that come or go.
fn lock(directory: &Path, addr: &SocketAddr) -> Result<Flock<File>, BindError> {
    let fail = |step| move |source| BindError::System { socket: addr.to_string(), step, source };
    let mut file = File::open(directory).map_err(fail("opening the directory"))?;
    let start = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::Error::EAGAIN | nix::Error::EINTR)) if start.elapsed() < LOCK_PATIENCE => {
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
            Err(error) => return tracing::debug!(%error, "leaving the socket's file behind"),
        };
        let ours = |meta: &fs::Metadata| meta.dev() == self.device && meta.ino() == self.inode;
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(ours)
            && let Err(error) = remove(&self.path)
        {
            tracing::debug!(%error, "leaving the socket's file behind");
        }
    }
}
