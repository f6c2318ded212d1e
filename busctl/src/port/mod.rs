//! Ports: how what is not a station comes onto a bus.
//!
//! A port is something that bursts of frames come out of and go into. The node gives it a station of its own on the bus
//! and moves it along; a new kind of port is a new file here and a line in [`PortSpec`] and `open`.

pub mod bus;
#[cfg(test)]
mod conformance;
mod identity;
mod keys;
pub mod memif;
pub mod pcap;
pub mod tap;

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

pub(crate) use ::memif::RxMode;
use anyhow::anyhow;
use shmbus::{BusOptions, MAX_SLEEP, MacAddr6, SendError, Station};

use self::bus::BusSpec;
use self::memif::MemifSpec;
use self::pcap::{PcapSpec, Place};
use self::tap::TapSpec;
use crate::exit::misuse;
use crate::suggest;

/// The most frames a port moves at once in one direction: enough to share the cost of a lock and a wake-up, few enough
/// that the other ports wait only some microseconds.
pub(crate) const BURST: usize = 256;

/// The kinds of port, as they are written.
const KINDS: [&str; 4] = ["memif", "tap", "pcap", "bus"];

/// How long a port waits for a bus's lock before it drops a burst: the other ports wait with it.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_millis(20);
/// A lock that was not to be had may be so for long: its holder is stopped, or a rump kernel that is dead. For so long the bus is
/// left alone, and then the lock is waited for only a little (but long enough to find out that its owner is dead), until it is
/// there again. The thread's other ports, on other buses perhaps, go on nearly as before.
pub(crate) const HOLD_OFF: Duration = Duration::from_millis(100);
pub(crate) const SHORT_LOCK_TIMEOUT: Duration = Duration::from_millis(2);

/// What a port did with frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Frames moved.
    pub(crate) frames: usize,
    /// Frames that were taken and went nowhere: the other side cannot carry them.
    pub(crate) dropped: usize,
    /// There is more, but the other side has no room at the moment.
    pub(crate) blocked: bool,
}

/// The bus did not take a burst, or not all of it.
#[derive(Debug)]
pub(crate) struct NotSent {
    /// What became of the burst.
    pub(crate) moved: Moved,
    /// Why.
    pub(crate) source: SendError,
}

/// Something that bursts of frames come out of and go into. One call is one burst.
pub(crate) trait Port: Send {
    /// What the user calls it.
    fn name(&self) -> &str;

    /// Whether there is a peer to move frames from and to.
    fn is_up(&self) -> bool;

    /// Whether there is something to [service](Self::service). Asked often, so it should be cheap.
    fn wants_service(&self) -> bool {
        true
    }

    /// Does what is due beside moving frames: connections come and go here, and its descriptors change nowhere else. What
    /// the user should know is told in one line each.
    fn service(&mut self, tell: &mut dyn FnMut(&str));

    /// Why it is of no use any more, once that is so: what it is a port of has gone for good. Asked when it was tended.
    fn gone(&self) -> Option<String> {
        None
    }

    /// Moves a burst from the peer to the bus. Frames that the bus did not take are dropped: the peer's buffers are not
    /// kept waiting for it. (A file may wait.)
    fn ingress(&mut self, station: &mut Station) -> Result<Moved, NotSent>;

    /// Moves a burst from the bus to the peer.
    fn egress(&mut self, station: &mut Station) -> Moved;

    /// Whether the node may sleep while nothing comes from this port, and how readily.
    fn rx_mode(&self) -> RxMode;

    /// Prepares for a sleep: from now on its descriptors tell when it is worth asking. `true`: there is something
    /// already, do not sleep.
    fn arm(&mut self) -> bool;

    /// Ends a sleep.
    fn disarm(&mut self);

    /// How long to sleep at most before it is asked without having said anything.
    fn longest_sleep(&self) -> Duration {
        MAX_SLEEP
    }

    /// The same for the first time after [`arm`](Self::arm): what comes just then may be missed, where what comes later is not.
    fn first_look(&self) -> Duration {
        self.longest_sleep()
    }

    /// Gives `watch` the descriptors that become readable when the port wants to be asked or tended. There are others only
    /// after [`service`](Self::service). What cannot be waited for, a regular file, is none.
    fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>));
}

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

/// A text that is no port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePortError {
    /// There is no colon behind a kind.
    #[error("a port is written KIND:key=value,... such as memif:role=server,id=0,socket=./memif.sock")]
    NoKind,
    /// No such kind.
    #[error("there is no kind of port called '{kind}'{hint}; there is: {}", KINDS.join(", "))]
    Kind {
        /// What was written.
        kind: String,
        /// What may have been meant.
        hint: String,
    },
    /// A part without `=`.
    #[error("'{0}' is not key=value")]
    NoValue(String),
    /// No such key.
    #[error("a {kind} port has no key '{key}'{hint}")]
    Key {
        /// The kind of port.
        kind: &'static str,
        /// What was written.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A key that cannot be left out.
    #[error("a {kind} port needs {what}")]
    Missing {
        /// The kind of port.
        kind: &'static str,
        /// The key, and what it is for.
        what: &'static str,
    },
    /// The key is there twice.
    #[error("'{0}' is given twice")]
    Twice(String),
    /// A value that the key cannot have.
    #[error("{key}={value}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// Its value; not shown for secrets.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
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
            _ => Err(ParsePortError::Kind { kind: kind.to_owned(), hint: suggest::hint(kind, KINDS) }),
        }
    }
}

/// Opens ports on the bus at `bus`, in order. Ports that share a socket are opened together; other buses are made, where there
/// are none, with `options`.
///
/// # Errors
/// When one of them cannot be opened, or they are in each other's way; none is open then.
pub(crate) fn open(
    specs: &[PortSpec],
    bus: &Path,
    options: &BusOptions,
) -> anyhow::Result<Vec<Box<dyn Port>>> {
    for (standard, takes) in
        [("stdin", PortSpec::takes_stdin as fn(&PortSpec) -> bool), ("stdout", PortSpec::takes_stdout)]
    {
        if specs.iter().filter(|spec| takes(spec)).count() > 1 {
            return Err(misuse(anyhow!("two ports cannot share {standard}: give one of them a file")));
        }
    }
    let sockets = memif::Sockets::start()?;
    let mut buses = bus::Joined::new(bus);
    specs
        .iter()
        .map(|spec| -> anyhow::Result<Box<dyn Port>> {
            Ok(match spec {
                PortSpec::Memif(spec) => Box::new(sockets.open(spec, spec.to_string())?),
                PortSpec::Tap(spec) => Box::new(tap::open(spec)?),
                PortSpec::Pcap(spec) => Box::new(pcap::open(spec, bus)?),
                PortSpec::Bus(spec) => Box::new(buses.open(spec, options)?),
            })
        })
        .collect()
}

/// Whether ports that are open can be moved to the bus at `bus`.
///
/// # Errors
/// When there would be a loop of buses.
pub(crate) fn check_loops(specs: &[PortSpec], bus: &Path) -> anyhow::Result<()> {
    let mut buses = bus::Joined::anew(bus);
    let others = specs.iter().filter_map(|spec| match spec {
        PortSpec::Bus(spec) => Some(spec),
        PortSpec::Memif(_) | PortSpec::Tap(_) | PortSpec::Pcap(_) => None,
    });
    others.into_iter().try_for_each(|spec| buses.check(spec))
}
