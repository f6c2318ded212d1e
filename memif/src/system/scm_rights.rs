//! Takes ownership of the file descriptors that arrive in messages, so that none is ever lost.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{MsgFlags, SockFlag, accept4, recv, recvmsg};

/// Takes ownership of a descriptor that the kernel has just installed.
///
/// # Safety
/// `number` is an open descriptor that nothing else owns.
unsafe fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Takes ownership of the descriptors in a control buffer that `recvmsg` has filled; returns them
/// and the number of entries. The buffer was zeroed before the call: the zero length behind the
/// last entry ends the list.
///
/// This reads the entries from the bytes, as `nix`'s parser gives up when the kernel had to cut the
/// list (for lack of free descriptors): the descriptors installed so far would stay open for ever.
///
/// # Safety
/// `control` was zeroed, then filled by one successful `recvmsg` and not changed since, and is
/// passed to this function only once.
unsafe fn take(control: &[u8]) -> (usize, Vec<OwnedFd>) {
    // A `cmsghdr`: a length of a machine word, level and type; entries begin on words.
    const WORD: usize = size_of::<usize>();
    const LEVEL_SOCKET: i32 = nix::libc::SOL_SOCKET;
    const TYPE_RIGHTS: i32 = nix::libc::SCM_RIGHTS;
    let (mut entries, mut fds) = (0, Vec::new());
    let mut rest = control;
    while let Some((header, _)) = rest.split_at_checked(HEADER) {
        let mut len = [0; WORD];
        len.copy_from_slice(&header[..WORD]);
        let len = usize::from_ne_bytes(len);
        if len < HEADER || len > rest.len() {
            break;
        }
        entries += 1;
        let word = |at: usize, bytes: &[u8]| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            i32::from_ne_bytes(word)
        };
        if word(WORD, header) == LEVEL_SOCKET && word(WORD + 4, header) == TYPE_RIGHTS {
            for number in rest[HEADER..len].chunks_exact(4) {
                // SAFETY: the kernel installed this descriptor for this call and it is taken once,
                // by the caller's promise.
                fds.push(unsafe { adopt(word(0, number)) });
            }
        }
        rest = rest.get(len.next_multiple_of(WORD)..).unwrap_or(&[]);
    }
    (entries, fds)
}

/// The most descriptors that the kernel puts into one message.
pub(crate) const MAX_FDS: usize = 253;
/// The bytes of an entry's header.
const HEADER: usize = size_of::<usize>() + 8;
/// The bytes of an entry with credentials.
const CREDENTIALS: usize = (HEADER + 12).next_multiple_of(size_of::<usize>());
const CONTROL_BYTES: usize = HEADER + MAX_FDS * size_of::<RawFd>();

nix::ioctl_read_bad!(fionread, nix::libc::FIONREAD, nix::libc::c_int);

/// What `receive` has found.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Its length in bytes, which exceeds the buffer's when the packet was cut.
    pub(crate) len: usize,
    /// The descriptors that came with it.
    pub(crate) fds: Vec<OwnedFd>,
    /// Whether the kernel has dropped others, for lack of room.
    pub(crate) cut: bool,
}

/// Receives one packet without blocking, with room for at most `room` descriptors. Returns `None`
/// at the end, and for a packet without bytes or control entries.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    packet: &mut [u8],
    room: usize,
) -> nix::Result<Option<Packet>> {
    receive_with(socket, packet, HEADER + room.min(MAX_FDS) * size_of::<RawFd>())
}

/// Receives one packet without blocking, from a socket that passes credentials: so a packet without
/// bytes differs from the end. There is no room for descriptors; the kernel drops them.
pub(crate) fn discard(socket: BorrowedFd<'_>) -> nix::Result<Option<Packet>> {
    receive_with(socket, &mut [0], CREDENTIALS)
}

fn receive_with(
    socket: BorrowedFd<'_>,
    packet: &mut [u8],
    control_bytes: usize,
) -> nix::Result<Option<Packet>> {
    let mut control = [0; CONTROL_BYTES];
    let mut iov = [IoSliceMut::new(packet)];
    // MSG_TRUNC makes the kernel return the real length.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_TRUNC;
    let control_room = Some(&mut control[..control_bytes]);
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut iov, control_room, flags)?;
    let (len, cut) = (received.bytes, received.flags.contains(MsgFlags::MSG_CTRUNC));
    // SAFETY: zeroed above, filled by the one call above that succeeded, and passed to `take` here
    // only.
    let (entries, fds) = unsafe { take(&control) };
    Ok((len != 0 || entries != 0 || cut).then_some(Packet { len, fds, cut }))
}

/// Copies the next packet, which stays in the queue, without its descriptors. Returns its length,
/// which exceeds the buffer's when the packet was cut; 0 also at the end.
pub(crate) fn peek(socket: BorrowedFd<'_>, packet: &mut [u8]) -> nix::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
    recv(socket.as_raw_fd(), packet, flags)
}

/// Returns the number of descriptors in the queue of a unix socket, or `None` where the system does
/// not tell.
pub(crate) fn queued_fds(socket: BorrowedFd<'_>) -> Option<usize> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("scm_fds:"))?.trim().parse().ok()
}

/// Returns the number of bytes in the queue of a unix socket.
pub(crate) fn queued_bytes(socket: BorrowedFd<'_>) -> nix::Result<usize> {
    let mut bytes = 0;
    // SAFETY: the kernel writes one number to a valid place.
    unsafe { fionread(socket.as_raw_fd(), &raw mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Accepts one waiting connection without blocking. The connection is non-blocking, and closed on
/// exec.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel installed this descriptor for this call.
    Ok(unsafe { adopt(number) })
}

/// Registers a descriptor with the current tokio runtime.
#[cfg(feature = "tokio")]
pub(crate) fn register(fd: OwnedFd) -> std::io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor keeps its number, and `AsyncFd` deregisters it before closing it.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(fd) }?)
}
