//! The network device of a host.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use shmbus::{SendError, Station, WaitError, WaitSet};
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
/// [`Stack`](crate::Stack) moves its frames, and a [`HostSet`](crate::HostSet) sleeps on it.
pub trait Nic: Device {
    /// Returns the host's Ethernet address. The address and the capabilities of the device may
    /// change with [`service`](Self::service).
    fn mac(&self) -> EthernetAddress;

    /// Returns whether the device is connected. While it is not, frames wait.
    fn is_up(&self) -> bool;

    /// Returns a number for what the device is connected to, and `None` while it is connected to
    /// nothing. Another number means another network, or a device that has been away: the host
    /// announces its addresses again, and forgets the hosts that it knew.
    fn connection(&mut self) -> Option<u64>;

    /// Returns the far end of the device, at most one address of each family, where that is the way to
    /// all other hosts. Without one, as on a bus, others are on the networks of the host's addresses,
    /// and behind routers.
    fn far_end(&self) -> Vec<IpAddr> {
        Vec::new()
    }

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

    /// Returns the station on a bus that the device is at this moment; `None` for other devices.
    fn station(&mut self) -> Option<&Station> {
        None
    }

    /// Returns whether there is a frame for the stack, or an error of the device that a round
    /// finds.
    fn poll_rx(&mut self) -> bool;

    /// Sends the frames that the stack has written. Frames that the other end has no room for are
    /// dropped.
    ///
    /// # Errors
    /// When the bus cannot be written at the moment.
    fn flush(&mut self) -> Result<(), SendError>;

    /// Prepares for a sleep, and returns how long it may last at most. Zero means that something has
    /// come already, wanted or not: [`poll_rx`](Self::poll_rx) again; the device is not armed.
    ///
    /// A device on a bus sleeps in `wait_set` under the name `token`; give it the same set and the
    /// same token each time. Any other sleeps on its [`descriptors`](Self::descriptors). After the
    /// sleep call [`disarm`](Self::disarm).
    ///
    /// # Errors
    /// When the bus is lost.
    fn arm(&mut self, wait_set: &WaitSet, token: usize) -> Result<Duration, WaitError>;

    /// Ends a sleep. Nothing happens when the device is not armed.
    fn disarm(&mut self);

    /// Returns the descriptors of which one polls readable when the armed device has something to
    /// receive or to service. There are none when the wait set alone wakes it.
    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>>;
}
