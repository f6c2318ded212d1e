//! The device of a host behind memif, where VPP or DPDK would be.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use memif::Link;
use memif::phy::{self, Phy};
use shmbus::{MAX_SLEEP, MacAddr6, SendError, WaitError, WaitSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::EthernetAddress;

use crate::ip_link::{Inbound, IpLink, Outbound};
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
    /// In IP mode: what makes it an Ethernet for the host.
    ip: Option<IpLink>,
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
            ip: None,
            phy: None,
            armed_since: None,
            connections: 0,
        }
    }

    /// Makes a device whose links are in IP mode ([`memif::Mode::Ip`]): the peer is the way to all
    /// other hosts.
    #[must_use]
    pub fn with_ip_mode(self) -> Self {
        Self { ip: Some(IpLink::new(self.mac)), ..self }
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

    fn far_end(&self) -> Vec<IpAddr> {
        self.ip.as_ref().map(IpLink::far_end).unwrap_or_default()
    }

    fn service(&mut self) -> bool {
        while let Some(change) = self.links.next_change() {
            self.armed_since = None;
            if let Some(ip) = &mut self.ip {
                ip.clear();
            }
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
        let Some(phy) = &mut self.phy else { return false };
        self.ip.as_ref().is_some_and(IpLink::has_answers) || phy.receive_ahead()
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
        if phy.has_received() || self.ip.as_ref().is_some_and(IpLink::has_answers) {
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
        = MemifRx<'a>
    where
        S: 'a;
    type TxToken<'a>
        = MemifTx<'a>
    where
        S: 'a;

    fn receive(&mut self, now: StackInstant) -> Option<(MemifRx<'_>, MemifTx<'_>)> {
        let phy = self.phy.as_mut()?;
        let Some(ip) = &mut self.ip else {
            let (rx, tx) = phy.receive(now)?;
            return Some((MemifRx(Received::Frame(rx)), MemifTx { tx, ip: None }));
        };
        if let Some(answer) = ip.next_answer() {
            let tx = MemifTx { tx: phy.transmit(now)?, ip: Some(ip.outbound()) };
            return Some((MemifRx(Received::Answer(answer)), tx));
        }
        let (rx, tx) = phy.receive(now)?;
        let (inbound, outbound) = ip.split();
        Some((MemifRx(Received::Packet(rx, inbound)), MemifTx { tx, ip: Some(outbound) }))
    }

    fn transmit(&mut self, now: StackInstant) -> Option<MemifTx<'_>> {
        let tx = self.phy.as_mut()?.transmit(now)?;
        Some(MemifTx { tx, ip: self.ip.as_mut().map(IpLink::outbound) })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities
    }
}

/// A frame for the stack.
#[derive(Debug)]
pub struct MemifRx<'a>(Received<'a>);

#[derive(Debug)]
enum Received<'a> {
    /// The peer has sent it.
    Frame(phy::RxToken<'a>),
    /// The peer has sent a packet, which gets a header.
    Packet(phy::RxToken<'a>, Inbound<'a>),
    /// It answers a question of the stack.
    Answer(Vec<u8>),
}

impl RxToken for MemifRx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        match self.0 {
            Received::Frame(rx) => rx.consume(read),
            Received::Packet(rx, inbound) => rx.consume(|packet| read(inbound.frame(packet))),
            Received::Answer(frame) => read(&frame),
        }
    }
}

/// Room for a frame of the stack.
#[derive(Debug)]
pub struct MemifTx<'a> {
    tx: phy::TxToken<'a>,
    /// In IP mode: what takes the header off.
    ip: Option<&'a mut Outbound>,
}

impl TxToken for MemifTx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let Self { tx, ip } = self;
        let Some(outbound) = ip else { return tx.consume(len, write) };
        outbound.write(len, write, |packet| {
            tx.consume(packet.len(), |room| room.copy_from_slice(packet));
        })
    }
}
