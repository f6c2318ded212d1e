//! Descriptors that this process was started with.

#![expect(unsafe_code, reason = "a descriptor that is only a number must be borrowed once")]

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt as _;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::connection::Wire;
use super::framing::Framing;
use super::spec::{STDIN, STDOUT};
use crate::error::DescriptorError;

/// What a descriptor leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Socket,
    Pipe,
}

/// Makes a wire of a socket, or of a pipe for each direction. With stdin, the other direction is
/// stdout unless `output` says otherwise.
pub(super) fn wire(
    input: RawFd,
    output: Option<RawFd>,
    framing: Framing,
) -> Result<Wire, DescriptorError> {
    let (source, kind) = duplicate(input)?;
    let output = output.filter(|output| *output != input);
    if kind == Kind::Socket {
        check_type(input, &source, framing)?;
    }
    if kind == Kind::Socket && output.is_none() {
        return Ok(Wire { input: source, output: None, is_socket: true, to: None });
    }
    if !framing.is_stream() {
        return Err(DescriptorError::NoPackets(input));
    }
    let output = output
        .or((input == STDIN).then_some(STDOUT))
        .ok_or(DescriptorError::OneDirection(input))?;
    let (sink, kind) = duplicate(output)?;
    if kind == Kind::Socket {
        check_type(output, &sink, framing)?;
    }
    for end in [&source, &sink] {
        let flags =
            OFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFL).map_err(io::Error::from)?);
        fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
    }
    Ok(Wire { input: source, output: Some(sink), is_socket: false, to: None })
}

/// Checks that a socket carries frames as the framing wants it: a datagram socket has no stream, and
/// in a stream no packet has an end.
fn check_type(number: RawFd, socket: &OwnedFd, framing: Framing) -> Result<(), DescriptorError> {
    let kind = getsockopt(socket, sockopt::SockType).map_err(io::Error::from)?;
    match (kind == SockType::Stream, framing.is_stream()) {
        (true, false) => Err(DescriptorError::IsStream(number)),
        (false, true) => Err(DescriptorError::IsNoStream(number)),
        _ => Ok(()),
    }
}

/// Duplicates a descriptor. The number itself stays open: it may be stdin.
fn duplicate(number: RawFd) -> Result<(OwnedFd, Kind), DescriptorError> {
    let absent = |_| DescriptorError::NotInherited(number);
    let file = fs::metadata(format!("/proc/self/fd/{number}")).map_err(absent)?;
    // SAFETY: it was open a moment ago, is borrowed for this function only, and is used for nothing
    // but calls that fail when it is closed.
    let given = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl(given, FcntlArg::F_GETFD).map_err(absent_errno(number))?;
    // What this process has opened itself is closed in programs that it starts.
    if FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) {
        return Err(DescriptorError::NotInherited(number));
    }
    let kind = match file.file_type() {
        kind if kind.is_socket() => Kind::Socket,
        kind if kind.is_fifo() => Kind::Pipe,
        _ => return Err(DescriptorError::WrongKind(number)),
    };
    Ok((given.try_clone_to_owned()?, kind))
}

fn absent_errno(number: RawFd) -> impl Fn(nix::errno::Errno) -> DescriptorError {
    move |_| DescriptorError::NotInherited(number)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn only_what_was_handed_over_is_used() {
        let (ours, _other) = UnixStream::pair().unwrap();
        let error = wire(ours.as_raw_fd(), None, Framing::Qemu).expect_err("it is our own");
        assert!(matches!(error, DescriptorError::NotInherited(_)), "{error}");
        fcntl(&ours, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        assert!(wire(ours.as_raw_fd(), None, Framing::Vde).expect("as if inherited").is_socket);
        let error = wire(1_000_000, None, Framing::Qemu).expect_err("there is none");
        assert!(matches!(error, DescriptorError::NotInherited(_)), "{error}");
    }

    #[test]
    fn a_socket_is_of_the_type_that_the_framing_needs() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let (datagrams, _other) = UnixDatagram::pair().unwrap();
        let [stream, datagrams] = [OwnedFd::from(stream), datagrams.into()].map(|socket| {
            fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            socket
        });
        for framing in [Framing::Qemu, Framing::Vde] {
            wire(stream.as_raw_fd(), None, framing).expect("a stream");
            let error = wire(datagrams.as_raw_fd(), None, framing).expect_err("no stream");
            assert!(error.to_string().ends_with("choose framing=packet or dgram"), "{error}");
        }
        for framing in [Framing::Packet, Framing::Dgram] {
            wire(datagrams.as_raw_fd(), None, framing).expect("packets");
            let error = wire(stream.as_raw_fd(), None, framing).expect_err("no packets");
            assert!(error.to_string().ends_with("choose framing=qemu or vde"), "{error}");
        }
    }

    #[test]
    fn a_pipe_is_one_direction() {
        let (input, output) = nix::unistd::pipe().unwrap();
        let numbers = (input.as_raw_fd(), output.as_raw_fd());
        let error = wire(numbers.0, None, Framing::Qemu).expect_err("it can be read only");
        assert!(matches!(error, DescriptorError::OneDirection(_)), "{error}");
        let error = wire(numbers.0, Some(numbers.1), Framing::Packet).expect_err("no packets");
        assert!(matches!(error, DescriptorError::NoPackets(_)), "{error}");
        let both = wire(numbers.0, Some(numbers.1), Framing::Vde).expect("two directions");
        assert!(!both.is_socket && both.output.is_some());
    }
}
