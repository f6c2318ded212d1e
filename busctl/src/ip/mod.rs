//! IP hosts: what `host`, `ping` and `demo` are made of.
//!
//! A `Nic` is where a host is plugged in: a bus, or a memif peer. A `Stack` is smoltcp on it, with its addresses, its
//! clock and its sleep. What a host does is added to that: `EchoServices` answers, a `Pinger` asks.

mod address;
mod bus_nic;
mod echo;
mod memif_nic;
mod nic;
mod pinger;
mod plug;
mod stack;
mod statistics;

pub use address::{HostAddress, ParseAddressError};
pub use plug::{ParsePlugError, Plug};

pub(crate) use address::check_all;
pub(crate) use echo::EchoServices;
pub(crate) use nic::Nic;
pub(crate) use pinger::{PingPlan, Pinger, Reply, largest_payload};
pub(crate) use plug::Plugged;
pub(crate) use stack::Stack;
pub(crate) use statistics::Report;
