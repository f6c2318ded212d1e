//! Network labs: LANs in shared memory, and the nodes on them.
//!
//! A [`Plan`] is a lab with everything decided: which LANs there are, and which nodes with which
//! interfaces, addresses and commands. [`Started`] starts it: a supervisor makes the LANs and runs
//! the nodes, in namespaces that end with it. A [`Client`] asks how the lab is, runs commands and
//! checks in it, and takes it down. A [`Lab`] is all of that as one value, for tests; a [`Builder`]
//! makes its plan without a file, and a [`Capture`] sees the frames of its LANs.

#![forbid(unsafe_code)]

mod builder;
mod capture;
pub mod clab;
mod client;
mod diff;
mod enter;
mod error;
pub mod file;
mod folder;
pub mod graph;
mod lab;
mod parts;
pub mod plan;
mod protocol;
mod schema;
mod start;
mod supervisor;
mod wire;

pub use self::builder::{Builder, Section};
pub use self::capture::{Capture, CapturedFrame};
pub use self::client::{Client, Follower};
pub use self::diff::{Difference, diff};
pub use self::enter::enter;
pub use self::error::LabError;
pub use self::folder::{Folder, Locked};
pub use self::lab::{Lab, NodeHandle};
pub use self::parts::HostError;
pub use self::plan::Plan;
pub use self::protocol::{
    Checked, InterfaceState, LabState, LanState, NodeElsewhere, NodeState, Output, Phase,
    RemoteState, TrunkState,
};
pub use self::schema::schema;
pub use self::start::Started;
pub use self::supervisor::{confine, run as supervise};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
