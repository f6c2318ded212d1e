//! Ports: how anything that is not a station comes onto a shared-memory Ethernet bus.
//!
//! A [`Port`] is a source and a sink of bursts of frames: a memif peer, a TAP interface of the
//! kernel, a capture, another bus. A node gives it a station of its own on the bus and moves frames
//! between the two. A new kind of port is one new file here and a line in [`PortSpec`] and
//! [`open()`]; neither the node nor the other ports change.
//!
//! A wrapper is a port around a port: [`Impaired`], [`Ruled`], [`Learning`] and [`LoopGuard`] work
//! with every kind, and [`IpAdapter`] with those whose peers send IP packets without Ethernet.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use port::{PortOptions, PortSpec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let specs = ["memif:id=0,socket=/tmp/memif.sock".parse()?, "tap:name=tap0,learn=on".parse()?];
//! for port in port::open(&specs, Path::new("/dev/shm/lan"), &PortOptions::new())? {
//!     println!("{} is {}", port.name(), if port.is_up() { "up" } else { "down" });
//! }
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod bus;
mod bus_removal;
#[cfg(test)]
mod conformance;
mod error;
mod file_identity;
mod forwarding;
mod frame_rules;
mod impair;
mod impaired;
pub mod ip_adapter;
mod ip_peer;
mod keys;
mod learning;
mod loop_guard;
pub mod memif;
mod open;
mod output_file;
mod overrun_warning;
mod pcap;
mod peer_details;
mod port;
#[cfg(test)]
mod recorder;
mod remote_counters;
mod report_once;
mod reporter;
#[cfg(test)]
mod seeds;
pub mod socket;
mod spec;
pub mod suggest;
pub mod tap;
pub mod trunk;
pub mod vxlan;
mod wake_fd;

pub use ::memif::RxMode;

pub use self::bus_removal::BusRemoval;
pub use self::error::{
    CaptureProblem, DescriptorError, PORT_KINDS, ParsePortError, PortError, SocketFileError,
    is_passing,
};
pub use self::frame_rules::{FrameRules, Ruled};
pub use self::impair::{
    Distribution, Flap, GilbertElliott, ImpairCounters, ImpairHandle, ImpairedLink, Impairments,
    LossState, OneWay, OneWayCounters, Percent, Rate,
};
pub use self::impaired::Impaired;
pub use self::ip_adapter::IpAdapter;
pub use self::ip_peer::IpPeer;
pub use self::learning::Learning;
pub use self::loop_guard::{LoopGuard, PROBE_ETHERTYPE};
pub use self::open::{PortOptions, check_loops, of_memif, open, open_each};
pub use self::output_file::open_output;
pub use self::overrun_warning::overrun_warning;
pub use self::peer_details::PeerDetails;
pub use self::port::{
    BURST, HOLD_OFF, LOCK_TIMEOUT, LinkState, Moved, NotSent, Port, SHORT_LOCK_TIMEOUT, TAG_LEN,
};
pub use self::remote_counters::{RemoteCounters, RemotesHandle};
pub use self::report_once::{LineBudget, ReportOnce};
pub use self::reporter::{Reporter, Severity};
pub use self::spec::PortSpec;
pub use self::wake_fd::WakeFd;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
