//! The sockets of one end of a VXLAN.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, sockopt};

use super::receiver::{self, Receiver};
use super::sender::Sender;
use super::socket_options;

/// The sockets of one local address.
#[derive(Debug)]
pub(super) struct Udp {
    pub(super) local: SocketAddr,
    pub(super) sender: Sender,
    pub(super) receiver: Receiver,
}

impl Udp {
    pub(super) fn open(local: SocketAddr, group: Option<IpAddr>) -> io::Result<Self> {
        let group_at = group.map(|group| receiver::group_at(group, local)).transpose()?;
        let receiver = Receiver::open(local, group)?;
        let local = receiver.local()?;
        Ok(Self { local, sender: Sender::open(local.ip(), group_at)?, receiver })
    }

    /// Has `epoll` watch for datagrams.
    pub(super) fn watch(&self, epoll: &Epoll) -> nix::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        self.receiver.descriptors().try_for_each(|socket| epoll.add(socket, event))
    }
}

/// Returns the MTU of the way to a peer, as far as this machine knows it.
pub(super) fn path_mtu(local: IpAddr, peer: SocketAddr) -> Option<usize> {
    // Nothing is sent.
    let socket = UdpSocket::bind((local, 0)).ok()?;
    socket.connect(peer).ok()?;
    let mtu = match peer {
        SocketAddr::V4(_) => getsockopt(&socket, sockopt::IpMtu).ok()?,
        SocketAddr::V6(_) => socket_options::ipv6_mtu(&socket).ok()?,
    };
    usize::try_from(mtu).ok()
}
