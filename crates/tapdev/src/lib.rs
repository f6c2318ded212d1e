//! Opens the kernel's TAP interfaces: Ethernet interfaces whose cable ends in a file descriptor.
//!
//! What is read from the descriptor is what the kernel sends, one frame a call, and what is written to it is what the kernel
//! receives. With [`Form::Virtio`] a 10-byte [virtio-net header](header) precedes each frame, and the kernel leaves
//! checksums and the cutting of TCP to whoever reads.
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
//! Where privileges are not to be had, a user namespace gives them: `unshare -Urn`.

mod calls;
pub mod header;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::errno::Errno;
use nix::libc;

/// The longest name of an interface, in bytes.
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// The device that interfaces are made with.
const DEVICE: &str = "/dev/net/tun";

/// What travels over the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Frames, complete in both directions.
    Plain,
    /// A [virtio-net header](header) and a frame. The kernel leaves checksums undone, and cutting TCP, which then comes in
    /// super-frames of up to 64 KiB.
    Virtio,
}

/// Why a TAP interface could not be opened. Nothing was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No interface can have this name.
    #[error(
        "an interface cannot be called '{0}': a name has 1 to {MAX_NAME} bytes, and no '/', ':', '%' or blank"
    )]
    BadName(String),
    /// There is no device to make interfaces with.
    #[error(
        "cannot open {DEVICE}: {0}; 'modprobe tun' loads the driver, and a container must be given the device"
    )]
    NoDevice(io::Error),
    /// Not allowed.
    #[error(
        "not allowed to open {name}; run it in a namespace of your own ('unshare -Urn'), or have the interface made for \
         you ('sudo ip tuntap add dev {name} mode tap user $USER')"
    )]
    NotAllowed {
        /// The interface.
        name: String,
    },
    /// Another process has it open.
    #[error("{name} is in use by another process; choose another name, or end that process")]
    InUse {
        /// The interface.
        name: String,
    },
    /// There is an interface of this name that is no TAP, or one with several queues.
    #[error("{name} is there and is no TAP interface with one queue; choose another name")]
    NoTap {
        /// The interface.
        name: String,
    },
    /// The system refused something else.
    #[error("cannot {what} {name}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The interface.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// An open TAP interface. It does not block, and is gone when this is dropped, unless it was made to persist
/// (`ip tuntap add`).
///
/// Reading and writing are system calls on `&TapDevice`: one frame each. A frame longer than the buffer it is read into is cut.
#[derive(Debug)]
pub struct TapDevice {
    file: File,
    name: String,
}

impl TapDevice {
    /// Makes the interface `name`, or takes up one that was made to persist. It is down until somebody sets it up
    /// (`ip link set tap0 up`).
    ///
    /// # Errors
    /// When it may not be made, or is in use: see [`OpenError`].
    pub fn open(name: &str, form: Form) -> Result<Self, OpenError> {
        if !is_name(name) {
            return Err(OpenError::BadName(name.to_owned()));
        }
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => OpenError::NotAllowed { name: name.to_owned() },
            _ => OpenError::NoDevice(error),
        })?;
        let tap = Self { file, name: name.to_owned() };
        calls::attach(&tap.file, name, form == Form::Virtio).map_err(|errno| match errno {
            Errno::EPERM => OpenError::NotAllowed { name: name.to_owned() },
            Errno::EBUSY => OpenError::InUse { name: name.to_owned() },
            Errno::EINVAL => OpenError::NoTap { name: name.to_owned() },
            other => tap.refused("open", other),
        })?;
        // An interface that persists keeps what the one before said.
        calls::set_offload(&tap.file, form == Form::Virtio)
            .map_err(|errno| tap.refused("set the offload of", errno))?;
        Ok(tap)
    }

    fn refused(&self, what: &'static str, errno: Errno) -> OpenError {
        OpenError::System { what, name: self.name.clone(), source: errno.into() }
    }

    /// What it was opened as. Somebody may have renamed it since.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface's own address.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        Ok(calls::mac(&self.file)?)
    }

    /// Changes the interface's own address.
    ///
    /// # Errors
    /// When it is no station's address (a group's, say), or not allowed.
    pub fn set_mac(&self, mac: [u8; 6]) -> io::Result<()> {
        Ok(calls::set_mac(&self.file, mac)?)
    }
}

/// Reads a frame that the kernel sends.
///
/// # Errors
/// `WouldBlock` when there is none.
impl Read for &TapDevice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }
}

/// Writes a frame for the kernel to receive.
///
/// # Errors
/// `EIO` while the interface is down, `EBADFD` when it is gone, `EINVAL` for what is no frame.
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

/// Readable: there is a frame. Writable: the interface is up. In error: it is gone.
impl AsFd for TapDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether an interface can have this name: the kernel's own rules, and no `%`, which it takes for a pattern.
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
            assert!(matches!(TapDevice::open(name, Form::Plain), Err(OpenError::BadName(_))), "{name}");
        }
    }
}
