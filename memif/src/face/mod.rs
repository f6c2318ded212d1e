//! The few types a user meets.

pub(crate) mod cancel;
pub(crate) mod client;
pub(crate) mod details;
pub(crate) mod end;
pub(crate) mod event;
pub(crate) mod history;
pub(crate) mod link;
pub(crate) mod memory;
pub(crate) mod options;
#[cfg(feature = "smoltcp")]
pub mod phy;
pub(crate) mod rx;
pub(crate) mod server;
pub(crate) mod stats;
#[cfg(feature = "tokio")]
pub mod tokio;
mod turn;
pub(crate) mod tx;
