//! What a host does for those who call it.

use smoltcp::iface::SocketSet;
use smoltcp::wire::IpAddress;

use super::echo::Echo;
use super::sink::Sink;
use super::transfer::Transfer;

/// Echo, and a sink where one is wanted.
pub struct Services {
    echo: Echo,
    sink: Option<Sink>,
}

impl Services {
    /// Opens the ports; `sink` is not [`ECHO_PORT`](super::ECHO_PORT).
    pub fn open(sockets: &mut SocketSet<'static>, sink: Option<u16>) -> Self {
        Self { echo: Echo::open(sockets), sink: sink.map(|port| Sink::open(sockets, port)) }
    }

    /// Takes connections that have come up. To be called after every frame.
    pub fn accept(&mut self, sockets: &mut SocketSet<'static>) {
        self.echo.accept(sockets);
        if let Some(sink) = &mut self.sink {
            sink.accept(sockets);
        }
    }

    /// Moves what there is to be moved. `is_own` tells the host's addresses, and `done` hears of transfers that are over.
    pub fn serve(
        &mut self,
        sockets: &mut SocketSet<'static>,
        is_own: impl Fn(IpAddress) -> bool,
        done: &mut dyn FnMut(Transfer),
    ) {
        self.echo.serve(sockets, is_own);
        if let Some(sink) = &mut self.sink {
            sink.serve(sockets, done);
        }
    }
}
