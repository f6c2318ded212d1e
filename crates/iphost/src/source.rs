//! A TCP connection that sends so many bytes and measures how long that takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use super::connection;
use super::nic::Nic;
use super::stack::{ConnectError, Stack};
use super::transfer::Transfer;
use super::{TRANSFER_TIMEOUT, TRANSFER_WINDOW};

/// The connection.
pub struct Source {
    socket: SocketHandle,
    from: SocketAddr,
    to: SocketAddr,
    /// Bytes to send, and those that were given to the stack.
    bytes: u64,
    given: u64,
    called: Instant,
    /// Since when it is connected.
    begin: Option<Instant>,
    /// When all was acknowledged.
    end: Option<Instant>,
}

/// How long the other end's goodbye is waited for, which says nothing new.
const GOODBYE: Duration = Duration::from_millis(500);

impl Source {
    /// Calls `to`. Nothing is sent before the next round of the stack.
    ///
    /// # Errors
    /// When the stack has no address to call from.
    pub fn call<N: Nic>(stack: &mut Stack<N>, to: SocketAddr, bytes: u64) -> Result<Self, ConnectError> {
        // Nothing is ever heard.
        let socket = connection::socket(1, TRANSFER_WINDOW, TRANSFER_TIMEOUT);
        let (socket, from) = stack.connect(socket, to)?;
        Ok(Self { socket, from, to, bytes, given: 0, called: Instant::now(), begin: None, end: None })
    }

    /// Sends more, after a round of the stack; `true` when it is over, one way or the other. What is left to say goes out with
    /// the next round.
    pub fn step<N: Nic>(&mut self, stack: &mut Stack<N>) -> bool {
        let socket = stack.sockets().get_mut::<tcp::Socket<'_>>(self.socket);
        if self.begin.is_none() && socket.may_send() {
            self.begin = Some(Instant::now());
        }
        while socket.can_send() && self.given < self.bytes {
            let left = usize::try_from(self.bytes - self.given).unwrap_or(usize::MAX);
            // What the buffer holds is as good as anything.
            let Ok(len) = socket.send(|room| (room.len().min(left), room.len().min(left))) else { break };
            self.given += len as u64;
        }
        if self.given == self.bytes && socket.may_send() {
            socket.close();
        }
        match socket.state() {
            tcp::State::Closed => true,
            tcp::State::TimeWait => {
                self.end.get_or_insert_with(Instant::now);
                true
            }
            tcp::State::FinWait2 => self.end.get_or_insert_with(Instant::now).elapsed() >= GOODBYE,
            _ => false,
        }
    }

    /// How far it came, and why no further.
    pub fn result<N: Nic>(&self, stack: &mut Stack<N>) -> (Transfer, Option<String>) {
        let Self { from, to, bytes, .. } = *self;
        let socket = stack.sockets().get::<tcp::Socket<'_>>(self.socket);
        let acknowledged = self.given - socket.send_queue() as u64;
        let is_over = !socket.is_open();
        let time = self.begin.map_or(Duration::ZERO, |begin| self.end.unwrap_or_else(Instant::now) - begin);
        let complete = self.begin.is_some() && acknowledged == bytes;
        let trouble = if complete {
            None
        } else if self.begin.is_some() {
            Some(format!("{to} has acknowledged only {acknowledged} of {bytes} bytes"))
        } else if !is_over || self.called.elapsed() >= TRANSFER_TIMEOUT.into() {
            Some(format!("no answer from {to}"))
        } else {
            Some(format!("{to} has refused the connection"))
        };
        (Transfer::new(from, to, acknowledged, time, complete), trouble)
    }
}
