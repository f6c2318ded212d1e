//! Unix sockets that block neither this process nor one that it starts, bound to their addresses.

use std::os::fd::{AsRawFd as _, OwnedFd};

use memif::SocketAddr;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use sockpath::SocketFile;

use crate::error::SocketFileError;

/// The permissions of a socket's file: for this user only.
const MODE: u32 = 0o600;

/// Makes a Unix socket.
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
    if let Some(path) = address.as_path() {
        let file = sockpath::listen(&socket, path, Some(MODE))?;
        return Ok((socket, Some(file)));
    }
    bind(socket.as_raw_fd(), &unix_addr(address)?).map_err(in_use)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok((socket, None))
}

/// Makes a datagram socket that is bound to `address`, for this user only.
pub(super) fn bind_datagram(
    address: &SocketAddr,
) -> Result<(OwnedFd, Option<SocketFile>), SocketFileError> {
    let socket = unix_socket(SockType::Datagram)?;
    if let Some(path) = address.as_path() {
        let file = sockpath::bind_datagram(&socket, path, MODE)?;
        return Ok((socket, Some(file)));
    }
    bind(socket.as_raw_fd(), &unix_addr(address)?).map_err(in_use)?;
    Ok((socket, None))
}

fn in_use(errno: Errno) -> SocketFileError {
    if errno == Errno::EADDRINUSE { SocketFileError::InUse } else { errno.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_this_user_reaches_a_socket_and_its_file_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = SocketAddr::path(&path).unwrap();
        for datagrams in [false, true] {
            let open = || {
                if datagrams {
                    bind_datagram(&address)
                } else {
                    listen_at(&address, SockType::Stream)
                }
            };
            drop(UnixListener::bind(&path).unwrap());
            let owned = open().expect("the one there is dead");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
            let error = open().expect_err("it is in use");
            assert!(matches!(error, SocketFileError::InUse), "{error}");
            drop(owned);
            assert!(!path.exists());
        }
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
