//! Network labs: LANs in shared memory, and the nodes on them.
//!
//! A [`Plan`] is a lab with everything decided: which LANs there are, and which nodes with which
//! interfaces, addresses and commands.

#![forbid(unsafe_code)]

pub mod file;
pub mod plan;

pub use self::plan::Plan;
