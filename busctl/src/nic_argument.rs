//! Where a host is to be plugged in, on the command line: BUS, or a memif port.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use iphost::{BusNic, LinkChange, LinkSource, MemifNic};
use port::ParsePortError;
use port::memif::{Change, Control, MemifSpec, Sockets};
use shmbus::random_mac;

use crate::bus_argument::{BusArgument, ParseBusError};
use crate::bus_attachment::BusAttachment;
use crate::context::Context;
use crate::output;

/// A bus, or `memif:key=value,...`.
#[derive(Debug, Clone)]
pub(crate) enum Plug {
    /// The host is a station.
    Bus(BusArgument),
    /// The host is a memif peer.
    Memif(Box<MemifSpec>),
}

/// A text that is neither.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParsePlugError {
    /// No bus.
    #[error(transparent)]
    Bus(#[from] ParseBusError),
    /// No memif port.
    #[error(transparent)]
    Memif(#[from] ParsePortError),
}

impl TryFrom<OsString> for Plug {
    type Error = ParsePlugError;

    fn try_from(text: OsString) -> Result<Self, ParsePlugError> {
        match text.to_str().and_then(|text| text.strip_prefix("memif:")) {
            Some(keys) => Ok(Self::Memif(Box::new(keys.parse()?))),
            None => Ok(Self::Bus(text.try_into()?)),
        }
    }
}

impl ValueParserFactory for Plug {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(Self::try_from).into()
    }
}

/// A host's connection, of one kind or the other.
pub(crate) enum Plugged {
    Bus(Box<BusNic<BusAttachment>>),
    Memif(Box<MemifNic<Links>>),
}

impl Plug {
    /// Plugs in: joins the bus, or listens, or begins to connect. With `make`, a bus that is not there is made.
    pub(crate) fn plug_in(&self, context: &Context, make: bool) -> anyhow::Result<Plugged> {
        match self {
            Self::Bus(bus) => {
                let join = if make { BusAttachment::join_or_make } else { BusAttachment::join };
                Ok(Plugged::Bus(Box::new(BusNic::new(join(bus, context)?))))
            }
            Self::Memif(spec) => {
                let sockets = Sockets::start(crate::PROGRAM, &output::reporter())?;
                let links = Links(sockets.control(spec, &spec.to_string())?);
                let mac = spec.mac.unwrap_or_else(random_mac);
                Ok(Plugged::Memif(Box::new(MemifNic::new(links, mac))))
            }
        }
    }
}

/// The links of a memif socket that this process serves.
pub(crate) struct Links(Control);

impl LinkSource for Links {
    fn next_change(&mut self) -> Option<LinkChange> {
        self.0.next().map(|change| match change {
            Change::Up(link) => LinkChange::Up(link),
            Change::Down => LinkChange::Down,
        })
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
