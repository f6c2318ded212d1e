//! The interface of a host on the command line: BUS, or a memif port.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use iphost::{BusNic, LinkChange, LinkSource, MemifNic};
use memif::Mode;
use port::ParsePortError;
use port::memif::{Change, Control, MemifSpec, Sockets};
use shmbus::{BusOptions, MacAddr6, StationOptions, random_mac};

use crate::bus_argument::{BusArgument, ParseBusError};
use crate::bus_attachment::BusAttachment;
use crate::context::Context;
use crate::output;

/// A bus, or `memif:key=value,...`.
#[derive(Debug, Clone)]
pub(crate) enum NicArgument {
    /// The host is a station.
    Bus(BusArgument),
    /// The host is a memif peer.
    Memif(Box<MemifSpec>),
}

/// The text is neither a bus nor a memif port.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseNicError {
    /// It is not a bus.
    #[error(transparent)]
    Bus(#[from] ParseBusError),
    /// It is not a memif port.
    #[error(transparent)]
    Memif(#[from] ParsePortError),
}

impl TryFrom<OsString> for NicArgument {
    type Error = ParseNicError;

    fn try_from(text: OsString) -> Result<Self, ParseNicError> {
        match text.to_str().and_then(|text| text.strip_prefix("memif:")) {
            Some(keys) => {
                let spec: MemifSpec = keys.parse()?;
                spec.check_alone()?;
                Ok(Self::Memif(Box::new(spec)))
            }
            None => Ok(Self::Bus(text.try_into()?)),
        }
    }
}

impl ValueParserFactory for NicArgument {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::try_from).into()
    }
}

/// The opened interface of a host.
pub(crate) enum HostNic {
    Bus(Box<BusNic<BusAttachment>>),
    Memif(Box<MemifNic<MemifLinks>>),
}

impl NicArgument {
    /// Returns whether it is a link that carries IP packets alone.
    pub(crate) fn is_ip_mode(&self) -> bool {
        matches!(self, Self::Memif(spec) if spec.mode == Mode::Ip)
    }

    /// Joins the bus, or listens or connects as a memif peer. A missing bus is made as `new` says,
    /// and is an error without it. A temporary station is made as `station` says; `mac` is the
    /// address of a host behind memif, if it is not the port's.
    pub(crate) fn open(
        &self,
        context: &Context,
        new: Option<&BusOptions>,
        station: StationOptions,
        mac: Option<MacAddr6>,
    ) -> anyhow::Result<HostNic> {
        match self {
            Self::Bus(bus) => {
                let attachment = match new {
                    Some(new) => BusAttachment::join_or_make(bus, new, station, context)?,
                    None => BusAttachment::join_as(bus, station, context)?,
                };
                Ok(HostNic::Bus(Box::new(BusNic::new(attachment))))
            }
            Self::Memif(spec) => {
                let sockets = Sockets::start(crate::PROGRAM, &output::reporter())?;
                let links = MemifLinks(sockets.control(spec, &spec.to_string())?);
                let mac = mac.or(spec.mac).unwrap_or_else(random_mac);
                let nic = MemifNic::new(links, mac);
                let nic = if spec.mode == Mode::Ip { nic.with_ip_mode() } else { nic };
                Ok(HostNic::Memif(Box::new(nic)))
            }
        }
    }
}

/// The links of a memif interface.
pub(crate) struct MemifLinks(Control);

impl LinkSource for MemifLinks {
    fn next_change(&mut self) -> Option<LinkChange> {
        self.0.next().map(|change| match change {
            Change::Up(link) => LinkChange::Up(link),
            Change::Down => LinkChange::Down,
        })
    }
}

impl AsFd for MemifLinks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
