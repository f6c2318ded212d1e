//! What the runner of an interface reports: its counters, and which revision of the record it
//! follows.

use std::path::Path;

use node::Counters;
use serde::{Deserialize, Serialize};

use super::error::RegistryError;
use super::file::{self, Content};
use super::memif_report::MemifReport;

/// What the runner of an interface last reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// The revision of the record that it has acted on.
    pub(crate) revision: u64,
    /// Why it could not do what the record says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
    /// Whether a port has a peer, while it is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<bool>,
    /// Whether a port with a peer is blocked, because it would close a loop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) blocked: bool,
    /// The counters, those of earlier runners included.
    pub(crate) counters: Counters,
    /// The connection of a memif interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memif: Option<MemifReport>,
}

impl Report {
    pub(super) fn load(path: &Path) -> Self {
        match file::read(path) {
            Ok(Content::Text(text)) => toml::from_str(&text).unwrap_or_default(),
            _ => Self::default(),
        }
    }

    pub(super) fn store(&self, path: &Path) -> Result<(), RegistryError> {
        let text = toml::to_string(self).map_err(|error| {
            RegistryError::file(
                "write",
                path,
                std::io::Error::new(std::io::ErrorKind::InvalidData, error),
            )
        })?;
        file::replace(path, &text)
    }
}
