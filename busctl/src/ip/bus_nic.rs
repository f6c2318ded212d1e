//! A host that is a station on a bus.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use anyhow::Context as _;
use shmbus::offload::Capabilities;
use shmbus::phy::{Bursts, OutFrame, Phy};
use shmbus::{Burst, SLEEP_BOUND, SendError};
use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use super::nic::{Nic, doze};
use crate::station::Station;

impl Bursts for Station {
    fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        Self::recv_burst(self, burst)
    }

    fn send_burst(&mut self, frames: &[OutFrame]) -> Result<(), SendError> {
        Self::send_burst(self, frames)
    }

    fn capabilities(&self) -> Capabilities {
        Self::capabilities(self)
    }
}

/// A station on a bus.
pub(crate) struct BusNic(Phy<Station>);

impl BusNic {
    pub(super) fn new(station: Station) -> Self {
        Self(Phy::new(station))
    }
}

impl Nic for BusNic {
    fn mac(&self) -> EthernetAddress {
        EthernetAddress(self.0.station().mac().into_array())
    }

    /// A bus is always there; an interface that is down drops frames by itself.
    fn is_up(&self) -> bool {
        true
    }

    fn tend(&mut self) {
        self.0.station_mut().follow();
    }

    fn flush(&mut self) -> Result<(), SendError> {
        self.0.flush()
    }

    fn sleep(&mut self, others: &[BorrowedFd<'_>], time: Duration) -> anyhow::Result<()> {
        if self.0.has_received() {
            return Ok(());
        }
        let time = time.min(SLEEP_BOUND);
        let Some(interface) = self.0.station_mut().interface() else {
            return Ok(doze(others.iter().copied(), time)?);
        };
        let done = if interface.arm()? {
            Ok(())
        } else {
            let own = interface.poll_fd().context("an armed station has a descriptor")?;
            doze(others.iter().copied().chain([own]), time)
        };
        interface.disarm();
        Ok(done?)
    }
}

impl Device for BusNic {
    type RxToken<'a> = <Phy<Station> as Device>::RxToken<'a>;
    type TxToken<'a> = <Phy<Station> as Device>::TxToken<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.0.receive(now)
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.0.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.0.capabilities()
    }
}
