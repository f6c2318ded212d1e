//! A host behind memif, as VPP or DPDK would be.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use memif::Link;
use memif::phy::Phy;
use shmbus::{MacAddr6, SendError};
use smoltcp::phy::{Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use super::nic::{Nic, SleepError, doze};

/// The longest sleep: DPDK and libmemif can miss that we asked for a wake-up.
const MAX_SLEEP: Duration = Duration::from_millis(10);

/// Room for a frame on a bus, which is where most links lead.
const MAX_FRAME: usize = shmbus::MAX_FRAME;

/// What became of a link.
#[derive(Debug)]
pub enum LinkChange {
    /// There is a peer.
    Up(Link),
    /// The peer is gone.
    Down,
}

/// Where the links of a memif interface come from. Its descriptor polls readable when there is a change.
pub trait LinkSource: AsFd {
    /// Returns the next change, if there is one.
    fn next_change(&mut self) -> Option<LinkChange>;
}

/// A host's device on one memif interface. When its peer goes, it waits for the next.
pub struct MemifNic<S> {
    links: S,
    mac: EthernetAddress,
    phy: Option<Phy>,
}

impl<S: LinkSource> MemifNic<S> {
    /// Makes a device with the address `mac` of the links that come from `links`.
    pub fn new(links: S, mac: MacAddr6) -> Self {
        Self { links, mac: EthernetAddress(mac.into_array()), phy: None }
    }
}

impl<S: LinkSource> Nic for MemifNic<S> {
    fn mac(&self) -> EthernetAddress {
        self.mac
    }

    fn is_up(&self) -> bool {
        self.phy.is_some()
    }

    fn service(&mut self) -> bool {
        while let Some(change) = self.links.next_change() {
            self.phy = match change {
                LinkChange::Up(link) => Some(Phy::new(link)),
                LinkChange::Down => None,
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
            // The link's source reports why to the user.
            tracing::debug!(%why, "link lost");
            self.phy = None;
        }
        Ok(())
    }

    fn sleep(
        &mut self,
        others: &[BorrowedFd<'_>],
        time: Duration,
        look: &mut dyn FnMut() -> bool,
    ) -> Result<(), SleepError> {
        let Some(phy) = &mut self.phy else {
            return Ok(doze(others.iter().copied().chain([self.links.as_fd()]), time)?);
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
            let own = queues.iter().map(|queue| queue.as_fd()).chain([self.links.as_fd()]);
            doze(others.iter().copied().chain(own), time.min(MAX_SLEEP))
        };
        queues.iter_mut().for_each(memif::RxQueue::disarm);
        Ok(done?)
    }
}

impl<S: LinkSource> Device for MemifNic<S> {
    type RxToken<'a>
        = <Phy as Device>::RxToken<'a>
    where
        S: 'a;
    type TxToken<'a>
        = <Phy as Device>::TxToken<'a>
    where
        S: 'a;

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
