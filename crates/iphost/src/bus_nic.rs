//! The device of a host that is a station on a bus.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use shmbus::phy::{Bursts, Phy};
use shmbus::{MAX_SLEEP, MacAddr6, SendError, Station, WaitError};
use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use crate::nic::{Closed, Nic, SleepError, wait_readable};

/// What attaches a host to a bus: a [`Station`], or the owner of a station that joins and leaves.
pub trait Attachment: Bursts {
    /// Returns the host's address on the bus. It may change with [`service`](Self::service).
    fn mac(&self) -> MacAddr6;

    /// Returns the station, or `None` while the host is off the bus.
    fn station(&mut self) -> Option<&mut Station>;

    /// Does the work that is due besides moving frames. Called once a round.
    ///
    /// # Errors
    /// [`Closed`] when the host has left the bus for good.
    fn service(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}

impl Attachment for Station {
    fn mac(&self) -> MacAddr6 {
        Self::mac(self)
    }

    fn station(&mut self) -> Option<&mut Station> {
        Some(self)
    }
}

/// The longest sleep where the bus cannot be watched. A usual limit is 128 inotify instances a
/// user.
const UNWATCHED_SLEEP: Duration = Duration::from_millis(1);

/// The device of a host that is a station on a bus. The [crate's documentation](crate) has an
/// example.
#[derive(Debug)]
pub struct BusNic<A> {
    phy: Phy<A>,
    /// What the attachment's latest service returned.
    serviced: Result<(), Closed>,
}

impl<A: Attachment> BusNic<A> {
    /// Makes a device of a station, or of what holds one.
    #[must_use]
    pub fn new(attachment: A) -> Self {
        Self { phy: Phy::new(attachment), serviced: Ok(()) }
    }
}

impl<A: Attachment> Nic for BusNic<A> {
    fn mac(&self) -> EthernetAddress {
        EthernetAddress(self.phy.station().mac().into_array())
    }

    /// A bus is always connected. An attachment that is off the bus drops frames by itself.
    fn is_up(&self) -> bool {
        true
    }

    fn service(&mut self) -> bool {
        self.serviced = self.phy.station_mut().service();
        self.phy.adopt_capabilities()
    }

    fn check(&self) -> Result<(), Closed> {
        self.serviced.clone()
    }

    fn poll_rx(&mut self) -> bool {
        self.phy.receive_ahead()
    }

    fn flush(&mut self) -> Result<(), SendError> {
        self.phy.flush()
    }

    fn sleep(
        &mut self,
        others: &[BorrowedFd<'_>],
        time: Duration,
        ready: &mut dyn FnMut() -> bool,
    ) -> Result<(), SleepError> {
        if self.phy.has_received() {
            return Ok(());
        }
        let time = time.min(MAX_SLEEP);
        let Some(station) = self.phy.station_mut().station() else {
            return if ready() { Ok(()) } else { Ok(wait_readable(others.iter().copied(), time)?) };
        };
        let slept = match station.arm() {
            Ok(pending) if pending || ready() => Ok(()),
            Ok(_) => wait_readable(others.iter().copied().chain(station.poll_fd()), time),
            Err(WaitError::Watch { .. }) => {
                wait_readable(others.iter().copied(), time.min(UNWATCHED_SLEEP))
            }
            Err(error) => return Err(error.into()),
        };
        station.disarm();
        Ok(slept?)
    }
}

impl<A: Attachment> Device for BusNic<A> {
    type RxToken<'a>
        = <Phy<A> as Device>::RxToken<'a>
    where
        A: 'a;
    type TxToken<'a>
        = <Phy<A> as Device>::TxToken<'a>
    where
        A: 'a;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.phy.receive(now)
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.phy.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.phy.capabilities()
    }
}
