//! TCP as hosts use it: sockets with their buffers, and ports that take many connections.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

/// Connections to a port at the same time. Further ones are refused.
const CONNECTIONS: usize = 256;

/// Makes a closed socket with buffers of `rx` and `tx` bytes. A peer that does not answer for
/// `timeout` is given up.
pub(crate) fn closed_socket(rx: usize, tx: usize, timeout: Duration) -> tcp::Socket<'static> {
    let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
    let mut socket = tcp::Socket::new(buffer(rx), buffer(tx));
    // The ring of a bus holds less than the windows of many connections together, and a station
    // that is overrun loses everything on the ring.
    socket.set_congestion_control(tcp::CongestionControl::Reno);
    socket.set_timeout(Some(timeout));
    // Acknowledgments leave at the end of a round, so there are few of them without a delay.
    socket.set_ack_delay(None);
    socket
}

/// A port, its connections, and a value of type `T` for each of them.
pub(crate) struct Listener<T> {
    port: u16,
    make: fn() -> tcp::Socket<'static>,
    begin: fn() -> T,
    /// None while there are too many connections.
    listening: Option<SocketHandle>,
    connections: Vec<(SocketHandle, T)>,
}

impl<T> Listener<T> {
    /// Opens `port`, which is not 0. `make` makes sockets, and `begin` the value of a new
    /// connection.
    pub(crate) fn open(
        sockets: &mut SocketSet<'static>,
        port: u16,
        make: fn() -> tcp::Socket<'static>,
        begin: fn() -> T,
    ) -> Self {
        let mut listener = Self { port, make, begin, listening: None, connections: Vec::new() };
        listener.listen(sockets);
        listener
    }

    /// Takes the connection that has come up, if one has, and listens for the next. Called after
    /// every frame, so that two connections in one round both find a listening socket.
    pub(crate) fn accept(&mut self, sockets: &mut SocketSet<'static>) {
        let Some(handle) = self.listening else { return };
        if sockets.get::<tcp::Socket<'_>>(handle).state() != tcp::State::Listen {
            self.connections.push((handle, (self.begin)()));
            self.listen(sockets);
        }
    }

    /// Calls `work` for each connection. A connection that is closed gets a last call and is
    /// removed.
    pub(crate) fn serve(
        &mut self,
        sockets: &mut SocketSet<'static>,
        mut work: impl FnMut(&mut tcp::Socket<'static>, &mut T),
    ) {
        let mut index = 0;
        while let Some((handle, kept)) = self.connections.get_mut(index) {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(*handle);
            work(socket, kept);
            // A connection that never came up listens again, and another socket listens already.
            if matches!(socket.state(), tcp::State::Closed | tcp::State::Listen) {
                sockets.remove(*handle);
                self.connections.swap_remove(index);
            } else {
                index += 1;
            }
        }
        if self.listening.is_none() {
            self.listen(sockets);
        }
    }

    fn listen(&mut self, sockets: &mut SocketSet<'static>) {
        self.listening = (self.connections.len() < CONNECTIONS).then(|| {
            let mut socket = (self.make)();
            // It fails only for port 0 and for a socket that is open.
            let _ = socket.listen(self.port);
            sockets.add(socket)
        });
    }
}
