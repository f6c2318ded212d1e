//! `key=value`, as `create` and `set` take them.

use std::str::FromStr;

use port::ParsePortError;
use shmbus::offload::ParseCapabilitiesError;

use super::capabilities;
use super::mac::{self, MacError};
use super::name::InterfaceName;
use super::record::{Media, Shmif};

/// One setting as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    /// What is before the first `=`.
    pub key: String,
    /// What is behind it.
    pub value: String,
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
    /// Reads several settings, each of which is made once.
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
    /// Not `key=value`.
    #[error("'{0}' is not a setting: settings are written key=value, such as promisc=on")]
    Form(String),
    /// The key is there twice.
    #[error("'{0}' is given twice")]
    Twice(String),
    /// No such key.
    #[error("a shmif interface has no setting '{0}'{hint}: there are {known}",
            hint = port::suggest::hint(.0, KEYS), known = KEYS.join(" "))]
    UnknownKey(String),
    /// Not one of the words this key takes.
    #[error("{key} cannot be '{value}': it takes {words}")]
    Word {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What may be given.
        words: &'static str,
    },
    /// Not an address an interface may have.
    #[error("mac: {0}")]
    Mac(MacError),
    /// Not for this port.
    #[error(transparent)]
    Port(ParsePortError),
    /// It cannot be chosen.
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
    /// Not offload flags.
    #[error("capenable: {0}{hint}", hint = capabilities::hint(.0))]
    Capabilities(ParseCapabilitiesError),
}

const KEYS: [&str; 4] = ["mac", "capenable", "promisc", "media"];

impl Shmif {
    /// Makes one setting.
    ///
    /// # Errors
    /// When there is no such key, or it does not take this value; nothing is changed then.
    pub(crate) fn apply(&mut self, setting: &KeyValue) -> Result<(), SettingError> {
        let value = setting.value.as_str();
        match setting.key.as_str() {
            "mac" => self.mac = mac::parse_mac(value).map_err(SettingError::Mac)?,
            "capenable" => self.capenable = value.parse().map_err(SettingError::Capabilities)?,
            "promisc" => {
                self.promisc = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(word("promisc", value, "on or off")),
                }
            }
            "media" => {
                self.media = match value {
                    "auto" => Media::Auto,
                    "none" => Media::None,
                    _ => return Err(word("media", value, "auto or none")),
                }
            }
            unknown => return Err(SettingError::UnknownKey(unknown.to_owned())),
        }
        Ok(())
    }
}

fn word(key: &'static str, value: &str, words: &'static str) -> SettingError {
    SettingError::Word { key, value: value.to_owned(), words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<Shmif, SettingError> {
        let mut shmif = Shmif::default();
        shmif.apply(&text.parse()?).map(|()| shmif)
    }

    #[test]
    fn each_key_takes_its_values() {
        assert_eq!(set("mac=02:00:00:00:00:01").unwrap().mac.as_bytes(), [2, 0, 0, 0, 0, 1]);
        assert_eq!(set("capenable=tso4").unwrap().capenable.bits(), 0x80);
        assert!(set("promisc=on").unwrap().promisc);
        assert!(!set("promisc=off").unwrap().promisc);
        assert_eq!(set("media=none").unwrap().media, Media::None);
        assert_eq!(set("media=auto").unwrap().media, Media::Auto);
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (text, why) in [
            ("promisc", "key=value"),
            ("=on", "key=value"),
            ("promsic=on", "did you mean 'promisc'?"),
            ("promisc=yes", "it takes on or off"),
            ("media=", "it takes auto or none"),
            ("mac=01:00:00:00:00:00", "not the address of one station"),
            ("capenable=tso5", "not an offload flag"),
            ("capenable=tso5", "did you mean 'tso"),
        ] {
            let error = set(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
