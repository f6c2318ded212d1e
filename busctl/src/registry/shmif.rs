//! The settings of a shmif interface.

use std::ops::RangeInclusive;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shmbus::offload::Capabilities;
use shmbus::{MAX_BIG_FRAME, MIN_FRAME, MIN_MTU, MacAddr6};

use super::mac;
use super::settings::{KeyValue, SettingError};

/// The keys of `create` and `set`.
const KEYS: [&str; 5] = ["mac", "capenable", "promisc", "media", "mtu"];
/// The values that an MTU can have: what IPv4 requires, and what the largest bus carries.
const MTUS: RangeInclusive<usize> = MIN_MTU as usize..=MAX_BIG_FRAME - MIN_FRAME;

/// The settings of a shmif interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shmif {
    /// Its address; unicast.
    #[serde(with = "mac")]
    pub(crate) mac: MacAddr6,
    /// Which checksums and segmentation it does for its user. A record keeps the number that
    /// `RUMP_SHMIF_CAPENABLE` would hold.
    #[serde(serialize_with = "serialize_bits", deserialize_with = "deserialize_bits")]
    pub(crate) capenable: Capabilities,
    /// Whether it receives frames that are addressed to others.
    pub(crate) promisc: bool,
    /// What its cable is plugged into.
    pub(crate) media: Media,
    /// The largest payload of its frames in bytes; `None`: what the bus carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<usize>,
}

impl Default for Shmif {
    /// Returns the settings of a new interface: a random address, everything else off.
    fn default() -> Self {
        Self {
            mac: shmbus::random_mac(),
            capenable: Capabilities::NONE,
            promisc: false,
            media: Media::Auto,
            mtu: None,
        }
    }
}

/// What an interface's cable is plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Media {
    /// The bus.
    Auto,
    /// Nothing: the link is down. Frames are accepted and counted, and none goes onto the bus.
    None,
}

impl Media {
    /// Returns the word for it on the command line.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
        }
    }
}

impl Shmif {
    /// Makes one setting.
    ///
    /// # Errors
    /// When there is no such key, or it does not take this value; nothing is changed then.
    pub(super) fn apply(&mut self, setting: &KeyValue) -> Result<(), SettingError> {
        let value = setting.value.as_str();
        match setting.key.as_str() {
            "mac" => self.mac = mac::parse_mac(value).map_err(SettingError::Mac)?,
            "capenable" => self.capenable = value.parse().map_err(SettingError::Capabilities)?,
            "promisc" => {
                self.promisc = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(wrong_word("promisc", value, "on or off")),
                }
            }
            "media" => {
                self.media = match value {
                    "auto" => Media::Auto,
                    "none" => Media::None,
                    _ => return Err(wrong_word("media", value, "auto or none")),
                }
            }
            "mtu" if value.is_empty() => self.mtu = None,
            "mtu" => {
                let mtu = value.parse().ok().filter(|mtu| MTUS.contains(mtu));
                self.mtu = Some(mtu.ok_or_else(|| {
                    wrong_word("mtu", value, "a number from 68 to 9202, or nothing for the bus's")
                })?);
            }
            unknown => {
                return Err(SettingError::UnknownKey { key: unknown.to_owned(), known: &KEYS });
            }
        }
        Ok(())
    }
}

fn wrong_word(key: &'static str, value: &str, words: &'static str) -> SettingError {
    SettingError::Word { key, value: value.to_owned(), words }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn serialize_bits<S: Serializer>(flags: &Capabilities, serializer: S) -> Result<S::Ok, S::Error> {
    flags.bits().serialize(serializer)
}

fn deserialize_bits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Capabilities, D::Error> {
    u32::deserialize(deserializer).map(Capabilities::from)
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
        assert_eq!(set("mtu=1400").unwrap().mtu, Some(1_400));
        assert_eq!(set("mtu=").unwrap().mtu, None);
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (text, why) in [
            ("promisc", "key=value"),
            ("=on", "key=value"),
            ("promsic=on", "did you mean 'promisc'?"),
            ("promisc=yes", "it takes on or off"),
            ("mtu=67", "it takes a number from 68 to 9202"),
            ("mtu=9203", "it takes a number from 68 to 9202"),
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
