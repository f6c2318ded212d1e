//! A host that is a station on a bus.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use shmbus::phy::{Bursts, Phy};
use shmbus::{MAX_SLEEP, MacAddr6, SendError, Station, WaitError};
use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use super::nic::{Closed, Nic, SleepError, doze};

/// A station on a bus, or what holds a station that comes and goes.
pub trait Attachment: Bursts {
    /// The host's address on the bus. It may change with [`service`](Self::service).
    fn mac(&self) -> MacAddr6;

    /// The station; `None` while the host is off the bus.
    fn station(&mut self) -> Option<&mut Station>;

    /// Does what is due beside moving frames. Called once a round.
    ///
    /// # Errors
    /// [`Closed`] when the host cannot be on a bus any more.
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

/// A nap where the bus cannot be watched: 128 inotify instances for each user is a usual limit.
const NAP: Duration = Duration::from_millis(1);

/// A host's device on a bus.
pub struct BusNic<A> {
    phy: Phy<A>,
    fate: Result<(), Closed>,
}

impl<A: Attachment> BusNic<A> {
    /// Makes a device of a station.
    pub fn new(attachment: A) -> Self {
        Self { phy: Phy::new(attachment), fate: Ok(()) }
    }
}

impl<A: Attachment> Nic for BusNic<A> {
    fn mac(&self) -> EthernetAddress {
        EthernetAddress(self.phy.station().mac().into_array())
    }

    /// A bus is always there; an interface that is down drops frames by itself.
    fn is_up(&self) -> bool {
        true
    }

    fn service(&mut self) -> bool {
        self.fate = self.phy.station_mut().service();
        self.phy.adopt_capabilities()
    }

    fn check(&self) -> Result<(), Closed> {
        self.fate.clone()
    }

    fn look(&mut self) -> bool {
        self.phy.receive_ahead()
    }

    fn flush(&mut self) -> Result<(), SendError> {
        self.phy.flush()
    }

    fn sleep(
        &mut self,
        others: &[BorrowedFd<'_>],
        time: Duration,
        look: &mut dyn FnMut() -> bool,
    ) -> Result<(), SleepError> {
        if self.phy.has_received() {
            return Ok(());
        }
        let time = time.min(MAX_SLEEP);
        let Some(station) = self.phy.station_mut().station() else {
            return if look() { Ok(()) } else { Ok(doze(others.iter().copied(), time)?) };
        };
        let done = match station.arm() {
            Ok(there) if there || look() => Ok(()),
            Ok(_) => doze(others.iter().copied().chain(station.poll_fd()), time),
            Err(WaitError::Watch { .. }) => doze(others.iter().copied(), time.min(NAP)),
            Err(error) => return Err(error.into()),
        };
        station.disarm();
        Ok(done?)
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
