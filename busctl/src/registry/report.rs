//! What a running interface says of itself: how many frames went through, and how far it follows its record.

use std::path::Path;

use node::Counters;
use serde::{Deserialize, Serialize};

use super::error::RegistryError;
use super::file;
use super::memif_report::MemifReport;

/// What the process that runs an interface last said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
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
