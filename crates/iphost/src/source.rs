//! Sends a number of bytes over TCP and measures how long that takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use crate::nic::Nic;
use crate::stack::{ConnectError, Stack};
use crate::tcp::closed_socket;
use crate::transfer::{TIMEOUT, Transfer, TransferError, WINDOW};

/// A TCP connection that sends a number of bytes. [`Services`](crate::Services) has an example.
pub struct TcpSource {
    socket: SocketHandle,
    from: SocketAddr,
    to: SocketAddr,
    /// Bytes to send, and those that were passed to the stack.
    bytes: u64,
    given: u64,
    /// When it began to connect, and when the connection was established.
    called: Instant,
    begin: Option<Instant>,
    /// When all was acknowledged.
    end: Option<Instant>,
}

/// How long to wait for the other end to close. The result is known before.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

impl TcpSource {
    /// Begins to connect to `to`, which is to get `bytes` bytes. Nothing leaves before the next
    /// [`Stack::poll`].
    ///
    /// # Errors
    /// When the host has no address to connect from, or none can connect to `to`.
    pub fn connect<N: Nic>(
        stack: &mut Stack<N>,
        to: SocketAddr,
        bytes: u64,
    ) -> Result<Self, ConnectError> {
        // A source receives nothing.
        let (socket, from) = stack.connect(closed_socket(1, WINDOW, TIMEOUT), to)?;
        Ok(Self {
            socket,
            from,
            to,
            bytes,
            given: 0,
            called: Instant::now(),
            begin: None,
            end: None,
        })
    }

    /// Continues to send, after a [`Stack::poll`], and returns whether the transfer is over,
    /// complete or not. What it sends leaves with the next poll.
    pub fn step<N: Nic>(&mut self, stack: &mut Stack<N>) -> bool {
        let socket = stack.sockets().get_mut::<tcp::Socket<'_>>(self.socket);
        if self.begin.is_none() && socket.may_send() {
            self.begin = Some(Instant::now());
        }
        while socket.can_send() && self.given < self.bytes {
            let left = usize::try_from(self.bytes - self.given).unwrap_or(usize::MAX);
            // The contents do not matter: whatever the buffer holds is sent.
            let Ok(len) = socket.send(|room| (room.len().min(left), room.len().min(left))) else {
                break;
            };
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
            tcp::State::FinWait2 => {
                self.end.get_or_insert_with(Instant::now).elapsed() >= CLOSE_TIMEOUT
            }
            _ => false,
        }
    }

    /// Returns what was transferred so far, and why it is not all.
    pub fn result<N: Nic>(&self, stack: &mut Stack<N>) -> (Transfer, Option<TransferError>) {
        let Self { from, to, bytes, .. } = *self;
        let socket = stack.sockets().get::<tcp::Socket<'_>>(self.socket);
        let acknowledged = self.given - socket.send_queue() as u64;
        let is_over = !socket.is_open();
        let time = self
            .begin
            .map_or(Duration::ZERO, |begin| self.end.unwrap_or_else(Instant::now) - begin);
        let complete = self.begin.is_some() && acknowledged == bytes;
        let error = if complete {
            None
        } else if self.begin.is_some() {
            Some(TransferError::Partial { to, acknowledged, bytes })
        } else if !is_over || self.called.elapsed() >= TIMEOUT.into() {
            Some(TransferError::NoAnswer { to })
        } else {
            Some(TransferError::Refused { to })
        };
        (Transfer::new(from, to, acknowledged, time, complete), error)
    }
}
