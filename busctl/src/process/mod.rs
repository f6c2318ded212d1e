//! This process and its surroundings: signals, wake-ups between threads, the parent, the service manager.

pub(crate) mod die_with_parent;
pub(crate) mod sd_notify;
pub mod shutdown;
pub(crate) mod wake_fd;
