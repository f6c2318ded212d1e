//! A connection to a peer: frames in, frames out, and how it ends.

use std::io::IoSlice;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, UnixAddr, recv, send, sendmmsg, sendto};
use nix::unistd::{read, write};

use super::batch::Batch;
use super::framing::{Deframer, Framing, WrongLength};
use super::outbox::Outbox;
use super::packets::{Packets, Received, is_for_now};

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The peer has closed it between two frames.
    #[error("the peer has closed the connection")]
    Closed,
    /// The peer has closed it within a frame.
    #[error("the peer has closed the connection within a frame")]
    InsideFrame,
    /// The stream has another framing.
    #[error("{0}")]
    WrongLength(#[from] WrongLength),
    /// A system call failed.
    #[error("the connection is lost: {0}")]
    Lost(#[from] Errno),
}

impl End {
    /// Returns how many frames are lost with it: the one that was not whole, or no frame.
    pub(super) fn frames_lost(&self) -> usize {
        usize::from(matches!(self, Self::InsideFrame | Self::WrongLength(_)))
    }
}

/// The descriptors of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) input: OwnedFd,
    /// Where frames are written, unless it is the input.
    pub(super) output: Option<OwnedFd>,
    /// Whether they are sockets. A pipe does not block by a flag of its own.
    pub(super) is_socket: bool,
    /// Where packets are sent, unless the socket is connected.
    pub(super) to: Option<UnixAddr>,
}

impl Wire {
    /// Makes the wire of a socket that is connected.
    pub(super) fn connected(socket: OwnedFd) -> Self {
        Self { input: socket, output: None, is_socket: true, to: None }
    }

    pub(super) fn output(&self) -> BorrowedFd<'_> {
        self.output.as_ref().unwrap_or(&self.input).as_fd()
    }

    fn read(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        if self.is_socket {
            recv(self.input.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)
        } else {
            read(&self.input, buffer)
        }
    }

    fn write(&self, bytes: &[u8]) -> nix::Result<usize> {
        if self.is_socket {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            send(self.output().as_raw_fd(), bytes, flags)
        } else {
            write(self.output(), bytes)
        }
    }

    /// Sends packets. Returns how many were sent.
    fn send<'p>(&self, packets: impl ExactSizeIterator<Item = &'p [u8]>) -> nix::Result<usize> {
        let (socket, flags) =
            (self.output().as_raw_fd(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        let count = packets.len();
        let mut packets = packets.map(|packet| [IoSlice::new(packet)]);
        if count == 1
            && let Some([packet]) = packets.next()
        {
            return match &self.to {
                Some(to) => sendto(socket, &packet, to, flags),
                None => send(socket, &packet, flags),
            }
            .map(|_| 1);
        }
        let slices: Vec<[IoSlice<'_>; 1]> = packets.collect();
        let mut headers = MultiHeaders::preallocate(count, None);
        sendmmsg(socket, &mut headers, &slices, vec![self.to; count], [], flags)
            .map(Iterator::count)
    }
}

/// What arrives.
#[derive(Debug)]
enum Inbox {
    Stream(Deframer),
    Packets(Packets),
}

/// What became of a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flushed {
    /// Whether the socket is full.
    pub(super) blocked: bool,
    /// Packets that the socket takes at no time, because they are too long for it.
    pub(super) refused: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    framing: Framing,
    inbox: Inbox,
    pub(super) outbox: Outbox,
}

impl Connection {
    /// Begins a connection.
    pub(super) fn new(wire: Wire, framing: Framing) -> Self {
        let inbox = if framing.is_stream() {
            Inbox::Stream(Deframer::new(framing))
        } else {
            Inbox::Packets(Packets::new())
        };
        Self { wire, framing, inbox, outbox: Outbox::new(framing) }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Returns whether frames have arrived that are not consumed.
    pub(super) fn has_frames(&mut self) -> bool {
        match &mut self.inbox {
            // A wrong length counts as one: the next call of `receive` finds it.
            Inbox::Stream(deframer) => deframer.parse().unwrap_or(true),
            Inbox::Packets(packets) => !packets.batch().is_empty(),
        }
    }

    /// Receives frames, unless some are left.
    ///
    /// # Errors
    /// [`End`] when the connection has ended, and all frames before that are consumed.
    pub(super) fn receive(&mut self) -> Result<(), End> {
        let Self { wire, framing, inbox, .. } = self;
        match inbox {
            Inbox::Stream(deframer) => {
                if deframer.parse()? {
                    return Ok(());
                }
                match wire.read(deframer.room()) {
                    Ok(0) if deframer.is_inside_frame() => return Err(End::InsideFrame),
                    Ok(0) => return Err(End::Closed),
                    Ok(count) => deframer.filled(count),
                    Err(error) if is_for_now(error) => return Ok(()),
                    Err(Errno::ECONNRESET) => return Err(End::Closed),
                    Err(error) => return Err(error.into()),
                }
                deframer.parse()?;
                Ok(())
            }
            Inbox::Packets(packets) => {
                if !packets.batch().is_empty() {
                    return Ok(());
                }
                match packets.fill(wire.input.as_fd()) {
                    Ok(Received::Empty) if *framing == Framing::Packet => Err(End::Closed),
                    Ok(_) => Ok(()),
                    Err(error) if is_for_now(error) => Ok(()),
                    Err(Errno::ECONNRESET | Errno::ENOTCONN) => Err(End::Closed),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Returns the frames that have arrived.
    pub(super) fn batch(&mut self) -> &mut Batch {
        match &mut self.inbox {
            Inbox::Stream(deframer) => deframer.batch(),
            Inbox::Packets(packets) => packets.batch(),
        }
    }

    /// Writes what the socket takes of the outbox.
    ///
    /// # Errors
    /// [`End`] when the connection has ended.
    pub(super) fn flush(&mut self) -> Result<Flushed, End> {
        let Self { wire, framing, outbox, .. } = self;
        let mut refused = 0;
        while !outbox.is_empty() {
            let sent = if framing.is_stream() {
                wire.write(outbox.rest()).map(|bytes| outbox.stream_sent(bytes))
            } else {
                wire.send(outbox.packets()).map(|count| outbox.packets_sent(count))
            };
            match sent {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(error) if is_for_now(error) => return Ok(Flushed { blocked: true, refused }),
                Err(Errno::EMSGSIZE) => {
                    refused += 1;
                    outbox.packets_sent(1);
                }
                Err(
                    Errno::EPIPE
                    | Errno::ECONNRESET
                    | Errno::ECONNREFUSED
                    | Errno::ENOENT
                    | Errno::ENOTCONN,
                ) => {
                    return Err(End::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        outbox.clear();
        Ok(Flushed { blocked: false, refused })
    }
}
