//! What lies on the wire and in shared memory: plain types, constants and offsets, no I/O.
//!
//! Everything here follows the memif 2.0 protocol as VPP, libmemif 4.0 and DPDK's `net_memif` speak it. Numbers are in
//! the byte order of the host: both ends run on the same machine.

pub(crate) mod message;
pub(crate) mod mode;
pub(crate) mod ring;
pub(crate) mod secret;
pub(crate) mod text;

/// The one protocol version spoken here: 2.0.
pub(crate) const VERSION: u16 = 0x0200;
/// The largest ring this side creates or announces: 2^14 descriptors.
pub(crate) const MAX_LOG2_RING_SIZE: u8 = 14;
/// The largest ring accepted from a client: VPP can be told to make one of 2^15, above the bound it was given.
pub(crate) const MAX_LOG2_RING_SIZE_ACCEPTED: u8 = 15;
/// Most queues in one direction.
pub(crate) const MAX_QUEUES: u16 = 255;
/// Most memory regions of one link.
pub(crate) const MAX_REGIONS: u16 = 256;
