//! The services of a host: UDP and TCP echo on port 7 (RFC 862). ICMP echo is answered by the stack itself.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Duration;
use smoltcp::wire::IpAddress;

/// Where they listen.
const PORT: u16 = 7;

/// TCP connections at the same time; one more is refused.
const CONNECTIONS: usize = 8;
/// Bytes on their way in a connection, in each direction.
const TCP_BUFFER: usize = 1 << 16;
/// A connection whose peer has gone silently is given up after this.
const TCP_TIMEOUT: Duration = Duration::from_secs(60);
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(20);

/// UDP datagrams on their way, in each direction.
const DATAGRAMS: usize = 64;
const UDP_BUFFER: usize = 1 << 16;

/// Bytes moved in one go; no datagram is longer, as none is taken in pieces.
const CHUNK: usize = 2048;

/// The echo services of a host.
pub(crate) struct EchoServices {
    udp: SocketHandle,
    tcp: [SocketHandle; CONNECTIONS],
    chunk: Box<[u8; CHUNK]>,
}

impl EchoServices {
    /// Opens the ports.
    pub(crate) fn open(sockets: &mut SocketSet<'static>) -> Self {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; DATAGRAMS], vec![0; UDP_BUFFER]);
        let udp = sockets.add(udp::Socket::new(buffer(), buffer()));
        let tcp = std::array::from_fn(|_| {
            let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
            let mut socket = tcp::Socket::new(buffer(), buffer());
            socket.set_timeout(Some(TCP_TIMEOUT));
            socket.set_keep_alive(Some(TCP_KEEP_ALIVE));
            // An echo is to be prompt.
            socket.set_nagle_enabled(false);
            sockets.add(socket)
        });
        Self { udp, tcp, chunk: Box::new([0; CHUNK]) }
    }

    /// Sends back what has come, as far as there is room. `is_own` tells the host's addresses.
    pub(crate) fn serve(&mut self, sockets: &mut SocketSet<'static>, is_own: impl Fn(IpAddress) -> bool) {
        self.serve_udp(sockets.get_mut(self.udp), is_own);
        for handle in self.tcp {
            self.serve_tcp(sockets.get_mut(handle));
        }
    }

    fn serve_udp(&mut self, socket: &mut udp::Socket<'_>, is_own: impl Fn(IpAddress) -> bool) {
        if !socket.is_open() {
            // It fails for port 0 only.
            let _ = socket.bind(PORT);
        }
        while socket.can_recv() && socket.can_send() {
            // What is too long for a chunk came in no frame; it is dropped with an error.
            let Ok((len, from)) = socket.recv_slice(&mut self.chunk[..]) else { continue };
            // An answer to a broadcast would make a storm of one datagram, and two echo services would go on for ever.
            let ours = from.local_address.is_some_and(&is_own);
            if ours && from.endpoint.port != PORT && from.endpoint.addr.is_unicast() {
                // Without room it is lost, as datagrams may be.
                let _ = socket.send_slice(&self.chunk[..len], from);
            }
        }
    }

    fn serve_tcp(&mut self, socket: &mut tcp::Socket<'_>) {
        if !socket.is_open() {
            // It fails for port 0, and for a socket that is open.
            let _ = socket.listen(PORT);
            return;
        }
        while socket.can_recv() {
            let room = (socket.send_capacity() - socket.send_queue()).min(CHUNK);
            if room == 0 {
                break;
            }
            let Ok(len) = socket.recv_slice(&mut self.chunk[..room]) else { break };
            if socket.send_slice(&self.chunk[..len]).is_err() {
                // The peer does not listen any more.
                socket.abort();
                return;
            }
        }
        // The peer has said all it wants to, and has it back.
        if socket.state() == tcp::State::CloseWait && socket.recv_queue() == 0 {
            socket.close();
        }
    }
}
