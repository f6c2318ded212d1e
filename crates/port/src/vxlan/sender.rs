//! The sockets that frames leave from, and how far a burst has come.
//!
//! Frames of one length go to the kernel as one piece, of up to 64 frames, which it (or the network
//! card) cuts into datagrams. A system call takes several pieces. Frames for all go to each remote by
//! itself.

use std::array;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, sendto, setsockopt, sockopt,
};

use super::header::HEADER;
use super::outbox::{LANES, Outbox, Target};
use super::remotes::Remotes;
use crate::socket::is_for_now;

/// The source ports of the RFC.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// How many of them are tried for each socket.
const TRIES: usize = 100;
/// How many routers a frame for the group may pass.
const MULTICAST_HOPS: u8 = 32;
/// The most frames of a piece: the kernel's limit.
const MAX_SEGMENTS: usize = 64;
/// The most bytes of a piece: what an IP packet has room for.
const MAX_PIECE: usize = 65_000;
/// The most pieces with one system call.
const MAX_PIECES: usize = 32;
/// The room in the kernel for frames that wait for the network card, in bytes.
const SEND_BUFFER: usize = 1 << 20;

thread_local! {
    /// What the kernel is given to send several pieces, in memory that is kept.
    static HEADERS: RefCell<MultiHeaders<SockaddrStorage>> =
        RefCell::new(MultiHeaders::preallocate(MAX_PIECES, None));
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sender {
    lanes: Vec<Lane>,
    /// Where frames for all go, besides to the peers.
    group: Option<SocketAddr>,
    /// Datagrams longer than this go alone: the way to some remote is too narrow for the kernel to cut
    /// pieces into such.
    longest_segment: usize,
    progress: Progress,
}

/// A socket, and the length of the datagrams that the kernel cuts longer pieces into; 0: it does not.
#[derive(Debug)]
struct Lane {
    socket: UdpSocket,
    segment: usize,
}

/// The next piece: which lane, where in the outbox it begins, and which of its destinations.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    lane: usize,
    datagram: usize,
    destination: usize,
    /// Whether one of the earlier destinations was reached.
    reached: bool,
}

/// Some datagrams for one destination.
#[derive(Clone, Copy)]
struct Piece<'o> {
    bytes: &'o [u8],
    frames: usize,
    /// The length of the first datagram.
    segment: usize,
    to: SocketAddr,
    /// None is the group.
    remote: Option<usize>,
    is_last_destination: bool,
    next: Progress,
}

/// What became of a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Frames that the kernel took for at least one destination.
    pub(super) frames: usize,
    /// Frames that it took for none.
    pub(super) dropped: usize,
    /// The lane whose socket is full.
    pub(super) full: Option<usize>,
    /// The last error, and where it was met.
    pub(super) error: Option<(SocketAddr, Errno)>,
}

impl Sender {
    /// Opens the sockets.
    pub(super) fn open(local: IpAddr, group: Option<SocketAddr>) -> io::Result<Self> {
        let lane = |_| {
            let socket = bind_to_some_port(local)?;
            socket.set_nonblocking(true)?;
            // It works with less room, too.
            let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
            // Nothing is read from it.
            let _ = setsockopt(&socket, sockopt::RcvBuf, &0);
            match group {
                Some(SocketAddr::V4(_)) => {
                    setsockopt(&socket, sockopt::IpMulticastTtl, &MULTICAST_HOPS)?;
                }
                Some(SocketAddr::V6(_)) => {
                    setsockopt(&socket, sockopt::Ipv6MulticastHops, &MULTICAST_HOPS.into())?;
                }
                None => {}
            }
            Ok(Lane { socket, segment: 0 })
        };
        Ok(Self {
            lanes: (0..LANES).map(lane).collect::<io::Result<_>>()?,
            group,
            longest_segment: usize::MAX,
            progress: Progress::default(),
        })
    }

    /// Sends a datagram that is no frame. It is lost where there is no room.
    pub(super) fn send_aside(&self, datagram: &[u8], to: SocketAddr) {
        let _ = self.lanes[0].socket.send_to(datagram, to);
    }

    /// Returns the socket of a lane, to wait until it has room.
    pub(super) fn socket(&self, lane: usize) -> BorrowedFd<'_> {
        self.lanes[lane].socket.as_fd()
    }

    /// Begins with another outbox, at its first datagram.
    pub(super) fn restart(&mut self) {
        self.progress = Progress::default();
    }

    /// Sends what is in the outbox, all of whose frames have a target, and clears it when all of it
    /// was taken. A socket that is full ends the call; the next one continues there.
    pub(super) fn flush(&mut self, outbox: &mut Outbox, remotes: &mut Remotes) -> Sent {
        let mut sent = Sent::default();
        while self.progress.lane < LANES && sent.full.is_none() {
            self.step(outbox, remotes, &mut sent);
        }
        if sent.full.is_none() {
            self.progress = Progress::default();
            outbox.clear();
        }
        sent
    }

    /// Makes one system call, or moves to the next lane.
    fn step(&mut self, outbox: &Outbox, remotes: &mut Remotes, sent: &mut Sent) {
        let Some(first) = self.piece(self.progress, outbox, remotes) else {
            self.progress = Progress { lane: self.progress.lane + 1, ..Progress::default() };
            return;
        };
        let mut pieces: [Option<Piece<'_>>; MAX_PIECES] = [None; MAX_PIECES];
        let mut count = 0;
        let (mut at, mut segment, mut longest) = (self.progress, 0, 0);
        for slot in &mut pieces {
            let Some(piece) = self.piece(at, outbox, remotes) else { break };
            // One length for all that are cut; what is not cut is no longer than that.
            let fits = match piece.frames {
                1 => segment == 0 || piece.segment <= segment,
                _ => segment == piece.segment || segment == 0 && longest <= piece.segment,
            };
            if !fits {
                break;
            }
            if piece.frames > 1 {
                segment = piece.segment;
            }
            longest = longest.max(piece.segment);
            at = piece.next;
            *slot = Some(piece);
            count += 1;
        }
        let lane = &mut self.lanes[self.progress.lane];
        let result = lane.cut_into(segment, longest).and_then(|()| lane.send(&pieces, count));
        match result {
            Ok(taken) => {
                for piece in pieces.iter().take(taken).flatten() {
                    self.advance(piece, true, remotes, sent);
                }
            }
            Err(errno) if is_for_now(errno) => sent.full = Some(self.progress.lane),
            // The kernel cuts into what the way carries whole, and not at all if it is an old one.
            Err(Errno::EMSGSIZE | Errno::EINVAL | Errno::EIO | Errno::ENOPROTOOPT)
                if first.frames > 1 =>
            {
                self.longest_segment = first.segment - 1;
            }
            Err(errno) => {
                sent.error = Some((first.to, errno));
                self.advance(&first, false, remotes, sent);
            }
        }
    }

    /// Returns the piece that is next at `at`; `None` at the end of the lane.
    fn piece<'o>(&self, at: Progress, outbox: &'o Outbox, remotes: &Remotes) -> Option<Piece<'o>> {
        let datagrams = outbox.datagrams();
        let rest = datagrams.get(at.datagram..)?;
        let first = at.datagram + rest.iter().position(|datagram| datagram.lane == at.lane)?;
        let is_short = outbox.piece(first, 1).1 <= self.longest_segment;
        let frames = outbox.run(first, if is_short { MAX_SEGMENTS } else { 1 }, MAX_PIECE);
        let (bytes, segment) = outbox.piece(first, frames);
        let (remote, destinations) = match datagrams[first].target {
            Target::One(remote) => (Some(remote), 1),
            Target::All => {
                let direct = remotes.direct();
                let all = direct.len() + usize::from(self.group.is_some());
                (direct.get(at.destination).copied(), all)
            }
        };
        let to = remote.map_or(self.group, |remote| remotes.get(remote).address)?;
        let is_last_destination = at.destination + 1 >= destinations;
        let next = if is_last_destination {
            Progress { lane: at.lane, datagram: first + frames, ..Progress::default() }
        } else {
            Progress { datagram: first, destination: at.destination + 1, ..at }
        };
        Some(Piece { bytes, frames, segment, to, remote, is_last_destination, next })
    }

    /// Notes what became of the piece that was next.
    fn advance(&mut self, piece: &Piece<'_>, taken: bool, remotes: &mut Remotes, sent: &mut Sent) {
        let frames = piece.frames as u64;
        if let Some(remote) = piece.remote {
            let counters = remotes.counters_mut(remote);
            if taken {
                counters.tx_packets += frames;
                counters.tx_bytes += (piece.bytes.len() - piece.frames * HEADER) as u64;
            } else {
                counters.tx_dropped += frames;
            }
        }
        let reached = self.progress.reached || taken;
        if piece.is_last_destination {
            *if reached { &mut sent.frames } else { &mut sent.dropped } += piece.frames;
        }
        self.progress = piece.next;
        self.progress.reached = reached && !piece.is_last_destination;
    }
}

impl Lane {
    /// Has the kernel cut what is longer than `segment` into datagrams of that length. With 0, nothing
    /// of up to `longest` bytes is to be cut.
    fn cut_into(&mut self, segment: usize, longest: usize) -> nix::Result<()> {
        let stays = segment == self.segment || segment == 0 && longest <= self.segment;
        if !stays {
            let length = i32::try_from(segment).map_err(|_| Errno::EINVAL)?;
            setsockopt(&self.socket, sockopt::UdpGsoSegment, &length)?;
            self.segment = segment;
        }
        Ok(())
    }

    /// Sends the first `count` pieces. Returns how many the kernel took.
    fn send(&self, pieces: &[Option<Piece<'_>>; MAX_PIECES], count: usize) -> nix::Result<usize> {
        let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        if let ([Some(piece), ..], 1) = (pieces, count) {
            return sendto(socket, piece.bytes, &SockaddrStorage::from(piece.to), flags).map(|_| 1);
        }
        let slices: [[IoSlice<'_>; 1]; MAX_PIECES] = array::from_fn(|number| {
            [IoSlice::new(pieces[number].map_or(&[], |piece| piece.bytes))]
        });
        let addresses: [Option<SockaddrStorage>; MAX_PIECES] =
            array::from_fn(|number| pieces[number].map(|piece| piece.to.into()));
        HEADERS.with_borrow_mut(|headers| {
            sendmmsg(socket, headers, &slices[..count], addresses, [], flags).map(Iterator::count)
        })
    }
}

/// Opens a socket on one of the source ports.
fn bind_to_some_port(local: IpAddr) -> io::Result<UdpSocket> {
    let mut last = None;
    for _ in 0..TRIES {
        match UdpSocket::bind((local, fastrand::u16(SOURCE_PORTS))) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            bound => return bound,
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}
