//! Sockets, descriptors and timers.

pub(crate) mod addr;
pub(crate) mod bell;
pub(crate) mod foreign;
pub(crate) mod listen;
pub(crate) mod memfd;
pub(crate) mod poller;
pub(crate) mod socket;
