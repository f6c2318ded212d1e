//! The syntax of a TAP port, `tap:key=value,...`.

use std::str::FromStr;

use shmbus::MacAddr6;
use tapdev::MAX_NAME;

use crate::error::ParsePortError;
use crate::keys::{Keys, refused};

const KEYS: [&str; 4] = ["name", "mac", "offload", "learn"];

/// A TAP interface of the kernel as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapSpec {
    /// The interface's name in the kernel.
    pub name: String,
    /// The interface's address in the kernel and on the bus; `None`: random ones.
    pub mac: Option<MacAddr6>,
    /// Whether the kernel leaves checksums and TCP segmentation to the station of the port.
    pub offload: bool,
    /// Whether the kernel receives only what it needs, as from a switch.
    pub learn: bool,
}

impl TapSpec {
    /// Parses the settings of the interface `name`. Unless they set another name, the kernel uses
    /// this one.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no such setting, or the setting does not take this value.
    pub fn of_interface<'s>(
        name: &str,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<Self, ParsePortError> {
        Self::new(&Keys::new("tap", &KEYS, settings)?, name)
    }

    fn new(keys: &Keys<'_>, default_name: &str) -> Result<Self, ParsePortError> {
        let name = keys.get("name").unwrap_or(default_name);
        if !tapdev::is_name(name) {
            let rule = format!("a name has 1 to {MAX_NAME} bytes, and no '/', ':', '%' or blank");
            return Err(refused("name", name, &rule));
        }
        let mac = keys.mac("mac")?;
        let offload = keys.choice("offload", &[("on", true), ("off", false)])?;
        Ok(Self { name: name.to_owned(), mac, offload, learn: keys.learn()? })
    }
}

impl FromStr for TapSpec {
    type Err = ParsePortError;

    /// Parses what follows `tap:`. Every key has a default.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        Self::new(&Keys::parse("tap", &KEYS, text)?, "tap0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TapSpec, String> {
        text.parse().map_err(|error: ParsePortError| error.to_string())
    }

    #[test]
    fn every_key_has_a_default() {
        assert_eq!(
            parse(""),
            Ok(TapSpec { name: "tap0".to_owned(), mac: None, offload: true, learn: false })
        );
    }

    #[test]
    fn all_keys_are_read() {
        let spec = parse("name=lan,mac=02:00:00:00:00:07,offload=off,learn=on").expect("valid");
        assert_eq!((spec.name.as_str(), spec.offload, spec.learn), ("lan", false, true));
        assert_eq!(spec.mac, Some(MacAddr6::new(2, 0, 0, 0, 0, 7)));
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, words) in [
            ("tap0", "'tap0' is not key=value"),
            ("nmae=tap0", "a tap port has no key 'nmae' (did you mean 'name'?)"),
            ("name=", "a name has 1 to 15 bytes"),
            ("name=tap%d", "a name has 1 to 15 bytes"),
            ("name=sixteen-letters-", "a name has 1 to 15 bytes"),
            ("offload=no", "it is one of on, off"),
            ("mac=02:00", "mac=02:00: "),
            ("mac=01:00:5e:00:00:01", "it is no station's address"),
            ("mac=00:00:00:00:00:00", "it is no station's address"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
