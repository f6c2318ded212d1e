//! Where the connections of a port come from.

use std::sync::Arc;

use sockpath::SocketFile;

use super::dialer::Dialer;
use super::server::Server;

/// A server that the port shares with others, or a dialer of its own. It ends with the port.
#[derive(Debug)]
#[expect(dead_code, reason = "it is held for what its drop ends")]
pub(super) enum ConnectionSource {
    /// A listening socket.
    Server(Arc<Server>),
    /// A thread that connects.
    Dialer(Dialer),
    /// A thread that finds the peer of a datagram socket, and the file of that socket.
    Datagrams(Dialer, Option<SocketFile>),
}
