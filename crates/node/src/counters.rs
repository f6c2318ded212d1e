//! Frames and bytes through a port or an interface.

use serde::{Deserialize, Serialize};

/// Frames and bytes through an interface since it was made. A frame's bytes are those on the bus: no checksum, no padding.
/// A shmif interface receives from the bus, a port from its peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Frames handed up.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// How often the others on the bus were faster and frames were missed: the bus does not tell how many.
    pub rx_dropped: u64,
    /// How often something on the bus was no packet.
    pub rx_errors: u64,
    /// Frames put on the bus, and those accepted while the link was down.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that found the interface down or the bus busy.
    pub tx_dropped: u64,
    /// Frames too long or too short for the bus.
    pub tx_errors: u64,
}

impl Counters {
    /// Returns the sums of both, for an interface that had a runner before this one.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.wrapping_add(other.rx_packets),
            rx_bytes: self.rx_bytes.wrapping_add(other.rx_bytes),
            rx_dropped: self.rx_dropped.wrapping_add(other.rx_dropped),
            rx_errors: self.rx_errors.wrapping_add(other.rx_errors),
            tx_packets: self.tx_packets.wrapping_add(other.tx_packets),
            tx_bytes: self.tx_bytes.wrapping_add(other.tx_bytes),
            tx_dropped: self.tx_dropped.wrapping_add(other.tx_dropped),
            tx_errors: self.tx_errors.wrapping_add(other.tx_errors),
        }
    }

    /// Returns the same as seen from the other side: what one sends, the other receives.
    #[must_use]
    pub fn from_the_other_side(self) -> Self {
        Self {
            rx_packets: self.tx_packets,
            rx_bytes: self.tx_bytes,
            rx_dropped: self.tx_dropped,
            rx_errors: self.tx_errors,
            tx_packets: self.rx_packets,
            tx_bytes: self.rx_bytes,
            tx_dropped: self.rx_dropped,
            tx_errors: self.rx_errors,
        }
    }
}
