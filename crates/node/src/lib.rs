//! A node: threads that move frames between [ports](port::Port) and shared-memory Ethernet buses.
//!
//! Each port has a station of its own on its bus. The station receives all frames but its own, so a
//! frame of one peer reaches all other peers and stations, and does not return to its sender.
//!
//! The example `attach` puts two memif servers and a TAP on a bus:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use node::{Event, Node, NodeOptions};
//! use port::{PortOptions, PortSpec};
//! use shmbus::Bus;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lan = Path::new("/dev/shm/lan");
//! let ports: Vec<PortSpec> = vec![
//!     "memif:id=0,socket=/tmp/memif.sock".parse()?,
//!     "memif:id=1,socket=/tmp/memif.sock,learn=on".parse()?,
//!     "tap:name=tap0".parse()?,
//! ];
//! let mut node = Node::start(NodeOptions::new())?;
//! for port in port::open(&ports, lan, &PortOptions::new())? {
//!     let name = port.name().to_owned();
//!     let id = node.attach(port, Bus::open_or_create(lan, 0o600)?)?;
//!     println!("{name} is port {id}");
//! }
//! loop {
//!     match node.wait_event()? {
//!         Event::Up(port) => println!("port {port} has a peer"),
//!         Event::Down(port) => println!("port {port} has none: {:?}", node.counters(port)),
//!         Event::Closed { port, reason } => println!("port {port} is closed: {reason}"),
//!         _ => {}
//!     }
//! }
//! # }
//! ```

#![forbid(unsafe_code)]

mod asleep;
mod attached_port;
mod node;
mod options;
mod port_stats;
mod reports;
mod thread;
mod worker;

pub use self::attached_port::{CloseReason, PortId};
pub use self::node::{Event, Node, station};
pub use self::options::NodeOptions;
pub use self::port_stats::{Counters, PortStats};
pub use self::reports::{
    BusIdentities, BusIdentity, Link, RemoteReport, Report, Reports, all_reports, bus_identity,
};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
