//! One connection of the control channel: whole messages, never blocking.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, connect, getsockopt, sendmsg, socket,
};

use nix::sys::socket::sockopt::PeerCredentials;

use crate::error::{ConnectError, ProtocolError};
use crate::format::message::{MESSAGE_LEN, Message, Reason};
use crate::system::addr::SocketAddr;
use crate::system::scm_rights;
use crate::system::untrusted_fd::{self, UntrustedFd};

/// A connected socket and what could not be sent on it yet.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    unsent: VecDeque<([u8; MESSAGE_LEN], Option<Arc<OwnedFd>>)>,
}

/// What a look at the socket found.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message, or a packet that is none, and the descriptors that came with it.
    Packet(Result<Message, ProtocolError>, Vec<UntrustedFd>),
    /// Nothing for now.
    Nothing,
    /// The other side is gone.
    Closed,
}

/// A new socket of the control channel's kind.
pub(crate) fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

impl Socket {
    /// For a connection that was accepted.
    pub(crate) fn accepted(fd: OwnedFd) -> Self {
        Self { fd, unsent: VecDeque::new() }
    }

    /// Connects, without waiting: a listening socket takes the connection at once or not at all.
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
            // There is no file to an abstract name: nobody listens means that it does not exist.
            Err(nix::Error::ECONNREFUSED) if addr.as_path().is_none() => {
                Err(ConnectError::NoSocket { socket: socket() })
            }
            Err(nix::Error::ECONNREFUSED) => Err(if addr.as_path().is_some_and(is_no_socket) {
                ConnectError::NotMemif { socket: socket() }
            } else {
                ConnectError::NobodyListens { socket: socket() }
            }),
            Err(nix::Error::EACCES | nix::Error::EPERM) => Err(ConnectError::Denied { socket: socket() }),
            Err(nix::Error::EPROTOTYPE) => Err(ConnectError::NotMemif { socket: socket() }),
            Err(nix::Error::EAGAIN) => Err(ConnectError::Overrun { socket: socket() }),
            Err(errno) => Err(other(errno.into())),
        }
    }

    /// Looks for the next packet.
    pub(crate) fn receive(&self) -> Received {
        let mut packet = [0; MESSAGE_LEN];
        let mut reset = false;
        loop {
            return match scm_rights::receive(self.fd.as_fd(), &mut packet) {
                Ok(None) => Received::Closed,
                Ok(Some((bytes, fds))) => {
                    let whole = packet.get(..bytes).ok_or(ProtocolError::MessageLength { bytes });
                    Received::Packet(
                        whole.and_then(Message::decode),
                        fds.into_iter().map(UntrustedFd::from).collect(),
                    )
                }
                Err(nix::Error::EAGAIN) => Received::Nothing,
                Err(nix::Error::EINTR) => continue,
                // The other side closed without having read all: told once, before what it had to say.
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

    /// Sends a message, or keeps it until the other side has read some. An error means that the other side is gone.
    pub(crate) fn send(&mut self, message: &Message, fd: Option<Arc<OwnedFd>>) -> nix::Result<()> {
        self.unsent.push_back((message.encode(), fd));
        self.flush()
    }

    /// Whether messages wait for the other side to read. Callers then stop reading, so no more of them gather.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what is kept, as far as the other side takes it.
    pub(crate) fn flush(&mut self) -> nix::Result<()> {
        while let Some((packet, fd)) = self.unsent.front() {
            let number = fd.as_ref().map(|fd| [fd.as_raw_fd()]);
            let rights = number.as_ref().map(|number| [ControlMessage::ScmRights(number)]);
            let control = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None) {
                Ok(_) => drop(self.unsent.pop_front()),
                Err(nix::Error::EAGAIN) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Says goodbye, if the other side still listens; there is nobody to tell otherwise.
    pub(crate) fn bye(&mut self, reason: &str) {
        // What is unread when a socket is closed makes the other side see an error instead of the reason.
        untrusted_fd::empty(self.fd.as_fd());
        let _ = self.send(&Message::DisconnectReason { code: 0, reason: Reason::new(reason) }, None);
    }

    /// The user on the other side, at the time it connected.
    pub(crate) fn peer_uid(&self) -> Option<u32> {
        getsockopt(&self.fd, PeerCredentials).ok().map(|who| who.uid())
    }

    /// Whether the other side has closed, even if it left messages.
    pub(crate) fn is_hung_up(&self) -> bool {
        self.shows(PollFlags::POLLHUP | PollFlags::POLLERR)
    }

    /// Whether there are messages to be read.
    pub(crate) fn has_input(&self) -> bool {
        self.shows(PollFlags::POLLIN)
    }

    fn shows(&self, events: PollFlags) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), events & PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|shown| shown.intersects(events))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // There may be descriptors in messages that nobody has read.
        untrusted_fd::empty(self.fd.as_fd());
    }
}

/// Whether there is a file at the path that is no socket; the kernel refuses both alike.
fn is_no_socket(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|meta| !meta.file_type().is_socket())
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
