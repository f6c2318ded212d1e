//! Where a host is plugged in.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use shmbus::{SendError, WaitError};
use smoltcp::phy::Device;
use smoltcp::wire::EthernetAddress;

/// A device whose other end is closed for good, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Closed(pub String);

/// Why a host cannot sleep.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SleepError {
    /// The bus is gone, or cannot be waited for.
    #[error(transparent)]
    Bus(#[from] WaitError),
    /// The system refuses the wait.
    #[error("cannot sleep: {0}")]
    System(#[from] io::Error),
}

/// A device of smoltcp that can also be slept on.
pub trait Nic: Device {
    /// The host's Ethernet address. It, and the capabilities of the device, may change with [`service`](Self::service).
    fn mac(&self) -> EthernetAddress;

    /// Whether there is anything at the other end. While there is not, frames wait.
    fn is_up(&self) -> bool;

    /// Does what is due beside moving frames; whether the device has become another for the stack. Call it in every round of
    /// a loop.
    fn service(&mut self) -> bool;

    /// Checks that the device can still be used.
    ///
    /// # Errors
    /// [`Closed`] when its other end is closed for good.
    fn check(&self) -> Result<(), Closed> {
        Ok(())
    }

    /// Whether there is something for the stack to receive.
    fn look(&mut self) -> bool;

    /// Sends what the stack has had to say. What the other end has no room for is dropped.
    ///
    /// # Errors
    /// When the bus cannot be written to at the moment.
    fn flush(&mut self) -> Result<(), SendError>;

    /// Sleeps until there is something to receive or to service, one of `others` is readable, or the time is over. Does not
    /// when `look` says that there is something to do: it is asked last, when a wake-up would not be missed any more. So one
    /// can sleep for all who are at the same place.
    ///
    /// # Errors
    /// When the system does not let us sleep.
    fn sleep(
        &mut self,
        others: &[BorrowedFd<'_>],
        time: Duration,
        look: &mut dyn FnMut() -> bool,
    ) -> Result<(), SleepError>;
}

/// Sleeps until one of the descriptors is readable or the time is over.
pub(super) fn doze<'f>(fds: impl IntoIterator<Item = BorrowedFd<'f>>, time: Duration) -> io::Result<()> {
    let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match ppoll(&mut fds, Some(time.into()), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
