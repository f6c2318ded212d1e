//! The syntax of a port: kind, colon, `key=value` pairs.

use std::str::FromStr;

use shmbus::MacAddr6;

use crate::bus::BusSpec;
use crate::error::{PORT_KINDS, ParsePortError};
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::memif::MemifSpec;
use crate::pcap::{PcapSpec, Place};
use crate::socket::SocketSpec;
use crate::suggest;
use crate::tap::TapSpec;
use crate::trunk::TrunkSpec;
use crate::vxlan::VxlanSpec;

/// A port as it is written on a command line: a kind, a colon, and `key=value` pairs separated by
/// commas.
///
/// ```
/// let port: port::PortSpec = "tap:name=tap0,mac=02:00:00:00:00:07".parse()?;
/// assert!(port.mac().is_some());
/// let error = "tap:nmae=tap0".parse::<port::PortSpec>().unwrap_err();
/// assert_eq!(error.to_string(), "a tap port has no key 'nmae' (did you mean 'name'?)");
/// # Ok::<(), port::ParsePortError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PortSpec(pub(crate) KindSpec);

/// The kind of a port, with its own settings.
#[derive(Clone, Debug)]
pub(crate) enum KindSpec {
    /// `memif:role=server,id=0,socket=PATH,...`
    Memif(MemifSpec),
    /// `tap:name=tap0,...`
    Tap(TapSpec),
    /// `pcap:in=FILE,out=FILE,...`
    Pcap(PcapSpec),
    /// `bus:PATH`
    Bus(BusSpec),
    /// `socket:path=PATH,framing=qemu,...`
    Socket(SocketSpec),
    /// `vxlan:vni=42,local=ADDRESS,peers=ADDRESS,...`
    Vxlan(VxlanSpec),
    /// `trunk:NAME,connect=tcp/HOST:7447,...`
    Trunk(TrunkSpec),
}

impl PortSpec {
    /// Returns the address its station should have; `None`: a random one.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddr6> {
        match &self.0 {
            KindSpec::Memif(spec) => spec.mac,
            KindSpec::Tap(spec) => spec.mac,
            KindSpec::Socket(spec) => spec.mac,
            KindSpec::Vxlan(spec) => spec.mac,
            KindSpec::Trunk(spec) => spec.mac,
            KindSpec::Pcap(_) | KindSpec::Bus(_) => None,
        }
    }

    /// Returns whether its peer receives only what it needs, as from a switch, or everything, as
    /// from a hub.
    pub(crate) fn learns(&self) -> bool {
        match &self.0 {
            KindSpec::Memif(spec) => spec.learn,
            KindSpec::Tap(spec) => spec.learn,
            KindSpec::Pcap(spec) => spec.learn,
            KindSpec::Bus(spec) => spec.learn,
            KindSpec::Socket(spec) => spec.learn,
            KindSpec::Vxlan(spec) => spec.learn,
            KindSpec::Trunk(spec) => spec.learn,
        }
    }

    /// Returns which frames pass between it and the bus.
    pub(crate) fn rules(&self) -> &FrameRules {
        match &self.0 {
            KindSpec::Memif(spec) => &spec.rules,
            KindSpec::Tap(spec) => &spec.rules,
            KindSpec::Pcap(spec) => &spec.rules,
            KindSpec::Bus(spec) => &spec.rules,
            KindSpec::Socket(spec) => &spec.rules,
            KindSpec::Vxlan(spec) => &spec.rules,
            KindSpec::Trunk(spec) => &spec.rules,
        }
    }

    /// Returns what its link does to frames on purpose.
    #[must_use]
    pub fn impairments(&self) -> &Impairments {
        match &self.0 {
            KindSpec::Memif(spec) => &spec.impairments,
            KindSpec::Tap(spec) => &spec.impairments,
            KindSpec::Pcap(spec) => &spec.impairments,
            KindSpec::Bus(spec) => &spec.impairments,
            KindSpec::Socket(spec) => &spec.impairments,
            KindSpec::Vxlan(spec) => &spec.impairments,
            KindSpec::Trunk(spec) => &spec.impairments,
        }
    }

    /// Returns whether its peer may lead to other ports, and so back to the bus.
    #[must_use]
    pub fn joins(&self) -> bool {
        match &self.0 {
            KindSpec::Memif(spec) => spec.joins(),
            KindSpec::Tap(_)
            | KindSpec::Bus(_)
            | KindSpec::Socket(_)
            | KindSpec::Vxlan(_)
            | KindSpec::Trunk(_) => true,
            KindSpec::Pcap(_) => false,
        }
    }

    /// Returns whether it writes to stdout. Nothing else may write there then.
    #[must_use]
    pub fn takes_stdout(&self) -> bool {
        match &self.0 {
            KindSpec::Pcap(spec) => spec.output == Some(Place::Standard),
            KindSpec::Socket(spec) => spec.takes_stdout(),
            KindSpec::Memif(_)
            | KindSpec::Tap(_)
            | KindSpec::Bus(_)
            | KindSpec::Vxlan(_)
            | KindSpec::Trunk(_) => false,
        }
    }

    /// Returns whether it reads stdin.
    #[must_use]
    pub fn takes_stdin(&self) -> bool {
        match &self.0 {
            KindSpec::Pcap(spec) => spec.input == Some(Place::Standard),
            KindSpec::Socket(spec) => spec.takes_stdin(),
            KindSpec::Memif(_)
            | KindSpec::Tap(_)
            | KindSpec::Bus(_)
            | KindSpec::Vxlan(_)
            | KindSpec::Trunk(_) => false,
        }
    }
}

impl FromStr for PortSpec {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let (kind, keys) = text.split_once(':').ok_or(ParsePortError::NoKind)?;
        let spec = match kind {
            "memif" => KindSpec::Memif(keys.parse()?),
            "tap" => KindSpec::Tap(keys.parse()?),
            "pcap" => KindSpec::Pcap(keys.parse()?),
            "bus" => KindSpec::Bus(keys.parse()?),
            "socket" => KindSpec::Socket(keys.parse()?),
            "vxlan" => KindSpec::Vxlan(keys.parse()?),
            "trunk" => KindSpec::Trunk(keys.parse()?),
            _ => {
                let hint = suggest::hint(kind, PORT_KINDS);
                return Err(ParsePortError::Kind { kind: kind.to_owned(), hint });
            }
        };
        if let KindSpec::Memif(memif) = &spec {
            memif.check_port()?;
        }
        let spec = Self(spec);
        spec.impairments().check()?;
        Ok(spec)
    }
}
