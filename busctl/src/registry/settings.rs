//! `key=value`, as `create` and `set` take them.

use std::str::FromStr;

use port::ParsePortError;
use shmbus::offload::{Capabilities, ParseCapabilitiesError};

use super::mac::MacError;
use super::name::InterfaceName;

/// One setting as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    /// The text before the first `=`.
    pub(crate) key: String,
    /// The text after it.
    pub(crate) value: String,
}

impl FromStr for KeyValue {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(SettingError::Form(text.to_owned())),
        }
    }
}

impl KeyValue {
    /// Reads several settings with different keys.
    ///
    /// # Errors
    /// When one is not `key=value`, or a key is there twice.
    pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<Self>, SettingError> {
        let mut settings: Vec<Self> = Vec::new();
        for text in texts {
            let setting: Self = text.parse()?;
            if settings.iter().any(|other| other.key == setting.key) {
                return Err(SettingError::Twice(setting.key));
            }
            settings.push(setting);
        }
        Ok(settings)
    }
}

/// Why a setting cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingError {
    /// The text is not `key=value`.
    #[error("'{0}' is not a setting: settings are written key=value, such as promisc=on")]
    Form(String),
    /// A key is given twice.
    #[error("'{0}' is given twice")]
    Twice(String),
    /// There is no such key.
    #[error("a shmif interface has no setting '{key}'{hint}: there are {known}",
            hint = port::suggest::hint(key, *known), known = known.join(" "))]
    UnknownKey {
        /// The key that was given.
        key: String,
        /// The keys there are.
        known: &'static [&'static str],
    },
    /// The value is not one of the words this key takes.
    #[error("{key} cannot be '{value}': it takes {words}")]
    Word {
        /// The key.
        key: &'static str,
        /// The value that was given.
        value: String,
        /// The words it takes.
        words: &'static str,
    },
    /// The value is not an address that an interface may have.
    #[error("mac: {0}")]
    Mac(MacError),
    /// The port does not take it.
    #[error(transparent)]
    Port(ParsePortError),
    /// The name of the interface decides it.
    #[error("the {key} of {name} is in its name: {other}", other = if key == "id" {
            "another id makes another interface; see 'busctl create'"
        } else {
            "other sockets are made by 'busctl socket add'"
        })]
    InTheName {
        /// The interface.
        name: InterfaceName,
        /// The key.
        key: String,
    },
    /// The value is not offload flags.
    #[error("capenable: {0}{hint}", hint = hint(.0))]
    Capabilities(ParseCapabilitiesError),
}

/// Returns a suggestion when the name comes close to a flag.
fn hint(error: &ParseCapabilitiesError) -> String {
    match error {
        ParseCapabilitiesError::Name(name) => port::suggest::hint(name, Capabilities::ALL.names()),
        _ => String::new(),
    }
}
