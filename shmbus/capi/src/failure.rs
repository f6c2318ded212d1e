//! What a call reports when it fails: a code, the system's `errno`, and a line for people.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;

use nix::errno::Errno;
use shmbus::{OpenError, SendError, WaitError, WakeError};

/// `enum shmbus_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[non_exhaustive]
pub enum Code {
    /// A pointer is NULL, or a value is out of its range.
    Argument = -1,
    /// It is no open handle.
    Handle = -2,
    /// Another thread uses the handle now.
    InUse = -3,
    /// The system refused something.
    System = -4,
    /// The file cannot be joined as a bus.
    NotABus = -5,
    /// There is no room for the file.
    NoRoom = -6,
    /// The header of the bus leads to no packet.
    Damaged = -7,
    /// The lock was not free in time.
    Busy = -8,
    /// A frame is too long or too short.
    Length = -9,
    /// The file was cut short or overwritten.
    Lost = -10,
    /// A tap cannot do that.
    Tap = -11,
    /// A fault of this library.
    Internal = -12,
}

impl Code {
    const ALL: [Self; 12] = [
        Self::Argument,
        Self::Handle,
        Self::InUse,
        Self::System,
        Self::NotABus,
        Self::NoRoom,
        Self::Damaged,
        Self::Busy,
        Self::Length,
        Self::Lost,
        Self::Tap,
        Self::Internal,
    ];

    /// Returns the text for the result of any call.
    pub(crate) fn text_of(result: c_int) -> &'static CStr {
        if result >= 0 {
            return c"success";
        }
        Self::ALL.iter().find(|code| **code as c_int == result).map_or(c"unknown error", |code| {
            match code {
                Self::Argument => c"an argument is NULL or out of range",
                Self::Handle => c"not an open handle",
                Self::InUse => c"another thread uses the handle",
                Self::System => c"the system refused, see errno",
                Self::NotABus => c"not a bus that can be joined",
                Self::NoRoom => c"no room for the bus",
                Self::Damaged => c"the bus is damaged",
                Self::Busy => c"the bus is busy",
                Self::Length => c"a frame is too long or too short",
                Self::Lost => c"the bus is gone",
                Self::Tap => c"a tap cannot do that",
                Self::Internal => c"a fault of libshmbus",
            }
        })
    }

    /// The usual `errno` of the code.
    fn errno(self) -> Errno {
        match self {
            Self::Argument => Errno::EINVAL,
            Self::Handle => Errno::EBADF,
            Self::InUse => Errno::EBUSY,
            Self::System => Errno::EIO,
            Self::NotABus => Errno::ENOTSUP,
            Self::NoRoom => Errno::ENOSPC,
            Self::Damaged => Errno::EUCLEAN,
            Self::Busy => Errno::EAGAIN,
            Self::Length => Errno::EMSGSIZE,
            Self::Lost => Errno::ESTALE,
            Self::Tap => Errno::EPERM,
            Self::Internal => Errno::ENOTRECOVERABLE,
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    errno: Errno,
    text: String,
}

thread_local! {
    /// The text of the latest failure in this thread.
    static LAST: RefCell<CString> = RefCell::default();
}

/// Returns the text of the latest failure in this thread. It is valid until the next one.
pub(crate) fn last_text() -> *const c_char {
    // A thread that is ending has none any more.
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, errno: code.errno(), text: text.into() }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(Code::Argument, text)
    }

    /// A pointer with this name is NULL or not aligned.
    pub(crate) fn pointer(name: &str) -> Self {
        Self::argument(format!("the argument `{name}` is NULL, or not aligned"))
    }

    pub(crate) fn internal() -> Self {
        Self::new(Code::Internal, "a fault of libshmbus; close the handle, and please report it")
    }

    /// The table of handles is full.
    pub(crate) fn too_many(limit: usize) -> Self {
        let text = format!("a process has at most {limit} handles; close some");
        Self { errno: Errno::EMFILE, ..Self::new(Code::System, text) }
    }

    pub(crate) fn caused_by(code: Code, source: &io::Error, text: String) -> Self {
        let errno = source.raw_os_error().map_or(code.errno(), Errno::from_raw);
        Self { code, errno, text }
    }

    /// Keeps the text for `shmbus_last_error`, sets `errno`, and returns the code.
    pub(crate) fn report(self) -> c_int {
        let Self { code, errno, text } = self;
        // No text of ours has a NUL, but a path in one may.
        let text = CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
        let _ = LAST.try_with(|last| last.replace(text));
        // Last: whatever was called before may have changed it.
        errno.set();
        code as c_int
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let text = error.to_string();
        match &error {
            OpenError::Io { source, .. } => Self::caused_by(Code::System, source, text),
            OpenError::DeadLink { .. } => {
                Self { errno: Errno::ENOENT, ..Self::new(Code::System, text) }
            }
            OpenError::PlantedLink { .. } => {
                Self { errno: Errno::EACCES, ..Self::new(Code::System, text) }
            }
            OpenError::NoRoom { source, .. } => Self::caused_by(Code::NoRoom, source, text),
            OpenError::FileSizeLimit { .. } => {
                Self { errno: Errno::EFBIG, ..Self::new(Code::NoRoom, text) }
            }
            OpenError::Busy { .. } => Self::new(Code::Busy, text),
            OpenError::Corrupt { .. } => Self::new(Code::Damaged, text),
            OpenError::BadSize { .. } => Self::argument(text),
            _ => Self::new(Code::NotABus, text),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let code = match &error {
            SendError::TooLong { .. } | SendError::TooShort { .. } => Code::Length,
            SendError::Busy { .. } => Code::Busy,
            SendError::Lost { .. } => Code::Lost,
            // Nothing here leaves work to the station.
            _ => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<WaitError> for Failure {
    fn from(error: WaitError) -> Self {
        let text = error.to_string();
        match &error {
            WaitError::Lost { .. } => Self::new(Code::Lost, text),
            WaitError::Watch { source, .. } | WaitError::Poll { source, .. } => {
                Self::caused_by(Code::System, source, text)
            }
            _ => Self::new(Code::System, text),
        }
    }
}

impl From<WakeError> for Failure {
    fn from(error: WakeError) -> Self {
        Self::caused_by(Code::System, &error.source, error.to_string())
    }
}
