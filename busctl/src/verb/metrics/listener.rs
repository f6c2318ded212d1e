//! The socket that clients connect to.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use sockpath::SocketFile;

use super::http::{self, Connection, Request, Response};
use crate::misuse::{OrMisuse as _, misuse};
use crate::process::shutdown::Shutdown;

/// The permissions of a socket at a path: it is for its user only.
const MODE: u32 = 0o600;
/// The most clients at once; further ones are turned away.
const MAX_CLIENTS: usize = 16;

/// Where to listen, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The text is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it takes an address with a port, such as 127.0.0.1:9435 or [::1]:9435, or unix:PATH")]
pub(super) struct ParseAddressError;

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(ParseAddressError)
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| ParseAddressError)
    }
}

/// A bound socket. Dropping it removes that of a path.
pub(super) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix { listener: UnixListener, path: PathBuf, _file: SocketFile },
}

impl Listener {
    /// Listens. A socket of a process that has died is replaced.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub(super) fn bind(address: &Address) -> anyhow::Result<Self> {
        let listener = match address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address)
                    .map_err(|error| misuse(anyhow!("cannot listen on {address}: {error}")))?;
                let bound = listener.local_addr().context("cannot read the bound address")?;
                listener.set_nonblocking(true).context("cannot use the socket")?;
                Self::Tcp(listener, bound)
            }
            Address::Unix(path) => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                    .context("cannot make a socket")?;
                let file = sockpath::listen(&socket, path, Some(MODE))
                    .with_context(|| format!("cannot listen on {}", path.display()))
                    .misuse()?;
                Self::Unix { listener: socket.into(), path: path.clone(), _file: file }
            }
        };
        Ok(listener)
    }

    /// Answers clients until the process is asked to stop.
    pub(super) fn serve(&self, stop: &Shutdown, metrics: &(dyn Fn(&Request) -> Response + Sync)) {
        let clients = AtomicUsize::new(0);
        thread::scope(|scope| {
            while !stop.wait([self.as_fd()], None) {
                let connection = match self.accept() {
                    Ok(connection) => connection,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => {
                        // Without descriptors, a later client may be served.
                        tracing::debug!(%error, "a client is not accepted");
                        if stop.sleep(Duration::from_millis(50)) {
                            break;
                        }
                        continue;
                    }
                };
                // Relaxed: the count guards nothing but itself, and grows in this thread only.
                if clients.load(Ordering::Relaxed) >= MAX_CLIENTS {
                    continue;
                }
                clients.fetch_add(1, Ordering::Relaxed);
                let clients = &clients;
                let serve = move || {
                    if let Err(error) = connection.serve(metrics) {
                        tracing::debug!(%error, "a client is gone");
                    }
                    clients.fetch_sub(1, Ordering::Relaxed);
                };
                let thread = thread::Builder::new().name("client".to_owned());
                if let Err(error) = thread.spawn_scoped(scope, serve) {
                    tracing::debug!(%error, "a client is not served");
                    clients.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
    }

    fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener, _) => listener.accept().map(|(stream, _)| Accepted::Tcp(stream)),
            Self::Unix { listener, .. } => {
                listener.accept().map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }
}

enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepted {
    fn serve(self, metrics: &dyn Fn(&Request) -> Response) -> io::Result<()> {
        match self {
            Self::Tcp(mut stream) => {
                stream.set_nonblocking(false)?;
                http::serve(&mut stream, metrics)
            }
            Self::Unix(mut stream) => {
                stream.set_nonblocking(false)?;
                http::serve(&mut stream, metrics)
            }
        }
    }
}

impl Connection for TcpStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

impl Connection for UnixStream {
    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))?;
        self.set_write_timeout(Some(timeout))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd(),
            Self::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => write!(f, "http://{address}/metrics"),
            Self::Unix { path, .. } => write!(f, "/metrics of unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_or_a_path() {
        assert_eq!("127.0.0.1:0".parse(), Ok(Address::Tcp("127.0.0.1:0".parse().unwrap())));
        assert_eq!("[::1]:9".parse(), Ok(Address::Tcp("[::1]:9".parse().unwrap())));
        assert_eq!("unix:./m.sock".parse(), Ok(Address::Unix("./m.sock".into())));
        for text in ["", "9435", "localhost:9435", "127.0.0.1", "unix:", "./m.sock"] {
            assert_eq!(text.parse::<Address>(), Err(ParseAddressError), "{text}");
        }
    }
}
