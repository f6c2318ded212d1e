//! The device of a host behind memif, where VPP or DPDK would be.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use memif::Link;
use memif::phy::Phy;
use shmbus::{MAX_SLEEP, MacAddr6, SendError, WaitError, WaitSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::EthernetAddress;

use crate::nic::Nic;

/// How long after the queues were armed the host looks once more: DPDK and libmemif can miss the
/// request for a wake-up when they publish just then. It is far longer than their stores take to
/// arrive, so what comes later finds the request.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// The longest frame that the stack sends, in bytes: as on a bus, which is where most links lead.
const MAX_FRAME: usize = shmbus::MAX_FRAME;

/// A change of a memif interface's link.
#[derive(Debug)]
pub enum LinkChange {
    /// A peer has connected.
    Up(Link),
    /// The peer has disconnected.
    Down,
}

/// The source of a memif interface's links. Its descriptor polls readable when there is a change.
pub trait LinkSource: AsFd {
    /// Returns the next change, if there is one.
    fn next_change(&mut self) -> Option<LinkChange>;
}

/// The device of a host behind one memif interface. When its peer disconnects, it waits for the
/// next.
pub struct MemifNic<S> {
    links: S,
    mac: EthernetAddress,
    phy: Option<Phy>,
    /// Since when the queues of the link are armed.
    armed_since: Option<Instant>,
    /// Peers that have connected so far.
    connections: u64,
}

impl<S: LinkSource> MemifNic<S> {
    /// Makes a device with the Ethernet address `mac`. Its links come from `links`.
    #[must_use]
    pub fn new(links: S, mac: MacAddr6) -> Self {
        Self {
            links,
            mac: EthernetAddress(mac.into_array()),
            phy: None,
            armed_since: None,
            connections: 0,
        }
    }
}

impl<S: LinkSource> Nic for MemifNic<S> {
    fn mac(&self) -> EthernetAddress {
        self.mac
    }

    fn is_up(&self) -> bool {
        self.phy.is_some()
    }

    /// Returns the number of the peer, in the order in which they connected.
    fn connection(&mut self) -> Option<u64> {
        self.phy.is_some().then_some(self.connections)
    }

    fn service(&mut self) -> bool {
        while let Some(change) = self.links.next_change() {
            self.armed_since = None;
            self.phy = match change {
                LinkChange::Up(link) => {
                    self.connections += 1;
                    Some(Phy::new(link))
                }
                LinkChange::Down => None,
            };
        }
        false
    }

    fn poll_rx(&mut self) -> bool {
        self.phy.as_mut().is_some_and(Phy::receive_ahead)
    }

    /// A lost link is not an error, since the next may follow.
    fn flush(&mut self) -> Result<(), SendError> {
        if let Some(phy) = &mut self.phy
            && let Err(why) = phy.flush()
        {
            // The source of links reports the reason to the user.
            tracing::debug!(%why, "link lost");
            self.phy = None;
        }
        Ok(())
    }

    fn arm(&mut self, _: &WaitSet, _: usize) -> Result<Duration, WaitError> {
        // Without a peer, the links' descriptor alone wakes the host.
        let Some(phy) = &mut self.phy else { return Ok(MAX_SLEEP) };
        if phy.has_received() {
            return Ok(Duration::ZERO);
        }
        let mut pending = false;
        for queue in &mut phy.link_mut().rx {
            // A link that is down counts as pending: receiving from it detects that.
            pending |= queue.arm().unwrap_or(true);
        }
        if pending {
            self.disarm();
            return Ok(Duration::ZERO);
        }
        let now = Instant::now();
        let armed_since = *self.armed_since.get_or_insert(now);
        // A host that slept until it was due is armed again without having been disarmed.
        let left = FIRST_LOOK.saturating_sub(now.saturating_duration_since(armed_since));
        Ok(if left.is_zero() { MAX_SLEEP } else { left })
    }

    fn disarm(&mut self) {
        self.armed_since = None;
        if let Some(phy) = &mut self.phy {
            phy.link_mut().rx.iter_mut().for_each(memif::RxQueue::disarm);
        }
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let queues = self.phy.iter().flat_map(|phy| &phy.link().rx);
        queues.map(AsFd::as_fd).chain([self.links.as_fd()])
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

    fn receive(&mut self, now: StackInstant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.phy.as_mut()?.receive(now)
    }

    fn transmit(&mut self, now: StackInstant) -> Option<Self::TxToken<'_>> {
        self.phy.as_mut()?.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities
    }
}
