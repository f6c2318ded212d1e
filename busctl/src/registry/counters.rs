//! What a running interface says of itself: how many frames went through, and how far it follows its record.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::RegistryError;
use super::file;
use super::memif_report::MemifReport;

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
    /// The sums of both, for an interface that had a runner before this one.
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

    /// The same as seen from the other side: what one sends, the other receives.
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

/// What the process that runs an interface last said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The revision of the record that it has acted on.
    pub revision: u64,
    /// Why it could not do as the record says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Whether a port has a peer, while somebody runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<bool>,
    /// What went through, with that of earlier runners.
    pub counters: Counters,
    /// The connection of a memif interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memif: Option<MemifReport>,
}

impl Report {
    pub(super) fn load(path: &Path) -> Self {
        file::read(path).ok().flatten().and_then(|text| toml::from_str(&text).ok()).unwrap_or_default()
    }

    pub(super) fn store(&self, path: &Path) -> Result<(), RegistryError> {
        let text = toml::to_string(self).map_err(|error| {
            RegistryError::file("write", path, std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        })?;
        file::replace(path, &text)
    }
}
