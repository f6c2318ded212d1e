//! VLANs and MTU (`vlan=`, `trunk=`, `mtu=`): a wrapper around any port that says which frames pass
//! between the port and the bus.
//!
//! The station of the port does the work: it changes the tags on the way to and from the ring, so
//! frames are cut into segments and checksums are finished before they get a tag, and everything
//! above the ring, a loop guard included, sees frames as the peer does.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use memif::RxMode;
use shmbus::offload::TxRequest;
use shmbus::{Station, Vlan};

use crate::port::{LinkState, Moved, NotSent, Port};

/// Which frames pass between a port and its bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameRules {
    /// The largest payload of a frame in bytes; `None`: what the bus carries.
    pub mtu: Option<usize>,
    /// The VLAN of the peer, if it has one.
    pub vlan: Option<Vlan>,
}

impl FrameRules {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A port around a port that keeps to some [`FrameRules`].
///
/// The wrapper puts each station that the port is [attached](Port::attach) to into the VLAN and
/// lowers its MTU, and forwards everything else.
#[derive(Debug)]
pub struct Ruled<P> {
    port: P,
    rules: FrameRules,
    /// What the next service reports.
    report: Option<String>,
}

impl<P: Port> Ruled<P> {
    /// Wraps `port`.
    #[must_use]
    pub fn new(port: P, rules: FrameRules) -> Self {
        Self { port, rules, report: None }
    }
}

impl<P: Port> Port for Ruled<P> {
    fn name(&self) -> &str {
        self.port.name()
    }

    fn is_up(&self) -> bool {
        self.port.is_up()
    }

    fn link_state(&self) -> LinkState {
        self.port.link_state()
    }

    fn wants_service(&self) -> bool {
        self.report.is_some() || self.port.wants_service()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        if let Some(line) = self.report.take() {
            report(&line);
        }
        self.port.service(report);
    }

    fn closed(&self) -> Option<String> {
        self.port.closed()
    }

    /// The rules come first: a port asks its station for the longest frame.
    fn attach(&mut self, station: &mut Station) {
        station.set_vlan(self.rules.vlan.clone());
        if let Some(mtu) = self.rules.mtu
            && !station.set_mtu(mtu)
        {
            self.report = Some(format!(
                "{}: mtu={mtu} is more than the {} that {} carries, which is used instead",
                self.port.name(),
                station.mtu(),
                station.bus().path().display()
            ));
        }
        self.port.attach(station);
    }

    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        self.port.ingress(station)
    }

    fn egress(&mut self, station: &mut Station) -> Moved {
        self.port.egress(station)
    }

    fn put(&mut self, frame: &[u8]) -> bool {
        self.port.put(frame)
    }

    fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        self.port.take(frame)
    }

    fn rx_mode(&self) -> RxMode {
        self.port.rx_mode()
    }

    fn arm(&mut self) -> bool {
        self.port.arm()
    }

    fn disarm(&mut self) {
        self.port.disarm();
    }

    fn max_sleep(&self) -> Duration {
        self.port.max_sleep()
    }

    fn first_poll(&self) -> Duration {
        self.port.first_poll()
    }

    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        self.port.descriptors(watch);
    }
}
