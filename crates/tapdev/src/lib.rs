//! Opens the kernel's TAP interfaces: Ethernet interfaces whose cable ends in a file descriptor.
//!
//! A read from the descriptor returns one frame that the kernel sends, and a write passes the
//! kernel one frame to receive. With [`Form::Virtio`] a 10-byte [virtio-net header](header)
//! precedes each frame, and the kernel leaves checksums and TCP segmentation to the reader.
//!
//! ```no_run
//! use std::io::Read as _;
//! use tapdev::{Form, TapDevice};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tap = TapDevice::open("tap0", Form::Plain)?;
//! let mut frame = [0; 1_514];
//! match (&tap).read(&mut frame) {
//!     Ok(len) => println!("{} sent {len} bytes", tap.name()),
//!     Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => println!("nothing yet"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Opening a TAP takes the capability `CAP_NET_ADMIN`, or an interface that an administrator has
//! made for the user. A process without either gets the capability in a user namespace: `unshare
//! -Urn`.

pub mod header;
mod ioctl;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::errno::Errno;
use nix::libc;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The longest name of an interface, in bytes.
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// The device that makes interfaces.
const DEVICE: &str = "/dev/net/tun";

/// What one read or write transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A frame, complete in both directions.
    Plain,
    /// A [virtio-net header](header) and a frame. The kernel leaves checksums undone, and TCP
    /// segmentation: it then sends super-frames of up to 64 KiB.
    Virtio,
}

/// Why a TAP interface could not be opened. No interface was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No interface can have this name.
    #[error(
        "an interface cannot be called '{0}': a name has 1 to {MAX_NAME} bytes, and no '/', ':', '%' or blank"
    )]
    BadName(String),
    /// The device that makes interfaces cannot be opened.
    #[error(
        "cannot open {DEVICE}: {0}; 'modprobe tun' loads the driver, and a container must be given the device"
    )]
    NoDevice(#[source] io::Error),
    /// The process lacks the permission.
    #[error(
        "not allowed to open {name}; run it in a namespace of your own ('unshare -Urn'), or have the interface made for \
         you ('sudo ip tuntap add dev {name} mode tap user $USER')"
    )]
    NotAllowed {
        /// The interface.
        name: String,
    },
    /// Another process has the interface open.
    #[error("{name} is in use by another process; choose another name, or end that process")]
    InUse {
        /// The interface.
        name: String,
    },
    /// An interface of this name exists and is not a TAP, or is one with several queues.
    #[error(
        "{name} exists and is not a TAP interface with one queue; choose another name, or open one that was made with \
         'multi_queue' with several queues"
    )]
    NotATap {
        /// The interface.
        name: String,
    },
    /// An interface of this name exists and is not a TAP with several queues.
    #[error(
        "{name} exists and is not a TAP interface with several queues; choose another name, or have it made for them \
         ('sudo ip tuntap add dev {name} mode tap multi_queue user $USER')"
    )]
    NotMultiQueue {
        /// The interface.
        name: String,
    },
    /// The kernel opens no more queues of the interface.
    #[error(
        "the kernel opens no more queues of {name}: 256 at most, with those of other processes"
    )]
    TooManyQueues {
        /// The interface.
        name: String,
    },
    /// A system call failed in another way.
    #[error("cannot {what} {name}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// The interface.
        name: String,
        /// The system's error.
        source: io::Error,
    },
}

/// An open TAP interface.
///
/// Reads and writes are system calls on `&TapDevice`, one frame each, and do not block. A frame
/// that is longer than the buffer it is read into is cut. When the `TapDevice` is dropped, the
/// kernel removes the interface, unless the interface was made to persist (`ip tuntap add`).
///
/// ```no_run
/// use std::io::Write as _;
/// use tapdev::{Form, TapDevice};
///
/// let tap = TapDevice::open("tap0", Form::Plain)?;
/// tap.set_mac([2, 0, 0, 0, 0, 1])?;
/// // Later, when the interface is up, the kernel receives a frame:
/// (&tap).write(b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x88\xb5hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TapDevice {
    file: File,
    name: String,
}

impl TapDevice {
    /// Opens the interface `name`: one that was made to persist, or else a new one.
    ///
    /// A new interface is down until it is set up (`ip link set tap0 up`).
    ///
    /// # Errors
    /// When the name is not valid, the permission is missing, the interface is in use or not a TAP,
    /// or the system fails; see [`OpenError`].
    pub fn open(name: &str, form: Form) -> Result<Self, OpenError> {
        Self::attach(name, form, false)
    }

    /// Opens the interface `name` with several queues: one that was made to persist with them, or
    /// else a new one. Returns a device for each queue.
    ///
    /// The kernel sends the packets of a flow by the queue that received the latest packet of the
    /// other direction. A new interface is down until it is set up.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the kernel does not open as many queues.
    pub fn open_queues(name: &str, form: Form, queues: usize) -> Result<Vec<Self>, OpenError> {
        (0..queues).map(|_| Self::attach(name, form, true)).collect()
    }

    /// Opens the only queue of an interface, or one of `several`.
    fn attach(name: &str, form: Form, several: bool) -> Result<Self, OpenError> {
        if !is_name(name) {
            return Err(OpenError::BadName(name.to_owned()));
        }
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => OpenError::NotAllowed { name: name.to_owned() },
            _ => OpenError::NoDevice(error),
        })?;
        let tap = Self { file, name: name.to_owned() };
        let header = form == Form::Virtio;
        ioctl::attach(&tap.file, name, header, several).map_err(|errno| match errno {
            Errno::EPERM => OpenError::NotAllowed { name: name.to_owned() },
            Errno::EBUSY => OpenError::InUse { name: name.to_owned() },
            Errno::EINVAL if several => OpenError::NotMultiQueue { name: name.to_owned() },
            Errno::EINVAL => OpenError::NotATap { name: name.to_owned() },
            Errno::E2BIG => OpenError::TooManyQueues { name: name.to_owned() },
            other => tap.refused("open", other),
        })?;
        // An interface that persists keeps the offload that its last user set.
        ioctl::set_offload(&tap.file, header)
            .map_err(|errno| tap.refused("set the offload of", errno))?;
        Ok(tap)
    }

    /// Makes a device of a descriptor that another process has opened with [`open`](Self::open) and
    /// handed over. The interface may be in another network namespace.
    #[must_use]
    pub fn from_fd(fd: OwnedFd, name: impl Into<String>) -> Self {
        Self { file: fd.into(), name: name.into() }
    }

    fn refused(&self, what: &'static str, errno: Errno) -> OpenError {
        OpenError::System { what, name: self.name.clone(), source: errno.into() }
    }

    /// Returns the name that the interface was opened by. It does not follow a later rename.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the interface's own Ethernet address.
    ///
    /// # Errors
    /// When the interface has been deleted.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        Ok(ioctl::mac(&self.file)?)
    }

    /// Changes the interface's own Ethernet address.
    ///
    /// # Errors
    /// When `mac` is not the address of a single station (a multicast address, say), or the
    /// permission is missing.
    pub fn set_mac(&self, mac: [u8; 6]) -> io::Result<()> {
        Ok(ioctl::set_mac(&self.file, mac)?)
    }
}

/// Closes the device here, and keeps it open as a descriptor to hand over.
impl From<TapDevice> for OwnedFd {
    fn from(tap: TapDevice) -> Self {
        tap.file.into()
    }
}

/// Reads one frame that the kernel sends.
///
/// # Errors
/// `WouldBlock` when there is none.
impl Read for &TapDevice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }
}

/// Writes one frame for the kernel to receive.
///
/// # Errors
/// `EIO` while the interface is down, `EBADFD` after it was deleted, `EINVAL` for bytes that are
/// not a frame.
impl Write for &TapDevice {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        (&self.file).write(frame)
    }

    fn write_vectored(&mut self, frame: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.file).write_vectored(frame)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The descriptor polls readable when there is a frame, writable when the interface is up, and in
/// error after the interface was deleted.
impl AsFd for TapDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Returns whether an interface can have this name.
///
/// These are the kernel's own rules. In addition no name may have a `%`, which the kernel takes for
/// a pattern.
///
/// ```
/// assert!(tapdev::is_name("tap0"));
/// assert!(!tapdev::is_name("tap%d"));
/// ```
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(['/', ':', '%', '\0'])
        && !name.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_the_kernel_sees_them() {
        for name in ["tap0", "a", "fifteen-letters", "lan.4"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "sixteen-letters-", "tap%d", "a/b", "a b", "a:b", "a\0"] {
            assert!(
                matches!(TapDevice::open(name, Form::Plain), Err(OpenError::BadName(_))),
                "{name}"
            );
        }
    }
}
