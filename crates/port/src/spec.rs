//! The syntax of a port: kind, colon, `key=value` pairs.

use std::str::FromStr;

use shmbus::MacAddr6;

use crate::bus::BusSpec;
use crate::error::{KINDS, ParsePortError};
use crate::memif::MemifSpec;
use crate::pcap::{PcapSpec, Place};
use crate::suggest;
use crate::tap::TapSpec;

/// A port as it is written on a command line: a kind, a colon, and `key=value` pairs separated by commas.
///
/// ```
/// let port: port::PortSpec = "tap:name=tap0,learn=on".parse()?;
/// assert!("tap:nmae=tap0".parse::<port::PortSpec>().is_err_and(|error| error.to_string().contains("'name'")));
/// # Ok::<(), port::ParsePortError>(())
/// ```
#[derive(Clone, Debug)]
pub enum PortSpec {
    /// `memif:role=server,id=0,socket=PATH,...`
    Memif(MemifSpec),
    /// `tap:name=tap0,...`
    Tap(TapSpec),
    /// `pcap:in=FILE,out=FILE,...`
    Pcap(PcapSpec),
    /// `bus:PATH`
    Bus(BusSpec),
}

impl PortSpec {
    /// Returns the address its station should have; `None`: a random one.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddr6> {
        match self {
            Self::Memif(spec) => spec.mac,
            Self::Tap(spec) => spec.mac,
            Self::Pcap(_) | Self::Bus(_) => None,
        }
    }

    /// Returns whether its peer receives only what it needs, as from a switch, or everything, as from a hub.
    pub(crate) fn learns(&self) -> bool {
        match self {
            Self::Memif(spec) => spec.learn,
            Self::Tap(spec) => spec.learn,
            Self::Pcap(spec) => spec.learn,
            Self::Bus(spec) => spec.learn,
        }
    }

    /// Returns whether it writes to stdout. Nothing else may write there then.
    #[must_use]
    pub fn takes_stdout(&self) -> bool {
        matches!(self, Self::Pcap(PcapSpec { output: Some(Place::Standard), .. }))
    }

    /// Returns whether it reads stdin.
    pub(crate) fn takes_stdin(&self) -> bool {
        matches!(self, Self::Pcap(PcapSpec { input: Some(Place::Standard), .. }))
    }
}

impl FromStr for PortSpec {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let (kind, keys) = text.split_once(':').ok_or(ParsePortError::NoKind)?;
        match kind {
            "memif" => Ok(Self::Memif(keys.parse()?)),
            "tap" => Ok(Self::Tap(keys.parse()?)),
            "pcap" => Ok(Self::Pcap(keys.parse()?)),
            "bus" => Ok(Self::Bus(keys.parse()?)),
            _ => Err(ParsePortError::Kind { kind: kind.to_owned(), hint: suggest::hint(kind, KINDS) }),
        }
    }
}
