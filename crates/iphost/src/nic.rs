//! The network device of a host.

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
    /// The bus is lost, or cannot be waited for.
    #[error(transparent)]
    Bus(#[from] WaitError),
    /// The system refuses the wait.
    #[error("cannot sleep: {0}")]
    System(#[from] io::Error),
}

/// A device of smoltcp that a thread can sleep on.
///
/// [`BusNic`](crate::BusNic) and [`MemifNic`](crate::MemifNic) implement it. A
/// [`Stack`](crate::Stack) calls its methods.
pub trait Nic: Device {
    /// Returns the host's Ethernet address. The address and the capabilities of the device may
    /// change with [`service`](Self::service).
    fn mac(&self) -> EthernetAddress;

    /// Returns whether the device is connected. While it is not, frames wait.
    fn is_up(&self) -> bool;

    /// Does the work that is due besides moving frames, and returns whether the capabilities of the
    /// device have changed. Called in every round of a loop.
    fn service(&mut self) -> bool;

    /// Checks that the device can still be used.
    ///
    /// # Errors
    /// [`Closed`] when its other end is closed for good.
    fn check(&self) -> Result<(), Closed> {
        Ok(())
    }

    /// Returns whether there may be a frame to receive.
    fn poll_rx(&mut self) -> bool;

    /// Sends the frames that the stack has written. Frames that the other end has no room for are
    /// dropped.
    ///
    /// # Errors
    /// When the bus cannot be written at the moment.
    fn flush(&mut self) -> Result<(), SendError>;

    /// Sleeps until there is something to receive or to service, one of `others` polls readable, or
    /// `time` is over.
    ///
    /// It does not sleep when `ready` returns true. `ready` is called when the device is already
    /// armed, so no wake-up is missed after the call. One host can thus sleep for all hosts on a
    /// bus: `ready` polls the others.
    ///
    /// # Errors
    /// When the bus is lost or the system refuses the wait.
    fn sleep(
        &mut self,
        others: &[BorrowedFd<'_>],
        time: Duration,
        ready: &mut dyn FnMut() -> bool,
    ) -> Result<(), SleepError>;
}

/// Waits until one of the descriptors polls readable, a signal arrives, or `time` is over.
pub(crate) fn wait_readable<'f>(
    fds: impl IntoIterator<Item = BorrowedFd<'f>>,
    time: Duration,
) -> io::Result<()> {
    let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match ppoll(&mut fds, Some(time.into()), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
