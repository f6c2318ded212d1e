//! Sockets, descriptors and timers.

pub(crate) mod addr;
pub(crate) mod event_fd;
pub(crate) mod listen;
pub(crate) mod memfd;
pub(crate) mod poller;
pub(crate) mod scm_rights;
pub(crate) mod socket;
pub(crate) mod untrusted_eventfd;
pub(crate) mod untrusted_fd;
