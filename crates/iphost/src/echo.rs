//! UDP and TCP echo on port 7 (RFC 862). The stack itself answers ICMP echo.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Duration;
use smoltcp::wire::IpAddress;

use crate::tcp::{Listener, closed_socket};

/// The port of the echo services.
pub const ECHO_PORT: u16 = 7;

/// The buffer of a connection in each direction, in bytes.
const TCP_BUFFER: usize = 1 << 16;
/// How long a peer may not answer before its connection is given up.
const TCP_TIMEOUT: Duration = Duration::from_secs(60);
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(20);

/// UDP datagrams that are buffered in each direction, and bytes of them: wherever in the buffer the
/// next datagram begins, the longest fits before or behind it.
const DATAGRAMS: usize = 64;
const UDP_BUFFER: usize = 1 << 17;

/// Bytes moved at a time. No datagram is longer.
const CHUNK: usize = 1 << 16;

/// The echo services of a host.
pub(crate) struct Echo {
    udp: SocketHandle,
    tcp: Listener<()>,
    chunk: Box<[u8]>,
}

impl Echo {
    /// Opens the ports.
    pub(crate) fn open(sockets: &mut SocketSet<'static>) -> Self {
        let buffer = || {
            udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; UDP_BUFFER])
        };
        let udp = sockets.add(udp::Socket::new(buffer(), buffer()));
        let tcp = Listener::open(sockets, ECHO_PORT, new_connection, || ());
        Self { udp, tcp, chunk: vec![0; CHUNK].into_boxed_slice() }
    }

    /// Takes connections that have come up; see [`Listener::accept`].
    pub(crate) fn accept(&mut self, sockets: &mut SocketSet<'static>) {
        self.tcp.accept(sockets);
    }

    /// Sends back what has arrived, as far as there is room. `is_own` tells the host's addresses
    /// from others.
    pub(crate) fn serve(
        &mut self,
        sockets: &mut SocketSet<'static>,
        is_own: impl Fn(IpAddress) -> bool,
    ) {
        self.serve_udp(sockets.get_mut(self.udp), is_own);
        self.tcp.serve(sockets, |socket, ()| send_back(socket, &mut self.chunk[..]));
    }

    fn serve_udp(&mut self, socket: &mut udp::Socket<'_>, is_own: impl Fn(IpAddress) -> bool) {
        if !socket.is_open() {
            // It fails only for port 0.
            let _ = socket.bind(ECHO_PORT);
        }
        while socket.can_recv() && socket.can_send() {
            let Ok((len, from)) = socket.recv_slice(&mut self.chunk[..]) else { continue };
            // Answers of all hosts to one broadcast would be a storm, and two echo services would
            // answer each other for ever.
            let is_ours = from.local_address.is_some_and(&is_own);
            if is_ours && from.endpoint.port != ECHO_PORT && from.endpoint.addr.is_unicast() {
                // Without room the datagram is lost, as any datagram may be.
                let _ = socket.send_slice(&self.chunk[..len], from);
            }
        }
    }
}

fn new_connection() -> tcp::Socket<'static> {
    let mut socket = closed_socket(TCP_BUFFER, TCP_BUFFER, TCP_TIMEOUT);
    socket.set_keep_alive(Some(TCP_KEEP_ALIVE));
    // An echo is prompt.
    socket.set_nagle_enabled(false);
    socket
}

fn send_back(socket: &mut tcp::Socket<'_>, chunk: &mut [u8]) {
    while socket.can_recv() {
        let room = (socket.send_capacity() - socket.send_queue()).min(chunk.len());
        if room == 0 {
            break;
        }
        let Ok(len) = socket.recv_slice(&mut chunk[..room]) else { break };
        if socket.send_slice(&chunk[..len]).is_err() {
            // The peer has stopped receiving.
            socket.abort();
            return;
        }
    }
    // The peer has sent everything, and everything was sent back.
    if socket.state() == tcp::State::CloseWait && socket.recv_queue() == 0 {
        socket.close();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use shmbus::phy::Phy;
    use shmbus::{Bus, Station, StationOptions};
    use smoltcp::iface::{Config, Interface};
    use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint};

    use super::*;
    use crate::bus_nic::BusNic;
    use crate::{HostAddress, Services, Stack};

    const HOST: IpAddress = IpAddress::v4(10, 0, 0, 1);
    const BROADCAST: IpAddress = IpAddress::v4(10, 0, 0, 255);

    /// A host with echo services, and a client's stack.
    struct Lab {
        _folder: tempfile::TempDir,
        host: Stack<BusNic<Station>>,
        services: Services,
        phy: Phy,
        interface: Interface,
        sockets: SocketSet<'static>,
        begin: Instant,
    }

    impl Lab {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let bus = folder.path().join("bus");
            let address: HostAddress = "10.0.0.1/24".parse().unwrap();
            let mut host = Stack::new(BusNic::new(join(&bus)), &[address]);
            let services = Services::open(host.sockets(), None);
            let station = Station::join(Bus::open(&bus).unwrap(), StationOptions::new()).unwrap();
            let mac = EthernetAddress(station.mac().into_array());
            let mut phy = Phy::new(station);
            let mut interface =
                Interface::new(Config::new(mac.into()), &mut phy, smoltcp::time::Instant::ZERO);
            interface.update_ip_addrs(|list| {
                list.push(IpCidr::new(IpAddress::v4(10, 0, 0, 2), 24)).unwrap();
            });
            let sockets = SocketSet::new(Vec::new());
            Self { _folder: folder, host, services, phy, interface, sockets, begin: Instant::now() }
        }

        /// Runs both until `done`. Returns `false` when that takes longer than `timeout`.
        fn run(
            &mut self,
            timeout: std::time::Duration,
            mut done: impl FnMut(&mut SocketSet<'static>) -> bool,
        ) -> bool {
            let begin = Instant::now();
            while begin.elapsed() < timeout {
                let micros = i64::try_from(self.begin.elapsed().as_micros()).unwrap();
                let now = smoltcp::time::Instant::from_micros(micros);
                self.interface.poll(now, &mut self.phy, &mut self.sockets);
                self.phy.flush().unwrap();
                self.host.poll(&mut |sockets| self.services.accept(sockets)).unwrap();
                self.host.serve(&mut self.services, &mut |_| {});
                if done(&mut self.sockets) {
                    return true;
                }
            }
            false
        }

        fn udp(&mut self, port: u16) -> SocketHandle {
            let buffer =
                || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
            let mut socket = udp::Socket::new(buffer(), buffer());
            socket.bind(port).unwrap();
            self.sockets.add(socket)
        }

        fn connect(&mut self, port: u16) -> SocketHandle {
            let mut socket = closed_socket(1 << 16, 1 << 16, TCP_TIMEOUT);
            socket
                .connect(self.interface.context(), IpEndpoint::new(HOST, ECHO_PORT), port)
                .unwrap();
            self.sockets.add(socket)
        }
    }

    fn join(bus: &Path) -> Station {
        Station::join(Bus::open_or_create(bus, 0o600).unwrap(), StationOptions::new()).unwrap()
    }

    const WAIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
    /// Long enough for an echo that must not come.
    const SILENCE: std::time::Duration = std::time::Duration::from_millis(50);

    #[test]
    fn datagrams_come_back_unless_that_would_cause_a_storm() {
        let mut lab = Lab::new();
        let client = lab.udp(4000);
        let longest = vec![7; 1472];
        lab.sockets
            .get_mut::<udp::Socket<'_>>(client)
            .send_slice(&longest, (HOST, ECHO_PORT))
            .unwrap();
        let mut echo = vec![0; 2000];
        assert!(lab.run(WAIT_TIMEOUT, |sockets| {
            let socket = sockets.get_mut::<udp::Socket<'_>>(client);
            socket
                .recv_slice(&mut echo)
                .is_ok_and(|(len, from)| len == 1472 && from.endpoint.addr == HOST)
        }));
        assert_eq!(echo[..1472], longest);

        let other_echo = lab.udp(ECHO_PORT);
        let send = |sockets: &mut SocketSet<'_>, handle, to: IpAddress| {
            sockets
                .get_mut::<udp::Socket<'_>>(handle)
                .send_slice(b"storm", (to, ECHO_PORT))
                .unwrap();
        };
        send(&mut lab.sockets, client, BROADCAST);
        send(&mut lab.sockets, other_echo, HOST);
        assert!(!lab.run(SILENCE, |sockets| {
            [client, other_echo]
                .iter()
                .any(|handle| sockets.get::<udp::Socket<'_>>(*handle).can_recv())
        }));
    }

    #[test]
    fn streams_come_back_whole_with_their_ends() {
        const CLIENTS: u16 = 100;
        let mut lab = Lab::new();
        let sent: Vec<u8> =
            (0..30_000_u32).map(|at| (at * 7 + at / 251).to_be_bytes()[3]).collect();
        // All connect at once, and once more after the first have closed.
        for round in 0..2 {
            let mut clients: Vec<_> = (0..CLIENTS)
                .map(|client| (lab.connect(5000 + round * CLIENTS + client), 0, Vec::new()))
                .collect();
            assert!(lab.run(WAIT_TIMEOUT, |sockets| {
                for (client, given, received) in &mut clients {
                    let socket = sockets.get_mut::<tcp::Socket<'_>>(*client);
                    if socket.can_send() {
                        *given += socket.send_slice(&sent[*given..]).unwrap();
                        if *given == sent.len() {
                            socket.close();
                        }
                    }
                    while socket.can_recv() {
                        socket
                            .recv(|bytes| (bytes.len(), received.extend_from_slice(bytes)))
                            .unwrap();
                    }
                }
                clients.iter().all(|(client, given, _)| {
                    *given == sent.len() && !sockets.get::<tcp::Socket<'_>>(*client).may_recv()
                })
            }));
            for (client, _, received) in clients {
                assert!(received == sent, "round {round}");
                lab.sockets.remove(client);
            }
        }
    }
}
