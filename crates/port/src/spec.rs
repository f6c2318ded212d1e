//! A port as it is written: kind, colon, `key=value` pairs.

use std::str::FromStr;

use shmbus::MacAddr6;

use crate::bus::BusSpec;
use crate::memif::MemifSpec;
use crate::parse::{self, ParsePortError};
use crate::pcap::{PcapSpec, Place};
use crate::suggest;
use crate::tap::TapSpec;

/// A port as it is written on the command line: kind, colon, `key=value` pairs with commas between.
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
    /// The address its station is to have, if it is to have a certain one.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddr6> {
        match self {
            Self::Memif(spec) => spec.mac,
            Self::Tap(spec) => spec.mac,
            Self::Pcap(_) | Self::Bus(_) => None,
        }
    }

    /// Whether its peer gets only what it needs, as from a switch, instead of everything, as from a hub.
    #[must_use]
    pub fn learns(&self) -> bool {
        match self {
            Self::Memif(spec) => spec.learn,
            Self::Tap(spec) => spec.learn,
            Self::Pcap(spec) => spec.learn,
            Self::Bus(spec) => spec.learn,
        }
    }

    /// Whether it writes to stdout, which nothing else may then.
    #[must_use]
    pub fn takes_stdout(&self) -> bool {
        matches!(self, Self::Pcap(PcapSpec { output: Some(Place::Standard), .. }))
    }

    /// Whether it reads stdin.
    #[must_use]
    pub fn takes_stdin(&self) -> bool {
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
            _ => Err(ParsePortError::Kind { kind: kind.to_owned(), hint: suggest::hint(kind, parse::KINDS) }),
        }
    }
}
