//! A TCP port with many connections at the same time.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

/// Connections to a port at the same time; one more is refused.
const CONNECTIONS: usize = 256;

/// The port, and what is kept for each connection.
pub struct Listener<T> {
    port: u16,
    make: fn() -> tcp::Socket<'static>,
    begin: fn() -> T,
    /// None while there are too many connections.
    listening: Option<SocketHandle>,
    connections: Vec<(SocketHandle, T)>,
}

impl<T> Listener<T> {
    /// Opens `port`, which is not 0. `make` gives sockets, `begin` what is kept for a new connection.
    pub fn open(
        sockets: &mut SocketSet<'static>,
        port: u16,
        make: fn() -> tcp::Socket<'static>,
        begin: fn() -> T,
    ) -> Self {
        let mut listener = Self { port, make, begin, listening: None, connections: Vec::new() };
        listener.listen(sockets);
        listener
    }

    /// Takes the connection that has come up, if one has, so that the next one finds somebody listening. So it is to be called
    /// after every frame.
    pub fn accept(&mut self, sockets: &mut SocketSet<'static>) {
        let Some(handle) = self.listening else { return };
        if sockets.get::<tcp::Socket<'_>>(handle).state() != tcp::State::Listen {
            self.connections.push((handle, (self.begin)()));
            self.listen(sockets);
        }
    }

    /// Lets `work` look after each connection. Those that are over, closed, come once more and then are gone.
    pub fn serve(
        &mut self,
        sockets: &mut SocketSet<'static>,
        mut work: impl FnMut(&mut tcp::Socket<'static>, &mut T),
    ) {
        let mut index = 0;
        while let Some((handle, kept)) = self.connections.get_mut(index) {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(*handle);
            work(socket, kept);
            // One that never came up listens again; there is another that does.
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
            // It fails for port 0, and for a socket that is open.
            let _ = socket.listen(self.port);
            sockets.add(socket)
        });
    }
}
