//! A TCP port that receives everything, discards it and counts it.

use std::net::SocketAddr;
use std::time::Instant;

use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp;

use crate::tcp::{Listener, closed_socket};
use crate::transfer::{TIMEOUT, Transfer, WINDOW};

/// The port.
pub(crate) struct Sink(Listener<Meter>);

/// What has arrived on a connection.
struct Meter {
    begin: Instant,
    /// The sender, and the host's own end: known once the connection is established.
    ends: Option<(SocketAddr, SocketAddr)>,
    bytes: u64,
    reported: bool,
}

impl Sink {
    /// Opens the port.
    pub(crate) fn open(sockets: &mut SocketSet<'static>, port: u16) -> Self {
        Self(Listener::open(sockets, port, new_connection, || Meter {
            begin: Instant::now(),
            ends: None,
            bytes: 0,
            reported: false,
        }))
    }

    /// Takes connections that have come up; see [`Listener::accept`].
    pub(crate) fn accept(&mut self, sockets: &mut SocketSet<'static>) {
        self.0.accept(sockets);
    }

    /// Receives what has arrived. `done` gets each transfer that is complete or broken off.
    pub(crate) fn serve(
        &mut self,
        sockets: &mut SocketSet<'static>,
        done: &mut dyn FnMut(Transfer),
    ) {
        self.0.serve(sockets, |socket, meter| meter.receive(socket, done));
    }
}

impl Meter {
    fn receive(&mut self, socket: &mut tcp::Socket<'static>, done: &mut dyn FnMut(Transfer)) {
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
        if let Some((from, to)) = self.ends.filter(|_| !self.reported) {
            self.reported = true;
            done(Transfer::new(from, to, self.bytes, self.begin.elapsed(), complete));
        }
        socket.close();
    }
}

fn new_connection() -> tcp::Socket<'static> {
    // A sink sends nothing.
    let mut socket = closed_socket(WINDOW, 1, TIMEOUT);
    socket.set_keep_alive(Some(TIMEOUT / 3));
    socket
}
