//! How a bus works, without any I/O: the ring on memory it is given, frames on their way onto and
//! off it, filters, what stations share when they read, VLANs,
//! offload.

pub(crate) mod filter;
pub(crate) mod frame;
pub mod offload;
pub(crate) mod reading;
pub(crate) mod ring;
pub(crate) mod sleepers;
pub(crate) mod vlan;
