//! What a host answers by itself: echo requests, and connections to its sink.

use smoltcp::iface::SocketSet;
use smoltcp::wire::IpAddress;

use crate::echo::Echo;
use crate::sink::Sink;
use crate::transfer::Transfer;

/// The services of a host: UDP and TCP echo on port 7, and optionally a TCP sink.
///
/// The stack itself answers ARP, neighbor discovery and ICMP echo.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// use iphost::{BusNic, Services, Stack, TcpSource};
/// use shmbus::{Bus, Station, StationOptions};
///
/// let host = |address: &str| -> Result<_, Box<dyn std::error::Error>> {
///     let station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
///     Ok(Stack::new(BusNic::new(station), &[address.parse()?]))
/// };
/// let mut alice = host("10.0.0.1/24")?;
/// let mut bob = host("10.0.0.2/24")?;
/// let mut services = Services::open(bob.sockets(), Some(5001));
/// let mut source = TcpSource::connect(&mut alice, "10.0.0.2:5001".parse()?, 100_000)?;
///
/// let mut received = None;
/// while !source.step(&mut alice) || received.is_none() {
///     alice.poll(&mut |_| {})?;
///     bob.poll(&mut |sockets| services.accept(sockets))?;
///     bob.serve(&mut services, &mut |transfer| received = Some(transfer.bytes));
/// }
/// assert_eq!(received, Some(100_000));
/// # Ok(())
/// # }
/// ```
pub struct Services {
    echo: Echo,
    sink: Option<Sink>,
}

impl Services {
    /// Opens the ports among a host's sockets ([`Stack::sockets`](crate::Stack::sockets)). `sink`
    /// is a port other than 0 and [`ECHO_PORT`](crate::ECHO_PORT).
    pub fn open(sockets: &mut SocketSet<'static>, sink: Option<u16>) -> Self {
        Self { echo: Echo::open(sockets), sink: sink.map(|port| Sink::open(sockets, port)) }
    }

    /// Takes connections that have come up. Call it after every frame, that is from
    /// [`Stack::poll`](crate::Stack::poll): each port has one socket that listens.
    pub fn accept(&mut self, sockets: &mut SocketSet<'static>) {
        self.echo.accept(sockets);
        if let Some(sink) = &mut self.sink {
            sink.accept(sockets);
        }
    }

    /// Receives and answers what has arrived. `is_own` tells the host's addresses from others, and
    /// `done` gets each transfer that has ended.
    pub(crate) fn serve(
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
