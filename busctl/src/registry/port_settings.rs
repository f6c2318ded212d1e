//! The settings of ports: stored as they were typed, and checked by the port
//! they are for.

use std::collections::BTreeMap;
use std::fmt;

use port::memif::MemifSpec;
use port::socket::SocketSpec;
use port::tap::TapSpec;
use port::trunk::TrunkSpec;
use port::vxlan::VxlanSpec;
use port::{Impairments, ParsePortError};
use serde::{Deserialize, Serialize};

use super::name::{InterfaceName, Kind};
use super::settings::{KeyValue, SettingError};

/// The keys whose values are part of the interface's name.
const IN_THE_NAME: [&str; 3] = ["id", "socket", "socket-abstract"];

/// `key=value` pairs. A key without a pair has its default.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PortSettings(BTreeMap<String, String>);

/// Omits the secret.
impl fmt::Debug for PortSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value)| (key, if key == "secret" { "..." } else { value });
        f.debug_map().entries(self.pairs().map(shown)).finish()
    }
}

impl PortSettings {
    /// Returns the pairs, in the order of their keys.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Makes one setting of the interface `name`; an empty value restores the default.
    ///
    /// # Errors
    /// When there is no such key, or it does not take this value.
    pub(super) fn apply(
        &mut self,
        name: InterfaceName,
        setting: &KeyValue,
    ) -> Result<(), SettingError> {
        let setting = match name.kind() {
            Kind::Sock | Kind::Trunk => &absolute(setting),
            _ => setting,
        };
        let KeyValue { key, value } = setting;
        if name.kind() == Kind::Memif && IN_THE_NAME.contains(&key.as_str()) {
            return Err(SettingError::InTheName { name, key: key.clone() });
        }
        // Checked with an empty value, too: the key must exist.
        let mut tried = Self(BTreeMap::from([(key.clone(), value.clone())]));
        match tried.check(name) {
            Err(error @ SettingError::Port(ParsePortError::Key { .. })) => return Err(error),
            Ok(()) | Err(_) if value.is_empty() => drop(self.0.remove(key)),
            Ok(()) => self.0.append(&mut tried.0),
            Err(error) => return Err(error),
        }
        // What is for both directions is not for one of them any more.
        for replaced in Impairments::replaced_by(key) {
            self.0.remove(&replaced);
        }
        Ok(())
    }

    /// Returns the settings without the impairments: those that need another port.
    pub(crate) fn without_impairments(&self) -> Self {
        let others = self.0.iter().filter(|(key, _)| !Impairments::is_key(key));
        Self(others.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Checks that the port of `name` takes these settings.
    pub(super) fn check(&self, name: InterfaceName) -> Result<(), SettingError> {
        match name {
            InterfaceName::Memif { id, .. } => MemifSpec::of_interface(id, self.pairs()).map(drop),
            InterfaceName::Tap(_) => {
                TapSpec::of_interface(&name.to_string(), self.pairs()).map(drop)
            }
            InterfaceName::Sock(_) => SocketSpec::check_each(self.pairs()),
            InterfaceName::Vxlan(_) => VxlanSpec::check_each(self.pairs()),
            InterfaceName::Trunk(_) => {
                TrunkSpec::of_interface(&name.to_string(), self.pairs()).map(drop)
            }
            InterfaceName::Shmif(_) => Ok(()),
        }
        .map_err(SettingError::Port)
    }
}

/// Makes the path of a socket or a file absolute: the process that runs the interface has another folder.
fn absolute(setting: &KeyValue) -> KeyValue {
    let KeyValue { key, value } = setting;
    let is_path = ["path", "peer", "config"].contains(&key.as_str()) && !value.starts_with('@');
    let path = is_path.then(|| std::path::absolute(value).ok()).flatten();
    let value = path.and_then(|path| path.into_os_string().into_string().ok());
    KeyValue { key: key.clone(), value: value.unwrap_or_else(|| setting.value.clone()) }
}
