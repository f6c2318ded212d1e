//! A TCP port that takes what comes and counts it.

use std::net::SocketAddr;
use std::time::Instant;

use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp;

use super::connection;
use super::listener::Listener;
use super::transfer::Transfer;
use super::{TRANSFER_TIMEOUT, TRANSFER_WINDOW};

/// The port.
pub struct Sink(Listener<Meter>);

/// What has come in a connection.
struct Meter {
    begin: Instant,
    /// Who sends, and the host's own end: known when the connection is there.
    ends: Option<(SocketAddr, SocketAddr)>,
    bytes: u64,
    told: bool,
}

impl Sink {
    /// Opens the port.
    pub fn open(sockets: &mut SocketSet<'static>, port: u16) -> Self {
        Self(Listener::open(sockets, port, new_connection, || Meter {
            begin: Instant::now(),
            ends: None,
            bytes: 0,
            told: false,
        }))
    }

    /// Takes connections that have come up; see [`Listener::accept`].
    pub fn accept(&mut self, sockets: &mut SocketSet<'static>) {
        self.0.accept(sockets);
    }

    /// Takes what has come. `done` hears of each connection that has brought all it had, or is over.
    pub fn serve(&mut self, sockets: &mut SocketSet<'static>, done: &mut dyn FnMut(Transfer)) {
        self.0.serve(sockets, |socket, meter| meter.take(socket, done));
    }
}

impl Meter {
    fn take(&mut self, socket: &mut tcp::Socket<'static>, done: &mut dyn FnMut(Transfer)) {
        let came_up = !matches!(socket.state(), tcp::State::Listen | tcp::State::SynReceived);
        if self.ends.is_none()
            && came_up
            && let (Some(from), Some(to)) = (socket.remote_endpoint(), socket.local_endpoint())
        {
            self.ends = Some((from.into(), to.into()));
        }
        while socket.can_recv() {
            let Ok(len) = socket.recv(|bytes| (bytes.len(), bytes.len())) else { break };
            self.bytes += len as u64;
        }
        let complete = match socket.state() {
            tcp::State::CloseWait => true,
            tcp::State::Closed => false,
            _ => return,
        };
        if let Some((from, to)) = self.ends.filter(|_| !self.told) {
            self.told = true;
            done(Transfer::new(from, to, self.bytes, self.begin.elapsed(), complete));
        }
        socket.close();
    }
}

fn new_connection() -> tcp::Socket<'static> {
    // Nothing is ever said.
    let mut socket = connection::socket(TRANSFER_WINDOW, 1, TRANSFER_TIMEOUT);
    socket.set_keep_alive(Some(TRANSFER_TIMEOUT / 3));
    socket
}
