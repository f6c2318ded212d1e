//! The few types a user meets.

pub(crate) mod buffer_pool;
pub(crate) mod client;
pub(crate) mod details;
pub(crate) mod end;
pub(crate) mod event;
mod event_loop;
pub(crate) mod history;
pub(crate) mod link;
mod link_state;
pub(crate) mod options;
#[cfg(feature = "smoltcp")]
pub mod phy;
pub(crate) mod rx;
pub(crate) mod server;
pub(crate) mod stats;
#[cfg(feature = "tokio")]
pub mod tokio;
pub(crate) mod tx;
pub(crate) mod waker;
