//! This process and its surroundings: signals, the parent, the service manager.

pub(crate) mod die_with_parent;
pub(crate) mod sd_notify;
pub(crate) mod shutdown;
