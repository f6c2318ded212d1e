//! The Python package `shmlan`: its native half.
//!
//! The other half is Python, in `package/shmlan`: what needs no Rust (exceptions, asyncio, scapy,
//! pytest) is there. Python's names, types and documentation are the same in both.
//!
//! Three rules hold for every class:
//!
//! - No Python object refers to shared memory: a frame is copied out of it, or into it.
//! - The interpreter runs other threads while a call waits, for frames or for a lock. A lock of
//!   ours is never waited for otherwise, and never held while Python code may run (`owned.rs`).
//! - What is closed, or was opened before a fork, raises an exception.

#![expect(clippy::doc_markdown, reason = "what Python shows as help is plain text")]

mod bus;
mod error;
mod frames;
mod memif;
mod owned;
mod receiver;
mod sleep;
mod source;
mod station;
mod stats;
mod tap;
mod time;

/// The native half of the package `shmlan`.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::bus::{Bus, Member};
    #[pymodule_export]
    use crate::memif::{Memif, Peer};
    #[pymodule_export]
    use crate::receiver::Receiver;
    #[pymodule_export]
    use crate::station::Station;
    #[pymodule_export]
    use crate::tap::Tap;
}
