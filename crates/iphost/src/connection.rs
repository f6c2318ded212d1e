//! TCP sockets as hosts have them.

use smoltcp::socket::tcp;
use smoltcp::time::Duration;

/// A closed socket with room for so many bytes on their way in and out. A peer that has gone silently is given up after
/// `timeout`.
pub fn socket(rx: usize, tx: usize, timeout: Duration) -> tcp::Socket<'static> {
    let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
    let mut socket = tcp::Socket::new(buffer(rx), buffer(tx));
    // The ring of a bus holds less than the windows of many together. Whoever is overrun loses all that is on it.
    socket.set_congestion_control(tcp::CongestionControl::Reno);
    socket.set_timeout(Some(timeout));
    // What is acknowledged is told at the end of a round, which is not too often.
    socket.set_ack_delay(None);
    socket
}
