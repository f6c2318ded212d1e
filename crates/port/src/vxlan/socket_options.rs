//! Two things to ask the kernel of a UDP socket that have no name in the libraries.

use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// Nine numbers about the socket's memory. The last is how many datagrams were dropped.
    MemInfo,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; 9]
);

sockopt_impl!(
    /// The MTU of the way that the socket is connected by.
    Ipv6Mtu,
    GetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU,
    libc::c_int
);

/// Returns how many datagrams the kernel has dropped because the socket was full, modulo 2^32.
pub(super) fn drops(socket: &impl AsFd) -> nix::Result<u32> {
    getsockopt(socket, MemInfo).map(|[.., drops]| drops)
}

/// Returns the MTU of the way that an IPv6 socket is connected by, in bytes.
pub(super) fn ipv6_mtu(socket: &impl AsFd) -> nix::Result<libc::c_int> {
    getsockopt(socket, Ipv6Mtu)
}
