//! The sockets that frames arrive at.
//!
//! The kernel hands over datagrams of one length from one sender as one piece where it can
//! (`UDP_GRO`): a system call for hundreds of frames.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use quinn_udp::{RecvMeta, UdpSocketState};

use super::socket_options;

/// The room for a piece, and how many are received at a time.
const PIECE: usize = 1 << 16;
const PIECES: usize = 8;
/// The room in the kernel for datagrams that wait for us, in bytes. Without privileges it gives less:
/// `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 8 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Receiver {
    /// That of the local address, and that of the group.
    sockets: Vec<Socket>,
    /// The one whose turn it is.
    next: usize,
    bytes: Box<[u8]>,
}

struct Socket {
    udp: UdpSocket,
    state: UdpSocketState,
    /// How many datagrams the kernel has dropped so far, as it counts: modulo 2^32.
    drops: u32,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl Socket {
    fn new(udp: UdpSocket) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        // The second one has a limit, the first one needs a privilege.
        if setsockopt(&udp, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&udp, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        let state = UdpSocketState::new((&udp).into())?;
        Ok(Self { udp, state, drops: 0 })
    }
}

impl Receiver {
    /// Opens the sockets.
    pub(super) fn open(local: SocketAddr, group: Option<IpAddr>) -> io::Result<Self> {
        let mut sockets = vec![Socket::new(UdpSocket::bind(local)?)?];
        if let Some(group) = group {
            sockets.push(Socket::new(join(group, local)?)?);
        }
        Ok(Self { sockets, next: 0, bytes: vec![0; PIECE * PIECES].into_boxed_slice() })
    }

    /// Receives what is there, in place of what was received before. Passes to `datagram` each
    /// datagram's place in [`bytes`](Self::bytes), and its sender.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when there is nothing.
    pub(super) fn receive(
        &mut self,
        mut datagram: impl FnMut(&[u8], Range<usize>, IpAddr),
    ) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); PIECES];
        let mut result = Err(io::ErrorKind::WouldBlock.into());
        for _ in 0..self.sockets.len() {
            let Socket { udp, state, .. } = &self.sockets[self.next];
            self.next = (self.next + 1) % self.sockets.len();
            let mut places = self.bytes.chunks_mut(PIECE);
            let mut slices: [IoSliceMut<'_>; PIECES] =
                std::array::from_fn(|_| IoSliceMut::new(places.next().unwrap_or_default()));
            result = state.recv(udp.into(), &mut slices, &mut metas);
            if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
        }
        let count = result?;
        for (number, meta) in metas[..count].iter().enumerate() {
            let (begin, end) = (number * PIECE, number * PIECE + meta.len.min(PIECE));
            if begin == end {
                datagram(&[], begin..end, meta.addr.ip());
            }
            let step = meta.stride.max(1);
            for begin in (begin..end).step_by(step) {
                let range = begin..(begin + step).min(end);
                datagram(&self.bytes[range.clone()], range, meta.addr.ip());
            }
        }
        Ok(())
    }

    /// Returns where it receives.
    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        self.sockets[0].udp.local_addr()
    }

    /// Returns the buffer that datagrams were received into.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many datagrams the kernel has dropped since the last call because they came faster
    /// than they were read.
    pub(super) fn new_drops(&mut self) -> u64 {
        let drops = self.sockets.iter_mut().map(|socket| {
            let drops = socket_options::drops(&socket.udp).unwrap_or(socket.drops);
            let new = drops.wrapping_sub(std::mem::replace(&mut socket.drops, drops));
            u64::from(new)
        });
        drops.sum()
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.udp.as_fd())
    }
}

/// Opens a socket that receives what is sent to the group, on the interface that has the local
/// address. Several processes may have one.
fn join(group: IpAddr, local: SocketAddr) -> io::Result<UdpSocket> {
    let (family, scope) = match group {
        IpAddr::V4(_) => (AddressFamily::Inet, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, interface_of(local.ip())?),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let address = group_address(group, local.port(), scope);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    let socket = UdpSocket::from(socket);
    match (group, local.ip()) {
        (IpAddr::V4(group), IpAddr::V4(local)) => socket.join_multicast_v4(&group, &local)?,
        (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, scope)?,
        (IpAddr::V4(_), IpAddr::V6(_)) => return Err(io::ErrorKind::InvalidInput.into()),
    }
    Ok(socket)
}

/// Returns the address that frames for the group are sent to.
pub(super) fn group_at(group: IpAddr, local: SocketAddr) -> io::Result<SocketAddr> {
    let scope = if group.is_ipv6() { interface_of(local.ip())? } else { 0 };
    Ok(group_address(group, local.port(), scope))
}

fn group_address(group: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match group {
        IpAddr::V4(group) => (group, port).into(),
        IpAddr::V6(group) => SocketAddrV6::new(group, port, 0, scope).into(),
    }
}

/// Returns the number of the interface that has an address.
fn interface_of(address: IpAddr) -> io::Result<u32> {
    let has_it = |interface: &nix::ifaddrs::InterfaceAddress| {
        let theirs = interface.address.as_ref().and_then(|address| address.as_sockaddr_in6());
        theirs.is_some_and(|theirs| IpAddr::V6(theirs.ip()) == address)
    };
    let interface = getifaddrs()?.find(has_it).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(if_nametoindex(interface.interface_name.as_str())?)
}
