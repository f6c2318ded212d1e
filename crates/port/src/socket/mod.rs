//! A socket as a port: QEMU, passt, `vde_plug`, or any program that takes Ethernet frames from a
//! descriptor. Nothing is needed but a socket: no device, no namespace, no right.
//!
//! | framing | socket | a frame is |
//! |---|---|---|
//! | `qemu` | Unix or TCP stream | four bytes of length in network order, and its bytes |
//! | `vde` | Unix stream, or a pipe for each direction | two bytes of length, and its bytes |
//! | `packet` | Unix `SOCK_SEQPACKET` | a packet |
//! | `dgram` | Unix datagrams | a datagram |
//!
//! A socket that is full makes frames wait on the bus. What was written in part is written to its
//! end before anything else. Frames that a busy bus does not take wait in the port.
//!
//! A frame is copied twice each way, once by this process and once by the kernel, and a burst is one
//! system call.

mod batch;
mod connection;
mod connection_source;
mod dialer;
mod framing;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod inherited;
mod mailbox;
mod outbox;
mod packets;
mod port;
mod server;
mod spec;
mod unix;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use memif::{Role, SocketAddr};
use nix::sys::socket::{SockType, UnixAddr, bind};

use self::connection_source::ConnectionSource;
use self::dialer::{Dialer, Target};
pub use self::framing::Framing;
use self::mailbox::{Mailbox, lock};
pub(crate) use self::packets::is_for_now;
pub use self::port::SocketPort;
use self::server::Server;
pub use self::spec::{Place, SocketSpec};
use self::unix::{bind_datagram, unix_socket};
use crate::error::{PortError, SocketFileError};
use crate::reporter::Reporter;

/// Opens socket ports. Servers at one address share one listening socket, and each gets one of its
/// clients.
#[derive(Debug)]
pub struct SocketServers {
    reporter: Reporter,
    servers: Mutex<HashMap<(String, Framing), Weak<Server>>>,
}

impl SocketServers {
    /// Begins without servers. Ports report to `reporter`.
    #[must_use]
    pub fn new(reporter: &Reporter) -> Self {
        Self { reporter: reporter.clone(), servers: Mutex::default() }
    }

    /// Opens the port that `spec` describes. Reports call it `name`.
    ///
    /// # Errors
    /// [`PortError`] when its socket cannot listen, or its descriptor cannot be used.
    pub fn open(&self, spec: &SocketSpec, name: String) -> Result<SocketPort, PortError> {
        let system = |source| PortError::system(name.clone(), source);
        let mailbox = Arc::new(Mailbox::new(name.clone(), self.reporter.clone()).map_err(system)?);
        let connection_source = self.connection_source(spec, &mailbox)?;
        SocketPort::new(name, spec.framing, mailbox, connection_source)
    }

    fn connection_source(
        &self,
        spec: &SocketSpec,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Option<ConnectionSource>, PortError> {
        let bind_failed = |source| PortError::Socket { socket: spec.place.to_string(), source };
        let start_failed = |source| PortError::system(spec.to_string(), source);
        let connection_source = match (&spec.place, spec.framing) {
            (Place::Descriptors { input, output }, framing) => {
                let wire = inherited::wire(*input, *output, framing)
                    .map_err(|source| PortError::Descriptor { port: spec.to_string(), source })?;
                mailbox.offer(wire);
                return Ok(None);
            }
            (Place::Pair { local, peer }, _) => {
                let (socket, file) = bind_datagram(local).map_err(bind_failed)?;
                let target = Target::Datagrams(socket, peer.clone());
                ConnectionSource::Datagrams(
                    Dialer::start(target, mailbox).map_err(start_failed)?,
                    file,
                )
            }
            (Place::Unix { address, role: Role::Server }, Framing::Dgram) => {
                let (socket, file) = bind_datagram(address).map_err(bind_failed)?;
                let target = Target::AnySender(socket);
                ConnectionSource::Datagrams(
                    Dialer::start(target, mailbox).map_err(start_failed)?,
                    file,
                )
            }
            (Place::Unix { address, role: Role::Client }, Framing::Dgram) => {
                let target = nameless_datagrams(address).map_err(start_failed)?;
                ConnectionSource::Dialer(Dialer::start(target, mailbox).map_err(start_failed)?)
            }
            (Place::Unix { address, role: Role::Client }, framing) => {
                let target = Target::Unix(address.clone(), kind(framing));
                ConnectionSource::Dialer(Dialer::start(target, mailbox).map_err(start_failed)?)
            }
            (Place::Tcp { address, role: Role::Client }, _) => ConnectionSource::Dialer(
                Dialer::start(Target::Tcp(*address), mailbox).map_err(start_failed)?,
            ),
            (Place::Unix { address, .. }, framing) => {
                let listen = || Server::unix(address, kind(framing));
                ConnectionSource::Server(self.server(spec, mailbox, listen).map_err(bind_failed)?)
            }
            (Place::Tcp { address, .. }, _) => {
                let listen = || Server::tcp(*address);
                ConnectionSource::Server(self.server(spec, mailbox, listen).map_err(bind_failed)?)
            }
        };
        Ok(Some(connection_source))
    }

    /// Returns the server of `spec`, which begins to listen unless it does, and adds a port.
    fn server(
        &self,
        spec: &SocketSpec,
        mailbox: &Arc<Mailbox>,
        listen: impl FnOnce() -> Result<Server, SocketFileError>,
    ) -> Result<Arc<Server>, SocketFileError> {
        let key = (spec.place.to_string(), spec.framing);
        let mut servers = lock(&self.servers);
        servers.retain(|_, server| server.strong_count() > 0);
        let server = match servers.get(&key).and_then(Weak::upgrade) {
            Some(server) => server,
            None => Arc::new(listen()?),
        };
        servers.insert(key, Arc::downgrade(&server));
        server.add(mailbox);
        Ok(server)
    }
}

/// Returns the type of a Unix socket with connections.
fn kind(framing: Framing) -> SockType {
    if framing.is_stream() { SockType::Stream } else { SockType::SeqPacket }
}

/// Makes a datagram socket with an address that the kernel chooses, so that a server can answer.
fn nameless_datagrams(server: &SocketAddr) -> std::io::Result<Target> {
    use std::os::fd::AsRawFd as _;

    let socket = unix_socket(SockType::Datagram)?;
    bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
    Ok(Target::Datagrams(socket, server.clone()))
}
