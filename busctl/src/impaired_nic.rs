//! The interface of a host whose link misbehaves on purpose (`host --impair`).

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use iphost::{Closed, Nic};
use port::{ImpairHandle, ImpairedLink, Impairments};
use shmbus::{SendError, Station, WaitError, WaitSet};
use smoltcp::phy::{Device, DeviceCapabilities, RxToken as _, TxToken as _};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::EthernetAddress;

/// How many frames are taken from the interface in a round.
const BURST: usize = 256;

/// An interface around an interface. Frames from the host (`in.`) and to it (`out.`) wait here until
/// they are due.
#[derive(Debug)]
pub(crate) struct ImpairedNic<N> {
    nic: N,
    link: ImpairedLink,
    /// The frame that the host receives.
    received: Vec<u8>,
    /// The time of the latest round, as the stack counts it.
    now: StackTime,
}

impl<N: Nic> ImpairedNic<N> {
    /// Wraps `nic`. There are some `impairments`: without any, no frame would pass.
    pub(crate) fn new(nic: N, impairments: Impairments) -> Self {
        let mut link = ImpairedLink::new(ImpairHandle::new(impairments));
        link.follow();
        Self { nic, link, received: Vec::new(), now: StackTime::ZERO }
    }

    /// Returns when the next frame is due.
    fn due(&self) -> Option<Instant> {
        self.link.next_due().into_iter().flatten().min()
    }
}

impl<N: Nic> Nic for ImpairedNic<N> {
    fn mac(&self) -> EthernetAddress {
        self.nic.mac()
    }

    fn is_up(&self) -> bool {
        self.nic.is_up()
    }

    fn connection(&mut self) -> Option<u64> {
        self.nic.connection()
    }

    fn service(&mut self) -> bool {
        self.nic.service()
    }

    fn check(&self) -> Result<(), Closed> {
        self.nic.check()
    }

    fn station(&mut self) -> Option<&Station> {
        self.nic.station()
    }

    fn poll_rx(&mut self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now()) || self.nic.poll_rx()
    }

    /// Sends what is due. What the interface has no room for is lost, as without impairments.
    fn flush(&mut self) -> Result<(), SendError> {
        let now = Instant::now();
        let mut lane = self.link.ingress();
        let mut count = 0;
        for frame in lane.due(now) {
            if let Some(token) = self.nic.transmit(self.now) {
                token.consume(frame.len(), |room| room.copy_from_slice(frame));
            }
            count += 1;
        }
        lane.remove(count);
        self.nic.flush()
    }

    fn arm(&mut self, wait_set: &WaitSet, token: usize) -> Result<Duration, WaitError> {
        let left = self.due().map(|due| due.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Duration::ZERO);
        }
        let longest = self.nic.arm(wait_set, token)?;
        Ok(left.map_or(longest, |left| left.min(longest)))
    }

    fn disarm(&mut self) {
        self.nic.disarm();
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.nic.descriptors()
    }
}

impl<N: Nic> Device for ImpairedNic<N> {
    type RxToken<'a>
        = RxToken<'a>
    where
        N: 'a;
    type TxToken<'a>
        = TxToken<'a>
    where
        N: 'a;

    fn receive(&mut self, now: StackTime) -> Option<(RxToken<'_>, TxToken<'_>)> {
        self.now = now;
        let begin = Instant::now();
        let mut lane = self.link.egress();
        for _ in 0..BURST {
            let Some((token, _answer)) = self.nic.receive(now) else { break };
            token.consume(|frame| lane.offer(frame, begin));
        }
        self.received.clear();
        self.received.extend_from_slice(lane.due(begin).next()?);
        lane.remove(1);
        Some((RxToken(&self.received), TxToken(&mut self.link)))
    }

    fn transmit(&mut self, now: StackTime) -> Option<TxToken<'_>> {
        self.now = now;
        Some(TxToken(&mut self.link))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.nic.capabilities()
    }
}

/// A frame that the host receives.
pub(crate) struct RxToken<'a>(&'a [u8]);

impl smoltcp::phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame that the host sends.
pub(crate) struct TxToken<'a>(&'a mut ImpairedLink);

impl smoltcp::phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.ingress().offer(&frame, Instant::now());
        result
    }
}
