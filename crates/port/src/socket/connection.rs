//! A connection to a peer: frames in, frames out, and how it ends.

use std::array;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, UnixAddr, recv, send, sendmmsg, sendto, setsockopt, sockopt,
};
use nix::unistd::{read, write};

use super::batch::Batch;
use super::framing::{Deframer, Framing, WrongLength};
use super::outbox::Outbox;
use super::packets::{MAX_PACKETS, Packets, Received, is_for_now};

/// A peer of a TCP connection that sends nothing is asked after this time, in seconds, whether it is
/// still there, again after each [`PROBE_INTERVAL`], and is given up after [`PROBES`] questions
/// without an answer. Without that, a machine that lost its power has the port for ever.
const IDLE_TIME: u32 = 10;
const PROBE_INTERVAL: u32 = 5;
const PROBES: u32 = 3;
/// How long a peer may not acknowledge what was sent, in milliseconds: as long as one that is asked.
const UNACKNOWLEDGED: u32 = (IDLE_TIME + PROBES * PROBE_INTERVAL) * 1_000;

thread_local! {
    /// What the kernel is given to send packets, in memory that is kept from burst to burst.
    static HEADERS: RefCell<MultiHeaders<UnixAddr>> =
        RefCell::new(MultiHeaders::preallocate(MAX_PACKETS, None));
}

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

    /// Makes the wire of a TCP connection.
    pub(super) fn tcp(socket: TcpStream) -> io::Result<Self> {
        // Frames are not held back until more follow.
        socket.set_nodelay(true)?;
        setsockopt(&socket, sockopt::KeepAlive, &true)?;
        setsockopt(&socket, sockopt::TcpKeepIdle, &IDLE_TIME)?;
        setsockopt(&socket, sockopt::TcpKeepInterval, &PROBE_INTERVAL)?;
        setsockopt(&socket, sockopt::TcpKeepCount, &PROBES)?;
        setsockopt(&socket, sockopt::TcpUserTimeout, &UNACKNOWLEDGED)?;
        Ok(Self::connected(socket.into()))
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

    /// Sends packets, at most as many as there are `addresses`, all of which are that of the peer.
    /// Returns how many were sent.
    fn send<'p>(
        &self,
        packets: impl ExactSizeIterator<Item = &'p [u8]>,
        addresses: &[Option<UnixAddr>; MAX_PACKETS],
    ) -> nix::Result<usize> {
        let (socket, flags) =
            (self.output().as_raw_fd(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        let count = packets.len().min(MAX_PACKETS);
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
        let slices: [[IoSlice<'_>; 1]; MAX_PACKETS] =
            array::from_fn(|_| packets.next().unwrap_or([IoSlice::new(&[])]));
        HEADERS.with_borrow_mut(|headers| {
            sendmmsg(socket, headers, &slices[..count], addresses, [], flags).map(Iterator::count)
        })
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
    /// Frames that it has taken whole.
    pub(super) frames: usize,
    /// Packets that the socket takes at no time, because they are too long for it.
    pub(super) refused: usize,
    /// Frames that the peer does not get, because it has stopped to receive.
    pub(super) lost: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    framing: Framing,
    inbox: Inbox,
    pub(super) outbox: Outbox,
    /// Where the packets of a burst go: each to the peer.
    addresses: Box<[Option<UnixAddr>; MAX_PACKETS]>,
    /// The peer receives no more. What it sent before that still arrives.
    is_deaf: bool,
}

impl Connection {
    /// Begins a connection.
    pub(super) fn new(wire: Wire, framing: Framing) -> Self {
        let inbox = if framing.is_stream() {
            Inbox::Stream(Deframer::new(framing))
        } else {
            Inbox::Packets(Packets::new())
        };
        let addresses = Box::new([wire.to; MAX_PACKETS]);
        Self { wire, framing, inbox, outbox: Outbox::new(framing), addresses, is_deaf: false }
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
        let Self { wire, framing, inbox, is_deaf, .. } = self;
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
                    // Datagrams have no end that would arrive after the last.
                    Err(Errno::EAGAIN) if *is_deaf && *framing == Framing::Dgram => {
                        Err(End::Closed)
                    }
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

    /// Writes what the socket takes of the outbox. A peer that receives no more loses the rest; its
    /// own frames, and the end after them, are still to be [received](Self::receive).
    ///
    /// # Errors
    /// [`End`] when the connection has ended.
    pub(super) fn flush(&mut self) -> Result<Flushed, End> {
        let Self { wire, framing, outbox, addresses, is_deaf, .. } = self;
        let (before, mut refused) = (outbox.unsent(), 0);
        let flushed = |outbox: &Outbox, refused: usize| {
            let frames = before - outbox.unsent() - refused;
            Flushed { frames, refused, ..Flushed::default() }
        };
        while !outbox.is_empty() && !*is_deaf {
            let sent = if framing.is_stream() {
                wire.write(outbox.rest()).map(|bytes| outbox.stream_sent(bytes))
            } else {
                wire.send(outbox.packets(), addresses).map(|count| outbox.packets_sent(count))
            };
            match sent {
                Ok(()) | Err(Errno::EINTR) => {}
                Err(error) if is_for_now(error) => {
                    return Ok(Flushed { blocked: true, ..flushed(outbox, refused) });
                }
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
                ) => *is_deaf = true,
                Err(error) => return Err(error.into()),
            }
        }
        let flushed = Flushed { lost: outbox.unsent(), ..flushed(outbox, refused) };
        outbox.clear();
        Ok(flushed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use nix::sys::socket::getsockopt;

    use super::*;
    use crate::socket::framing::BUFFER;

    #[test]
    fn what_a_peer_sent_before_it_closed_arrives() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(Wire::connected(ours.into()), Framing::Vde);
        theirs.write_all(b"\0\x0epacket number1\0\x0epacket number2").unwrap();
        drop(theirs);
        for _ in 0..2 {
            assert!(connection.outbox.push(&[0; 60]));
            let flushed = connection.flush().expect("there is more to receive");
            assert_eq!(flushed, Flushed { lost: 1, ..Flushed::default() });
        }
        connection.receive().expect("frames");
        assert!(connection.batch().frames().eq([&b"packet number1"[..], b"packet number2"]));
        connection.batch().consume(2);
        assert!(matches!(connection.receive(), Err(End::Closed)));
    }

    #[test]
    fn datagrams_of_a_peer_that_is_gone_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
        let ours = UnixDatagram::bind(&here).unwrap();
        let theirs = UnixDatagram::bind(&there).unwrap();
        let to = Some(UnixAddr::new(&there).unwrap());
        let wire = Wire { to, ..Wire::connected(ours.into()) };
        let mut connection = Connection::new(wire, Framing::Dgram);
        theirs.send_to(&[1; 60], &here).unwrap();
        drop(theirs);
        assert!(connection.outbox.push(&[0; 60]));
        assert_eq!(connection.flush().expect("more to receive").lost, 1);
        connection.receive().expect("a datagram");
        assert_eq!(connection.batch().frames().count(), 1);
        connection.batch().consume(1);
        assert!(matches!(connection.receive(), Err(End::Closed)));
    }

    #[test]
    fn a_peer_that_reads_slowly_makes_progress() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(Wire::connected(ours.into()), Framing::Qemu);
        while connection.outbox.push(&[0; 1_000]) {}
        let first = connection.flush().expect("open");
        assert!(first.blocked && first.frames > 0, "{first:?}");
        let mut sent = first.frames;
        let mut piece = vec![0; 32 << 10];
        loop {
            theirs.read_exact(&mut piece).unwrap();
            let flushed = connection.flush().expect("open");
            sent += flushed.frames;
            assert_eq!(flushed.lost, 0);
            if !flushed.blocked {
                break;
            }
        }
        assert_eq!((sent, connection.outbox.counts().0), (BUFFER / 1_004, 0));
    }

    #[test]
    fn a_tcp_peer_that_says_nothing_is_asked_whether_it_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let wire = Wire::tcp(socket).expect("a connection");
        assert!(getsockopt(&wire.input, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&wire.input, sockopt::TcpUserTimeout).unwrap(), UNACKNOWLEDGED);
    }
}
