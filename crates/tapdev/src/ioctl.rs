//! Requests to the kernel's TAP driver (Linux, `linux/if_tun.h`) that no safe library offers.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::libc;

/// `struct ifreq`: a name, and 24 bytes whose meaning depends on the request.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    rest: [u8; 24],
}

/// The kernel reads and writes as many bytes as its own structure has.
const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

nix::ioctl_readwrite_bad!(tunsetiff, libc::TUNSETIFF, InterfaceRequest);
nix::ioctl_write_int_bad!(tunsetoffload, libc::TUNSETOFFLOAD);
nix::ioctl_readwrite_bad!(siocgifhwaddr, libc::SIOCGIFHWADDR, InterfaceRequest);
nix::ioctl_write_ptr_bad!(siocsifhwaddr, libc::SIOCSIFHWADDR, InterfaceRequest);

/// Attaches `file` to the TAP interface `name`, and creates the interface if it does not exist: as
/// its only queue, or as one of `several`. `name` is valid and so fits.
pub(crate) fn attach(file: &File, name: &str, header: bool, several: bool) -> Result<(), Errno> {
    let header = if header { libc::IFF_VNET_HDR } else { 0 };
    let queues = if several { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | header | queues;
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], rest: [0; 24] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // The request has 16 bits for the flags, and these fit.
    request.rest[..2].copy_from_slice(&flags.to_ne_bytes()[low_half()]);
    // SAFETY: the descriptor is open, and the request has the size that the kernel expects.
    unsafe { tunsetiff(file.as_raw_fd(), &raw mut request) }.map(drop)
}

/// Returns which bytes of a 32-bit number in native order are its lower half.
const fn low_half() -> Range<usize> {
    if cfg!(target_endian = "little") { 0..2 } else { 2..4 }
}

/// Tells the kernel what it may leave to the reader: all checksums and TCP segmentation, or
/// nothing.
pub(crate) fn set_offload(file: &File, on: bool) -> Result<(), Errno> {
    let everything = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let offload = if on { everything.cast_signed() } else { 0 };
    // SAFETY: the descriptor is open, and the request takes a number.
    unsafe { tunsetoffload(file.as_raw_fd(), offload) }.map(drop)
}

/// Returns the interface's Ethernet address.
pub(crate) fn mac(file: &File) -> Result<[u8; 6], Errno> {
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], rest: [0; 24] };
    // SAFETY: the descriptor is open, and the request has the size that the kernel expects.
    unsafe { siocgifhwaddr(file.as_raw_fd(), &raw mut request) }?;
    let mut mac = [0; 6];
    // The address follows its family.
    mac.copy_from_slice(&request.rest[2..8]);
    Ok(mac)
}

/// Changes the interface's Ethernet address.
pub(crate) fn set_mac(file: &File, mac: [u8; 6]) -> Result<(), Errno> {
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], rest: [0; 24] };
    request.rest[..2].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
    request.rest[2..8].copy_from_slice(&mac);
    // SAFETY: the descriptor is open, and the request has the size that the kernel expects.
    unsafe { siocsifhwaddr(file.as_raw_fd(), &raw const request) }.map(drop)
}
