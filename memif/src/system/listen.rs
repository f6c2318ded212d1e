//! The listening socket of a server, with its file.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    Backlog, Shutdown, SockType, UnixAddr, bind, getsockname, getsockopt, listen, shutdown, sockopt,
};
use sockpath::SocketFile;

use super::scm_rights;
use super::socket::{Socket, new_socket};
use crate::error::BindError;
use crate::system::addr::SocketAddr;

/// A listening socket. Dropping it removes its file.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    /// Whether no other process continues to listen on it.
    exclusive: bool,
    file: Option<SocketFile>,
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
        let file = sockpath::listen(&fd, path, mode).map_err(|error| not_listening(path, error))?;
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
        if let Some(file) = self.file.take() {
            file.leave();
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

fn not_listening(path: &Path, error: sockpath::Error) -> BindError {
    let path = path.to_owned();
    let socket = || path.display().to_string();
    match error {
        sockpath::Error::InUse => BindError::InUse { socket: socket() },
        sockpath::Error::NotASocket => BindError::NotASocket { path },
        sockpath::Error::OtherUser(user) => BindError::OtherUser { path, user },
        sockpath::Error::NoFolder(directory) => BindError::NoDirectory { path, directory },
        sockpath::Error::TooLong => BindError::TooLong { path },
        sockpath::Error::Locked(directory) => BindError::Locked { directory },
        sockpath::Error::System { step, source } => {
            BindError::System { socket: socket(), step, source }
        }
        error => BindError::System {
            socket: socket(),
            step: "binding the socket",
            source: io::Error::other(error),
        },
    }
}
