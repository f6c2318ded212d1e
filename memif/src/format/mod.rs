//! The formats on the wire and in shared memory: plain types, constants and offsets, no I/O.
//!
//! Everything here follows the memif 2.0 protocol as VPP, libmemif 4.0 and DPDK's `net_memif` speak
//! it. Numbers are in the byte order of the host: both ends run on the same machine.

pub(crate) mod message;
pub(crate) mod ring;
pub(crate) mod secret;
pub(crate) mod text;

use std::fmt;

/// The one protocol version spoken here: 2.0.
pub(crate) const VERSION: u16 = 0x0200;
/// The largest ring this side creates: 2^14 descriptors.
pub(crate) const MAX_LOG2_RING_SIZE: u8 = 14;
/// The largest ring announced and accepted: VPP's client can be configured to make one of 2^15.
pub(crate) const MAX_LOG2_RING_SIZE_ACCEPTED: u8 = 15;
/// The most queues in one direction.
pub(crate) const MAX_QUEUES: u16 = 255;
/// The most memory regions of one link.
pub(crate) const MAX_REGIONS: u16 = 256;

/// The kind of an interface's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Ethernet frames; the only mode DPDK knows.
    #[default]
    Ethernet,
    /// IP packets without a link layer.
    Ip,
    /// VPP's punt and inject.
    PuntInject,
}

impl Mode {
    /// Returns the mode's number in INIT.
    pub(crate) fn wire(self) -> u8 {
        match self {
            Self::Ethernet => 0,
            Self::Ip => 1,
            Self::PuntInject => 2,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "ethernet",
            Self::Ip => "ip",
            Self::PuntInject => "punt-inject",
        })
    }
}
