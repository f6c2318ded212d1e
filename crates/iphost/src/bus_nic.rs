//! The device of a host that is a station on a bus.

use std::iter;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use shmbus::phy::{Bursts, Phy};
use shmbus::{MAX_SLEEP, MacAddr6, SendError, Station, WaitError, WaitSet};
use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use crate::nic::{Closed, Nic};

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

/// The device of a host that is a station on a bus. The [crate's documentation](crate) has an
/// example.
#[derive(Debug)]
pub struct BusNic<A> {
    phy: Phy<A>,
    /// What the attachment's latest service returned.
    serviced: Result<(), Closed>,
    /// The [`Station::sender`] of the station that joined the wait set. An attachment may replace
    /// its station at any time; the next one joins before it first sleeps.
    member: Option<u64>,
}

impl<A: Attachment> BusNic<A> {
    /// Makes a device of a station, or of what holds one.
    #[must_use]
    pub fn new(attachment: A) -> Self {
        Self { phy: Phy::new(attachment), serviced: Ok(()), member: None }
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

    /// Returns the number of the station.
    fn connection(&mut self) -> Option<u64> {
        self.phy.station_mut().station().map(|station| station.sender())
    }

    fn service(&mut self) -> bool {
        self.serviced = self.phy.station_mut().service();
        self.phy.adopt_capabilities()
    }

    fn check(&self) -> Result<(), Closed> {
        self.serviced.clone()
    }

    fn station(&mut self) -> Option<&Station> {
        self.phy.station_mut().station().map(|station| &*station)
    }

    fn poll_rx(&mut self) -> bool {
        self.phy.receive_ahead()
    }

    fn flush(&mut self) -> Result<(), SendError> {
        self.phy.flush()
    }

    fn arm(&mut self, wait_set: &WaitSet, token: usize) -> Result<Duration, WaitError> {
        if self.phy.has_received() {
            return Ok(Duration::ZERO);
        }
        let Some(station) = self.phy.station_mut().station() else {
            self.member = None;
            return Ok(MAX_SLEEP);
        };
        if self.member != Some(station.sender()) {
            station.join_wait_set(wait_set, token);
            self.member = Some(station.sender());
        }
        Ok(if station.arm()? { Duration::ZERO } else { MAX_SLEEP })
    }

    fn disarm(&mut self) {
        if let Some(station) = self.phy.station_mut().station() {
            station.disarm();
        }
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        iter::empty()
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
