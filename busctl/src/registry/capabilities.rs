//! Offload flags (`capenable`): which checksums and segmentations an interface does for its user.
//!
//! The bits are NetBSD's `IFCAP_*`, which is what `RUMP_SHMIF_CAPENABLE` holds for a rump kernel, so that the two mean the
//! same; the names are those of its headers and those that `ifconfig` takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// (bit, the header's name, `ifconfig`'s name)
const FLAGS: [(u32, &str, &str); 12] = [
    (0x0_0080, "TSOv4", "tso4"),
    (0x0_0100, "CSUM_IPv4_Rx", "ip4csum-rx"),
    (0x0_0200, "CSUM_IPv4_Tx", "ip4csum-tx"),
    (0x0_0400, "CSUM_TCPv4_Rx", "tcp4csum-rx"),
    (0x0_0800, "CSUM_TCPv4_Tx", "tcp4csum-tx"),
    (0x0_1000, "CSUM_UDPv4_Rx", "udp4csum-rx"),
    (0x0_2000, "CSUM_UDPv4_Tx", "udp4csum-tx"),
    (0x0_4000, "CSUM_TCPv6_Rx", "tcp6csum-rx"),
    (0x0_8000, "CSUM_TCPv6_Tx", "tcp6csum-tx"),
    (0x1_0000, "CSUM_UDPv6_Rx", "udp6csum-rx"),
    (0x2_0000, "CSUM_UDPv6_Tx", "udp6csum-tx"),
    (0x4_0000, "TSOv6", "tso6"),
];

/// A set of offload flags, of which none is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub struct Capabilities(u32);

impl Capabilities {
    /// Every flag there is.
    pub const ALL: Self = Self(0x7_ff80);

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The names of the flags in this set, as `ifconfig` has them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        FLAGS.into_iter().filter(move |(bit, ..)| self.0 & bit != 0).map(|(_, _, name)| name)
    }
}

/// Bits that stand for nothing are left out, as NetBSD does.
impl From<u32> for Capabilities {
    fn from(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }
}

impl From<Capabilities> for u32 {
    fn from(capabilities: Capabilities) -> Self {
        capabilities.0
    }
}

/// `0x880<tso4,tcp4csum-tx>`, the way `ifconfig` prints a set of flags.
impl fmt::Display for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}<{}>", self.0, self.names().collect::<Vec<_>>().join(","))
    }
}

/// A number (decimal, `0x` hexadecimal, `0` octal), or names with commas between.
impl FromStr for Capabilities {
    type Err = ParseCapabilitiesError;

    fn from_str(text: &str) -> Result<Self, ParseCapabilitiesError> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = number(text).ok_or_else(|| ParseCapabilitiesError::Number(text.to_owned()))?;
            return Ok(Self(
                FLAGS.iter().filter(|flag| bits & u64::from(flag.0) != 0).map(|flag| flag.0).sum(),
            ));
        }
        let bits = text.split(',').map(named).try_fold(0, |bits, bit| Ok(bits | bit?))?;
        Ok(Self(bits))
    }
}

fn number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        digits.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
    } else if text.len() > 1 && text.starts_with('0') {
        u64::from_str_radix(&text[1..], 8).ok()
    } else {
        text.parse().ok()
    }
}

/// The bits of one name. Names without a direction, such as `ip4csum`, stand for both.
fn named(name: &str) -> Result<u32, ParseCapabilitiesError> {
    let matches = |known: &str| {
        known.eq_ignore_ascii_case(name)
            || known.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && ["-rx", "-tx"].contains(&&known[name.len()..])
    };
    match name {
        "all" => return Ok(Capabilities::ALL.0),
        "none" => return Ok(0),
        _ => {}
    }
    let bits = FLAGS
        .into_iter()
        .filter(|(_, header, ifconfig)| header.eq_ignore_ascii_case(name) || matches(ifconfig))
        .fold(0, |bits, (bit, ..)| bits | bit);
    if bits == 0 { Err(ParseCapabilitiesError::Name(name.to_owned())) } else { Ok(bits) }
}

/// Why a text is no set of offload flags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCapabilitiesError {
    /// Begins with a digit but is no number.
    #[error(
        "'{0}' is not a number: decimal, 0x for hexadecimal and 0 for octal are taken, or names such as tso4,tcp4csum-tx"
    )]
    Number(String),
    /// No flag has this name.
    #[error("'{0}' is not an offload flag{hint}: there are {names}, all and none", hint = suggestion(.0), names = all_names())]
    Name(String),
}

fn suggestion(name: &str) -> String {
    crate::suggest::hint(name, FLAGS.into_iter().map(|(_, _, name)| name))
}

fn all_names() -> String {
    FLAGS.map(|(_, _, name)| name).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(text: &str) -> u32 {
        text.parse::<Capabilities>().unwrap().bits()
    }

    #[test]
    fn numbers_come_in_three_forms_and_are_masked() {
        assert_eq!(bits("0"), 0);
        assert_eq!(bits("2048"), 0x800);
        assert_eq!(bits("0x880"), 0x880);
        assert_eq!(bits("0X6AA80"), 0x6_aa80);
        assert_eq!(bits("04200"), 0x880);
        assert_eq!(bits("0xffffffffffffffff"), 0x7_ff80);
        assert_eq!(bits("0x7f"), 0);
    }

    #[test]
    fn names_come_in_both_forms_in_any_case() {
        assert_eq!(bits("tso4,TSO6"), 0x4_0080);
        assert_eq!(bits("CSUM_IPv4_Tx,csum_udpv6_rx"), 0x1_0200);
        assert_eq!(bits("tcp4csum"), 0xc00);
        assert_eq!(bits("all"), 0x7_ff80);
        assert_eq!(bits("none"), 0);
    }

    #[test]
    fn every_name_printed_reads_back() {
        assert_eq!(bits(&Capabilities::ALL.names().collect::<Vec<_>>().join(",")), Capabilities::ALL.bits());
        assert_eq!(FLAGS.into_iter().fold(0, |bits, (bit, ..)| bits | bit), Capabilities::ALL.bits());
        assert_eq!(Capabilities(0x880).to_string(), "0x880<tso4,tcp4csum-tx>");
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "0x",
            "0x+1",
            "08",
            "12z",
            "99999999999999999999999",
            "tso5",
            "tso4,",
            ",",
            "ip4csum-",
            "é",
            "tso4é",
        ] {
            assert!(text.parse::<Capabilities>().is_err(), "{text:?}");
        }
        let error = "tso5".parse::<Capabilities>().unwrap_err().to_string();
        assert!(error.contains("did you mean 'tso"), "{error}");
    }
}
