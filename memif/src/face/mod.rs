//! The types that users of the crate work with.

pub(crate) mod buffer_pool;
pub(crate) mod client;
pub(crate) mod details;
pub(crate) mod event_loop;
mod history;
pub(crate) mod link;
mod link_state;
pub(crate) mod manual;
pub(crate) mod options;
#[cfg(feature = "smoltcp")]
pub mod phy;
pub(crate) mod rx;
pub(crate) mod rx_mode;
pub(crate) mod server;
#[cfg(feature = "tokio")]
pub mod tokio;
pub(crate) mod tx;
