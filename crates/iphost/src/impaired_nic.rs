//! A device around a device, whose link misbehaves on purpose.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use port::{ImpairHandle, ImpairedLink};
use shmbus::{SendError, Station, WaitError, WaitSet};
use smoltcp::phy::{Device, DeviceCapabilities, PacketMeta, RxToken as _, TxToken as _};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::EthernetAddress;

use crate::nic::{Closed, Nic};

/// How many frames are taken from the device in a round.
const BURST: usize = 256;

/// A device around a device. Frames from the host (`in.`) and to it (`out.`) wait here until they
/// are due; a direction without impairments passes them on as they are.
///
/// The impairments are those of an [`ImpairHandle`], which changes them from any thread while the
/// host runs.
#[derive(Debug)]
pub struct ImpairedNic<N> {
    nic: N,
    link: ImpairedLink,
    /// The frame that the host receives.
    received: Vec<u8>,
    /// The time of the latest round, as the stack counts it.
    now: StackTime,
}

impl<N: Nic> ImpairedNic<N> {
    /// Wraps `nic`. Its impairments are those of `handle`.
    #[must_use]
    pub fn new(nic: N, handle: ImpairHandle) -> Self {
        let mut link = ImpairedLink::new(handle);
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

    fn far_end(&self) -> Vec<IpAddr> {
        self.nic.far_end()
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

    /// Sends what is due. What the device has no room for is lost, as without impairments.
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
            self.nic.disarm();
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
        = RxToken<'a, N::RxToken<'a>>
    where
        N: 'a;
    type TxToken<'a>
        = TxToken<'a, N::TxToken<'a>>
    where
        N: 'a;

    fn receive(&mut self, now: StackTime) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.now = now;
        self.link.follow();
        if self.link.egress().is_idle() {
            let (received, answer) = self.nic.receive(now)?;
            let answer = if self.link.ingress().is_idle() {
                TxToken::AsItIs(answer)
            } else {
                TxToken::Impaired(&mut self.link)
            };
            return Some((RxToken::AsItIs(received), answer));
        }
        let begin = Instant::now();
        let mut lane = self.link.egress();
        for _ in 0..BURST {
            let Some((token, _answer)) = self.nic.receive(now) else { break };
            token.consume(|frame| lane.offer(frame, begin));
        }
        self.received.clear();
        self.received.extend_from_slice(lane.due(begin).next()?);
        lane.remove(1);
        let Self { nic, link, received, .. } = self;
        let answer = if link.ingress().is_idle() {
            TxToken::AsItIs(nic.transmit(now)?)
        } else {
            TxToken::Impaired(link)
        };
        Some((RxToken::Waited(received), answer))
    }

    fn transmit(&mut self, now: StackTime) -> Option<Self::TxToken<'_>> {
        self.now = now;
        self.link.follow();
        if self.link.ingress().is_idle() {
            return Some(TxToken::AsItIs(self.nic.transmit(now)?));
        }
        Some(TxToken::Impaired(&mut self.link))
    }

    /// The stack cuts TCP by itself: what happens to a frame happens to each segment alone.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = self.nic.capabilities();
        capabilities.segmentation.tcpv4 = None;
        capabilities
    }
}

/// A frame that the host receives.
#[derive(Debug)]
pub enum RxToken<'a, T> {
    /// The device's own.
    AsItIs(T),
    /// One that has waited.
    Waited(&'a [u8]),
}

impl<T: smoltcp::phy::RxToken> smoltcp::phy::RxToken for RxToken<'_, T> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        match self {
            Self::AsItIs(token) => token.consume(f),
            Self::Waited(frame) => f(frame),
        }
    }
}

/// Room for a frame that the host sends.
#[derive(Debug)]
pub enum TxToken<'a, T> {
    /// The device's own.
    AsItIs(T),
    /// That of a frame whose fate is decided first.
    Impaired(&'a mut ImpairedLink),
}

impl<T: smoltcp::phy::TxToken> smoltcp::phy::TxToken for TxToken<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        match self {
            Self::AsItIs(token) => token.consume(len, f),
            Self::Impaired(link) => {
                let mut frame = vec![0; len];
                let result = f(&mut frame);
                link.ingress().offer(&frame, Instant::now());
                result
            }
        }
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        if let Self::AsItIs(token) = self {
            token.set_meta(meta);
        }
    }
}
