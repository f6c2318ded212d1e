//! Ports: how what is not a station comes onto a bus.
//!
//! A [`Port`] is something that bursts of frames come out of and go into: a memif peer, one of the kernel's TAPs, a
//! capture, another bus. A node gives it a station of its own on the bus and moves frames between the two. A new kind of
//! port is a file here and a line in [`PortSpec`] and [`open`]; neither the node nor the other ports change.
//!
//! A wrapper is a port around a port ([`Learning`]): it works with every kind.

#![forbid(unsafe_code)]

mod bus;
mod bus_removal;
#[cfg(test)]
mod conformance;
mod error;
mod file_identity;
mod keys;
mod learning;
pub mod memif;
mod open;
mod parse;
mod pcap;
mod port;
mod report_once;
mod reporter;
mod spec;
pub mod suggest;
pub mod tap;
mod wake_fd;

pub use ::memif::RxMode;

pub use self::bus::BusSpec;
pub use self::bus_removal::BusRemoval;
pub use self::error::{CaptureProblem, PortError, is_passing};
pub use self::learning::Learning;
pub use self::open::{PortOptions, check_loops, open};
pub use self::parse::ParsePortError;
pub use self::pcap::{PcapSpec, Place};
pub use self::port::{BURST, HOLD_OFF, LOCK_TIMEOUT, Moved, NotSent, Port, SHORT_LOCK_TIMEOUT};
pub use self::report_once::ReportOnce;
pub use self::reporter::{Reporter, Severity};
pub use self::spec::PortSpec;
pub use self::wake_fd::WakeFd;
