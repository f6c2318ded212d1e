//! MAC addresses of interfaces: unicast, printed in lower case.

use serde::{Deserialize as _, Deserializer, Serializer};
use shmbus::MacAddr6;

/// Why a text cannot be the MAC address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MacError {
    /// Not six bytes in hexadecimal.
    #[error("'{0}' is not a MAC address: six bytes in hexadecimal are, such as b2:a0:01:02:03:04")]
    Form(String),
    /// The address of a group, or all zero.
    #[error(
        "{0} is not the address of one station: the lowest bit of the first byte must be 0, and not all bytes may be"
    )]
    NotUnicast(String),
}

/// Reads a MAC address that an interface may have.
///
/// # Errors
/// When it is not a MAC address, or is a multicast address or all zero.
pub(crate) fn parse_mac(text: &str) -> Result<MacAddr6, MacError> {
    let mac: MacAddr6 = text.parse().map_err(|_| MacError::Form(text.to_owned()))?;
    if mac.is_multicast() || mac.is_nil() {
        return Err(MacError::NotUnicast(format_mac(mac)));
    }
    Ok(mac)
}

/// Returns a MAC address in lower case with colons, as `ifconfig` prints it.
#[must_use]
pub(crate) fn format_mac(mac: MacAddr6) -> String {
    mac.to_string().to_lowercase()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
pub(super) fn serialize<S: Serializer>(mac: &MacAddr6, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_mac(*mac))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<MacAddr6, D::Error> {
    parse_mac(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_one_station_will_do() {
        assert_eq!(format_mac(parse_mac("B2:A0:FF:00:00:01").unwrap()), "b2:a0:ff:00:00:01");
        for group in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
            assert!(matches!(parse_mac(group), Err(MacError::NotUnicast(_))), "{group}");
        }
        for text in ["", "b2:a0", "b2:a0:00:00:00:00:00:01", "zz:a0:00:00:00:01"] {
            assert!(matches!(parse_mac(text), Err(MacError::Form(_))), "{text}");
        }
    }
}
