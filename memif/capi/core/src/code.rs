//! The errors of the C API, by number.

use std::ffi::CStr;
use std::io;

use memif::{BindError, ClientError, LinkError, OptionsError};
use nix::errno::Errno;

/// An error of the C API: its number is part of the ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs, reason = "`message` has a sentence on each")]
pub enum Code {
    Success = 0,
    Syscall,
    ConnRefused,
    Acces,
    NoFile,
    FileLimit,
    ProcFileLimit,
    Already,
    Again,
    BadFd,
    NoMem,
    InvalArg,
    NoConn,
    Conn,
    CbFdUpdate,
    FileNotSock,
    NoShmFd,
    Cookie,
    NoBufRing,
    NoBuf,
    NoBufDet,
    IntWrite,
    MalformedMsg,
    Qid,
    Proto,
    Id,
    AccSlave,
    AlrConn,
    Mode,
    Secret,
    NoSecret,
    MaxReg,
    MaxRings,
    NoIntFd,
    Disconnect,
    Disconnected,
    UnknownMsg,
    PollCancel,
    RingSize,
    PrivHdr,
}

/// The texts, by number.
const MESSAGES: [&CStr; 40] = [
    c"success",
    c"a system call failed",
    c"no server accepts the connection",
    c"permission denied; check the socket's owner and mode",
    c"the socket's file or its directory does not exist",
    c"the system has too many open files",
    c"the process has too many open files; raise its limit (ulimit -n)",
    c"a connection has been requested already",
    c"the operation would block; try again",
    c"not a descriptor that this call takes",
    c"out of memory",
    c"an argument is invalid",
    c"the handle is NULL, or its interface was deleted",
    c"the handle names an interface already; set it to NULL first",
    c"the callback for descriptors to watch has failed",
    c"the path exists and is not a socket",
    c"a region came without the descriptor of its memory",
    c"a ring does not begin with the memif cookie",
    c"the ring is full",
    c"more packets are waiting than the buffers passed in can describe",
    c"the buffer for the details is too small",
    c"the peer could not be sent an interrupt",
    c"a malformed message was received",
    c"the interface has no queue with this number",
    c"the peer speaks another version of the protocol",
    c"the interface id is unknown to the socket, or used twice",
    c"a client does not accept connections",
    c"the interface is connected already",
    c"the interface modes differ",
    c"the secrets differ",
    c"the peer requires a secret",
    c"too many memory regions",
    c"too many rings",
    c"a ring came without the descriptor of its interrupt",
    c"the peer has disconnected, with a reason",
    c"the interface is not connected",
    c"a message of unknown type was received",
    c"polling was cancelled",
    c"the ring size is above 2^14",
    c"private headers are not supported",
];

/// Returns the text of an error number; one for all numbers that are none.
#[must_use]
pub fn message(code: i32) -> &'static CStr {
    usize::try_from(code)
        .ok()
        .and_then(|code| MESSAGES.get(code).copied())
        .unwrap_or(c"unknown error")
}

impl Code {
    /// Returns the number.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Returns the error for a failed system call.
    #[must_use]
    pub fn of_errno(errno: Errno) -> Self {
        match errno {
            Errno::EACCES | Errno::EPERM => Self::Acces,
            Errno::ENFILE => Self::FileLimit,
            Errno::EMFILE => Self::ProcFileLimit,
            Errno::ENOMEM => Self::NoMem,
            Errno::ECONNREFUSED => Self::ConnRefused,
            Errno::EALREADY => Self::Already,
            Errno::EAGAIN => Self::Again,
            Errno::EBADF => Self::BadFd,
            Errno::ENOENT => Self::NoFile,
            _ => Self::Syscall,
        }
    }
}

impl From<&io::Error> for Code {
    fn from(error: &io::Error) -> Self {
        error.raw_os_error().map_or(Self::Syscall, |errno| Self::of_errno(Errno::from_raw(errno)))
    }
}

impl From<Errno> for Code {
    fn from(errno: Errno) -> Self {
        Self::of_errno(errno)
    }
}

impl From<BindError> for Code {
    fn from(error: BindError) -> Self {
        match &error {
            BindError::NotASocket { .. } => Self::FileNotSock,
            BindError::OtherUser { .. } => Self::Acces,
            BindError::NoDirectory { .. } => Self::NoFile,
            BindError::TooLong { .. } => Self::InvalArg,
            BindError::NotListening => Self::BadFd,
            BindError::System { source, .. } => source.into(),
            // As for any other address in use: libmemif has no number for it.
            _ => Self::Syscall,
        }
    }
}

impl From<OptionsError> for Code {
    fn from(error: OptionsError) -> Self {
        match error {
            OptionsError::RingSize(_) => Self::RingSize,
            OptionsError::Memory { .. } => Self::NoMem,
            OptionsError::Duplicate(_) => Self::Id,
            _ => Self::InvalArg,
        }
    }
}

impl From<ClientError> for Code {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Options(error) => error.into(),
            other => Self::of_source(&other),
        }
    }
}

impl From<memif::Error> for Code {
    fn from(error: memif::Error) -> Self {
        Self::of_source(&error)
    }
}

impl From<LinkError> for Code {
    fn from(_: LinkError) -> Self {
        Self::Disconnected
    }
}

impl Code {
    /// Returns the error for the system error that an error comes from.
    fn of_source(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return error.into();
            }
            next = error.source();
        }
        Self::Syscall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_abi() {
        let known = [
            (Code::Success, 0),
            (Code::NoMem, 10),
            (Code::InvalArg, 11),
            (Code::NoConn, 12),
            (Code::NoBufRing, 18),
            (Code::NoBufDet, 20),
            (Code::Qid, 23),
            (Code::AlrConn, 27),
            (Code::Disconnected, 35),
            (Code::PollCancel, 37),
            (Code::PrivHdr, 39),
        ];
        assert!(known.iter().all(|(code, number)| code.number() == *number));
    }

    #[test]
    fn every_number_has_a_text_and_so_have_others() {
        let texts: std::collections::HashSet<_> = (0..40).map(message).collect();
        assert_eq!(texts.len(), 40);
        assert_eq!([40, -1, i32::MIN].map(message), [c"unknown error"; 3]);
    }

    #[test]
    fn system_errors_are_found_behind_others() {
        let system = io::Error::from_raw_os_error(nix::libc::EMFILE);
        let bind = BindError::System { socket: "s".into(), step: "socket", source: system };
        assert_eq!(Code::from(bind), Code::ProcFileLimit);
        let nested = io::Error::other(io::Error::from_raw_os_error(nix::libc::ENFILE));
        assert_eq!(Code::of_source(&nested), Code::Syscall, "an error without a number");
    }
}
