//! A host that is a station on a bus.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use shmbus::offload::Capabilities;
use shmbus::phy::{Bursts, OutFrames, Phy};
use shmbus::{Burst, MAX_SLEEP, SendError, WaitError};
use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use super::nic::{Nic, doze};
use crate::bus_attachment::BusAttachment;
use crate::registry::runner::Destroyed;
use crate::removal::{self, Removal};

impl Bursts for BusAttachment {
    fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        Self::recv_burst(self, burst)
    }

    fn send_burst(&mut self, frames: OutFrames<'_>) -> Result<usize, SendError> {
        self.send_offload_burst(frames)
    }

    fn capabilities(&self) -> Capabilities {
        Self::capabilities(self)
    }

    fn count_bad_checksum(&mut self) {
        if let Some(interface) = self.interface() {
            interface.count_bad_checksum();
        }
    }
}

/// A nap where the bus cannot be watched: 128 inotify instances for each user is a usual limit.
const NAP: Duration = Duration::from_millis(1);

/// A station on a bus.
pub(crate) struct BusNic {
    phy: Phy<BusAttachment>,
    removal: Removal,
    fate: Result<(), Destroyed>,
}

impl BusNic {
    pub(super) fn new(station: BusAttachment) -> Self {
        Self { phy: Phy::new(station), removal: Removal::new(), fate: Ok(()) }
    }
}

impl Nic for BusNic {
    fn mac(&self) -> EthernetAddress {
        EthernetAddress(self.phy.station().mac().into_array())
    }

    /// A bus is always there; an interface that is down drops frames by itself.
    fn is_up(&self) -> bool {
        true
    }

    fn service(&mut self) -> bool {
        let station = self.phy.station_mut();
        self.fate = station.follow();
        if self.removal.is_due(std::time::Instant::now())
            && let Some(interface) = station.interface()
        {
            removal::tell(interface.bus());
        }
        self.phy.adopt_capabilities()
    }

    fn check(&self) -> Result<(), Destroyed> {
        self.fate
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
    ) -> anyhow::Result<()> {
        if self.phy.has_received() {
            return Ok(());
        }
        let time = time.min(MAX_SLEEP);
        let Some(interface) = self.phy.station_mut().interface() else {
            return if look() { Ok(()) } else { Ok(doze(others.iter().copied(), time)?) };
        };
        let done = match interface.arm() {
            Ok(there) if there || look() => Ok(()),
            Ok(_) => doze(others.iter().copied().chain(interface.poll_fd()), time),
            Err(WaitError::Watch { .. }) => doze(others.iter().copied(), time.min(NAP)),
            Err(error) => return Err(error.into()),
        };
        interface.disarm();
        Ok(done?)
    }
}

impl Device for BusNic {
    type RxToken<'a> = <Phy<BusAttachment> as Device>::RxToken<'a>;
    type TxToken<'a> = <Phy<BusAttachment> as Device>::TxToken<'a>;

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
