//! Memory that another process may write to: the only floor with raw pointers.
//!
//! Upper floors use checked accessors. They return slices of
//! [`AtomicU8`](std::sync::atomic::AtomicU8) and structs of atomics, which stay sound whatever the
//! other process stores there, and never a reference to plain bytes.

pub(crate) mod copy;
pub(crate) mod pool;
pub(crate) mod region;
pub(crate) mod ring;
