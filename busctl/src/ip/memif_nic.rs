//! A host behind memif, as VPP or DPDK would be.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use memif::phy::Phy;
use shmbus::{SendError, random_mac};
use smoltcp::phy::{Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use super::nic::{Nic, doze};
use crate::port::memif::{Change, Control, MemifSpec, Sockets};

/// The longest sleep: DPDK and libmemif can miss that we asked for a wake-up.
const MAX_SLEEP: Duration = Duration::from_millis(10);

/// Room for a frame on a bus, which is where most links lead.
const MAX_FRAME: usize = shmbus::MAX_FRAME;

/// One memif interface. When its peer goes, it waits for the next, or connects again.
pub(crate) struct MemifNic {
    name: String,
    control: Control,
    mac: EthernetAddress,
    phy: Option<Phy>,
}

impl MemifNic {
    /// Listens, or begins to connect.
    pub(super) fn open(spec: &MemifSpec) -> anyhow::Result<Self> {
        let name = spec.to_string();
        let control = Sockets::start()?.control(spec, &name)?;
        let mac = EthernetAddress(spec.mac.unwrap_or_else(random_mac).into_array());
        Ok(Self { name, control, mac, phy: None })
    }
}

impl Nic for MemifNic {
    fn mac(&self) -> EthernetAddress {
        self.mac
    }

    fn is_up(&self) -> bool {
        self.phy.is_some()
    }

    fn service(&mut self) -> bool {
        while let Some(change) = self.control.next() {
            self.phy = match change {
                Change::Up(link) => Some(Phy::new(link)),
                Change::Down => None,
            };
        }
        false
    }

    /// There may be: its queues are asked by the stack.
    fn look(&mut self) -> bool {
        self.is_up()
    }

    /// A link that is lost is no error: there will be another.
    fn flush(&mut self) -> Result<(), SendError> {
        if let Some(phy) = &mut self.phy
            && let Err(why) = phy.flush()
        {
            // The user is told why when the connection is tended.
            tracing::debug!(port = self.name, %why, "link lost");
            self.phy = None;
        }
        Ok(())
    }

    fn sleep(
        &mut self,
        others: &[BorrowedFd<'_>],
        time: Duration,
        look: &mut dyn FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let Some(phy) = &mut self.phy else {
            return Ok(doze(others.iter().copied().chain([self.control.as_fd()]), time)?);
        };
        if phy.has_received() {
            return Ok(());
        }
        let queues = &mut phy.link_mut().rx;
        let mut there = false;
        for queue in queues.iter_mut() {
            // A link that is down is worth asking: it is found out then.
            there |= queue.arm().unwrap_or(true);
        }
        let done = if there || look() {
            Ok(())
        } else {
            let own = queues.iter().map(|queue| queue.as_fd()).chain([self.control.as_fd()]);
            doze(others.iter().copied().chain(own), time.min(MAX_SLEEP))
        };
        queues.iter_mut().for_each(memif::RxQueue::disarm);
        Ok(done?)
    }
}

impl Device for MemifNic {
    type RxToken<'a> = <Phy as Device>::RxToken<'a>;
    type TxToken<'a> = <Phy as Device>::TxToken<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.phy.as_mut()?.receive(now)
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.phy.as_mut()?.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities
    }
}
