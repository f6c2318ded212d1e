//! IP hosts: what `host`, `ping` and `demo` are made of.
//!
//! A `Nic` is where a host is plugged in: a bus, or a memif peer. A `Stack` is smoltcp on it, with its addresses, its
//! clock and its sleep. What a host does is added to that: `Services` answer, a `Pinger` and a `Source` ask.

mod address;
mod bus_nic;
mod connection;
mod echo;
mod listener;
mod memif_nic;
mod nic;
mod pinger;
mod plug;
mod services;
mod sink;
mod source;
mod stack;
mod statistics;
mod transfer;

pub use address::{HostAddress, ParseAddressError};
pub use plug::{ParsePlugError, Plug};

pub(crate) use address::count_up;
pub(crate) use echo::PORT as ECHO_PORT;
pub(crate) use nic::Nic;
pub(crate) use pinger::{PingPlan, Pinger, Reply, largest_payload};
pub(crate) use plug::Plugged;
pub(crate) use services::Services;
pub(crate) use source::Source;
pub(crate) use stack::Stack;
pub(crate) use statistics::Report;
pub(crate) use transfer::Transfer;

/// Bytes on their way in a connection that is there to measure: what the bus carries between two looks of a host that shares
/// its processor, and far less than the ring of a bus holds.
const TRANSFER_WINDOW: usize = 1 << 18;
/// After this long without an answer such a connection is given up.
const TRANSFER_TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(20);
