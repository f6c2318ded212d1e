//! The system calls that have no safe face elsewhere: requests to the TAP driver (Linux, `linux/if_tun.h`).

use std::fs::File;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::libc;

/// `struct ifreq`: a name, and 24 bytes whose meaning is the request's.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    rest: [u8; 24],
}

/// The kernel reads and writes as much as its own structure has.
const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

nix::ioctl_readwrite_bad!(tunsetiff, libc::TUNSETIFF, InterfaceRequest);
nix::ioctl_write_int_bad!(tunsetoffload, libc::TUNSETOFFLOAD);
nix::ioctl_readwrite_bad!(siocgifhwaddr, libc::SIOCGIFHWADDR, InterfaceRequest);
nix::ioctl_write_ptr_bad!(siocsifhwaddr, libc::SIOCSIFHWADDR, InterfaceRequest);

/// Makes `file` the cable of the TAP interface `name`, which is made if need be. `name` is one that an interface can have.
pub(crate) fn attach(file: &File, name: &str, header: bool) -> Result<(), Errno> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | if header { libc::IFF_VNET_HDR } else { 0 };
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], rest: [0; 24] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // The flags are 16 bits wide there; these fit.
    request.rest[..2].copy_from_slice(&flags.to_ne_bytes()[low_half()]);
    // SAFETY: the descriptor is open, and the request is as large as the kernel takes it for.
    unsafe { tunsetiff(file.as_raw_fd(), &raw mut request) }.map(drop)
}

/// Which bytes of a 32-bit number are its lower half.
const fn low_half() -> std::ops::Range<usize> {
    if cfg!(target_endian = "little") { 0..2 } else { 2..4 }
}

/// Says what the reader takes upon itself: everything about checksums and TCP, or nothing.
pub(crate) fn set_offload(file: &File, on: bool) -> Result<(), Errno> {
    let everything = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let offload = if on { everything.cast_signed() } else { 0 };
    // SAFETY: the descriptor is open; the request takes a number.
    unsafe { tunsetoffload(file.as_raw_fd(), offload) }.map(drop)
}

/// The interface's address.
pub(crate) fn mac(file: &File) -> Result<[u8; 6], Errno> {
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], rest: [0; 24] };
    // SAFETY: the descriptor is open, and the request is as large as the kernel takes it for.
    unsafe { siocgifhwaddr(file.as_raw_fd(), &raw mut request) }?;
    let mut mac = [0; 6];
    // Behind the address's family.
    mac.copy_from_slice(&request.rest[2..8]);
    Ok(mac)
}

/// Changes the interface's address.
pub(crate) fn set_mac(file: &File, mac: [u8; 6]) -> Result<(), Errno> {
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], rest: [0; 24] };
    request.rest[..2].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
    request.rest[2..8].copy_from_slice(&mac);
    // SAFETY: the descriptor is open, and the request is as large as the kernel takes it for.
    unsafe { siocsifhwaddr(file.as_raw_fd(), &raw const request) }.map(drop)
}
