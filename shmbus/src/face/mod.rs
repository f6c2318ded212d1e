//! The few types a user meets.

pub(crate) mod burst;
pub(crate) mod bus;
pub(crate) mod flow_queue;
pub(crate) mod legacy;
mod membership;
#[cfg(feature = "smoltcp")]
pub mod phy;
mod reader;
pub(crate) mod repair;
pub(crate) mod station;
pub(crate) mod stats;
pub(crate) mod tap;
#[cfg(feature = "tokio")]
pub mod tokio;
