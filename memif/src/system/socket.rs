//! One connection of the control channel: it sends and receives whole messages, and never blocks.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, connect, getsockopt,
    sendmsg, setsockopt, shutdown, socket, sockopt,
};

use crate::error::{ConnectError, ProtocolError};
use crate::format::message::{MESSAGE_LEN, Message, Reason};
use crate::system::addr::SocketAddr;
use crate::system::closers::{self, Kind};
use crate::system::scm_rights;
use crate::system::untrusted_fd::UntrustedFd;

/// Descriptors that are received even if a message must not carry them, so that its error names
/// their number.
const FEW_FDS: usize = 8;
/// A socket has its descriptor until it is dropped.
const OPEN: &str = "it is taken out when dropped";

/// A connected socket and the messages that could not be sent on it yet.
#[derive(Debug)]
pub(crate) struct Socket {
    /// None only while it is dropped.
    fd: Option<OwnedFd>,
    unsent: VecDeque<([u8; MESSAGE_LEN], Option<Arc<OwnedFd>>)>,
}

/// The outcome of a receive.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message, or the error of a packet that is none, and the descriptors that came with it.
    Packet(Result<Message, ProtocolError>, Vec<UntrustedFd>),
    /// There is nothing for now.
    Nothing,
    /// The peer has closed the connection.
    Closed,
}

/// Makes a new socket for a control channel.
pub(crate) fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

impl Socket {
    /// Wraps an accepted connection.
    pub(crate) fn accepted(fd: OwnedFd) -> Self {
        Self { fd: Some(fd), unsent: VecDeque::new() }
    }

    /// Connects without waiting: a listening socket takes the connection at once or not at all.
    pub(crate) fn connect(addr: &SocketAddr) -> Result<Self, ConnectError> {
        let socket = || addr.to_string();
        let other = |source| ConnectError::Other { socket: socket(), source };
        let fd = new_socket().map_err(other)?;
        let target = addr.to_unix().map_err(other)?;
        match connect(fd.as_raw_fd(), &target) {
            Ok(()) => Ok(Self::accepted(fd)),
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => match addr.missing_directory() {
                Some(directory) => Err(ConnectError::NoDirectory { socket: socket(), directory }),
                None => Err(ConnectError::NoSocket { socket: socket() }),
            },
            // An abstract name has no file: where no process listens, the socket does not exist.
            Err(nix::Error::ECONNREFUSED) if addr.as_path().is_none() => {
                Err(ConnectError::NoSocket { socket: socket() })
            }
            Err(nix::Error::ECONNREFUSED) => Err(if addr.as_path().is_some_and(is_no_socket) {
                ConnectError::NotMemif { socket: socket() }
            } else {
                ConnectError::NotListening { socket: socket() }
            }),
            Err(nix::Error::EACCES | nix::Error::EPERM) => {
                Err(ConnectError::Denied { socket: socket() })
            }
            Err(nix::Error::EPROTOTYPE) => Err(ConnectError::NotMemif { socket: socket() }),
            Err(nix::Error::EAGAIN) => Err(ConnectError::Overrun { socket: socket() }),
            Err(errno) => Err(other(errno.into())),
        }
    }

    /// Receives the next packet, if there is one.
    ///
    /// A message carries at most one descriptor. Many more are never received: the packet stays in
    /// the queue, and its error ends the connection.
    pub(crate) fn receive(&self) -> Received {
        let mut packet = [0; MESSAGE_LEN];
        let mut reset = false;
        loop {
            return match self.receive_once(&mut packet) {
                Ok(received) => received,
                Err(nix::Error::EAGAIN) => Received::Nothing,
                Err(nix::Error::EINTR) => continue,
                // The peer closed without having read all: the kernel reports that once, before the
                // peer's last messages.
                Err(nix::Error::ECONNRESET) if !reset => {
                    reset = true;
                    continue;
                }
                Err(errno) => {
                    tracing::debug!(%errno, "control channel failed");
                    Received::Closed
                }
            };
        }
    }

    fn receive_once(&self, buffer: &mut [u8; MESSAGE_LEN]) -> nix::Result<Received> {
        // From here on the first packet of the queue is the same one.
        let bytes = scm_rights::peek(self.as_fd(), buffer)?;
        let queued = scm_rights::queued_fds(self.as_fd());
        if let Some(fds) = queued
            && self.has_surplus(fds)?
        {
            let error = decode(buffer, bytes).map_or_else(|error| error, |m| m.fd_count(fds));
            return Ok(Received::Packet(Err(error), Vec::new()));
        }
        // With room for all that the queue holds the kernel drops none: to drop one may block.
        // Where their number is unknown there is room for the one that a message may carry.
        let room = queued.unwrap_or(1);
        let Some(packet) = scm_rights::receive(self.as_fd(), buffer, room)? else {
            return Ok(Received::Closed);
        };
        let count = packet.fds.len() + 1;
        let fds = packet.fds.into_iter().map(UntrustedFd::from).collect();
        let message = decode(buffer, packet.len);
        Ok(match message {
            Ok(message) if packet.cut && queued.is_none() => {
                Received::Packet(Err(message.fd_count(count)), fds)
            }
            message => Received::Packet(message, fds),
        })
    }

    /// Returns whether the queue, which holds `fds` descriptors, has many more of them than its
    /// messages may carry, or more than can be closed.
    fn has_surplus(&self, fds: usize) -> nix::Result<bool> {
        if fds == 0 {
            return Ok(false);
        }
        let messages = scm_rights::queued_bytes(self.as_fd())?.div_ceil(MESSAGE_LEN);
        let (many, surplus) = (fds > FEW_FDS, fds > messages);
        Ok((many && surplus) || (fds > 1 && closers::has_no_room(Kind::Foreign, fds)))
    }

    /// Sends a message, or keeps it until the peer has read others. An error means that the peer
    /// has closed the connection.
    pub(crate) fn send(&mut self, message: &Message, fd: Option<Arc<OwnedFd>>) -> nix::Result<()> {
        self.unsent.push_back((message.encode(), fd));
        self.flush()
    }

    /// Returns whether messages wait for the peer to read. Callers then stop reading, so the queue
    /// does not grow.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends the waiting messages, as far as the socket takes them.
    pub(crate) fn flush(&mut self) -> nix::Result<()> {
        let socket = self.fd.as_ref().expect(OPEN);
        while let Some((packet, fd)) = self.unsent.front() {
            let number = fd.as_ref().map(|fd| [fd.as_raw_fd()]);
            let rights = number.as_ref().map(|number| [ControlMessage::ScmRights(number)]);
            let control = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None) {
                Ok(_) => drop(self.unsent.pop_front()),
                Err(nix::Error::EAGAIN) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Sends DISCONNECT, if the peer still reads. Errors are ignored: the connection ends in any
    /// case.
    pub(crate) fn disconnect(&mut self, reason: &str) {
        // Nothing comes after this, so the queue can be emptied.
        let _ = shutdown(self.as_fd().as_raw_fd(), Shutdown::Read);
        if scm_rights::queued_fds(self.as_fd()) == Some(0) {
            // A socket closed with unread data makes the peer see an error instead of the reason.
            empty(self.as_fd());
        }
        let _ = self.send(&Message::Disconnect { code: 0, reason: Reason::new(reason) }, None);
    }

    /// Returns the peer's user at the time it connected, if the kernel knows it.
    pub(crate) fn peer_uid(&self) -> Option<u32> {
        getsockopt(&self.as_fd(), sockopt::PeerCredentials)
            .ok()
            .map(|credentials| credentials.uid())
    }

    /// Returns whether the peer has closed the connection, even if it left messages.
    pub(crate) fn is_hung_up(&self) -> bool {
        self.polls(PollFlags::POLLHUP | PollFlags::POLLERR)
    }

    /// Returns whether there are messages to read.
    pub(crate) fn has_input(&self) -> bool {
        self.polls(PollFlags::POLLIN)
    }

    fn polls(&self, events: PollFlags) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), events & PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|revents| revents.intersects(events))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        // The peer finds the end now, whenever the socket is closed.
        let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
        // Unread messages may carry descriptors, which the kernel then closes: that may block.
        if scm_rights::queued_fds(fd.as_fd()) != Some(0) {
            closers::close(fd, Kind::Connection);
        }
    }
}

/// Decodes a packet of `bytes` bytes, of which `buffer` holds as many as fit.
fn decode(buffer: &[u8; MESSAGE_LEN], bytes: usize) -> Result<Message, ProtocolError> {
    Message::decode(buffer.get(..bytes).ok_or(ProtocolError::MessageLength { bytes })?)
}

/// Takes all packets out of the queue of a socket that receives no more. None of them has
/// descriptors.
fn empty(socket: BorrowedFd<'_>) {
    let _ = setsockopt(&socket, sockopt::PassCred, &true);
    // The peer closed without having read all: the kernel reports that once.
    while matches!(
        scm_rights::discard(socket),
        Ok(Some(_)) | Err(nix::Error::EINTR | nix::Error::ECONNRESET)
    ) {}
}

/// Returns whether the path is a file that is no socket: the kernel returns the same error for a
/// dead socket.
fn is_no_socket(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|meta| !meta.file_type().is_socket())
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect(OPEN).as_fd()
    }
}
