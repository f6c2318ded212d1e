//! Small IP hosts (smoltcp) on a shared-memory Ethernet bus or behind memif.
//!
//! A [`Nic`] is a host's device: a station on a bus ([`BusNic`]) or a memif interface ([`MemifNic`]). A [`Stack`] is smoltcp on
//! a device, with its addresses, its clock and its sleep. What a host does is added to that: [`Services`] answer, a
//! [`Pinger`] and a [`Source`] ask.

#![forbid(unsafe_code)]

mod address;
mod bus_nic;
mod connection;
mod echo;
mod listener;
mod memif_nic;
mod nic;
mod pinger;
mod services;
mod sink;
mod source;
mod stack;
mod statistics;
mod transfer;

pub use address::{HostAddress, MAX_ADDRESSES, ParseAddressError, count_up};
pub use bus_nic::{Attachment, BusNic};
pub use echo::PORT as ECHO_PORT;
pub use memif_nic::{LinkChange, LinkSource, MemifNic};
pub use nic::{Closed, Nic, SleepError};
pub use pinger::{PingPlan, Pinger, Reply, largest_payload};
pub use services::Services;
pub use source::Source;
pub use stack::{ConnectError, Stack};
pub use statistics::Report;
pub use transfer::Transfer;

/// Bytes on their way in a connection that is there to measure: what the bus carries between two looks of a host that shares
/// its processor, and far less than the ring of a bus holds.
const TRANSFER_WINDOW: usize = 1 << 18;
/// After this long without an answer such a connection is given up.
const TRANSFER_TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(20);
