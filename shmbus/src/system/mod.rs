//! Files, file locks, attributes, inotify and `/proc`: what a bus asks of the kernel.

pub(crate) mod acquire;
pub(crate) mod file;
pub(crate) mod links;
pub(crate) mod liveness;
pub(crate) mod members;
pub(crate) mod proc_maps;
pub(crate) mod stuck_lock;
pub(crate) mod wake;
