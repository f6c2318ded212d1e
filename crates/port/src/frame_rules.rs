//! VLANs and MTU (`vlan=`, `trunk=`, `mtu=`): a wrapper around any port that says which frames pass
//! between the port and the bus.
//!
//! The station of the port does the work: it changes the tags on the way to and from the ring, so
//! frames are cut into segments and checksums are finished before they get a tag, and everything
//! above the ring, a loop guard included, sees frames as the peer does.

use shmbus::{Station, Vlan};

use crate::forwarding::forward;
use crate::port::Port;

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
    fn wants_service(&self) -> bool {
        self.report.is_some() || self.port.wants_service()
    }

    fn service(&mut self, report: &mut dyn FnMut(&str)) {
        if let Some(line) = self.report.take() {
            report(&line);
        }
        self.port.service(report);
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

    forward! {
        name is_up link_state refusals closed ingress egress put put_burst take dropped rx_mode arm disarm
        max_sleep first_poll due impair_handle remotes peer_details descriptors
    }
}
