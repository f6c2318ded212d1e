//! Memory another process may write to: the only floor with raw pointers.
//!
//! Everything above gets checked accessors. No Rust reference to plain bytes is ever made over shared memory; what is
//! handed out are slices of [`AtomicU8`](std::sync::atomic::AtomicU8) and structs of atomics, which stay sound whatever
//! the other process stores there meanwhile.

pub(crate) mod copy;
pub(crate) mod pool;
pub(crate) mod prefetch;
pub(crate) mod region;
pub(crate) mod ring;
