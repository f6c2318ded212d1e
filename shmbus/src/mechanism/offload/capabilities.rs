//! The offload flags (`capenable`): which checksums and segmentations a station does for its user.
//!
//! The bits are NetBSD's `IFCAP_*`, as in `RUMP_SHMIF_CAPENABLE` for a rump kernel, so that the
//! variable means the same for both. The names are those of its headers and those that `ifconfig`
//! takes.

use std::env;
use std::fmt;
use std::ops::{BitOr, Sub};
use std::str::FromStr;

/// Each flag: its bit, the header's name, `ifconfig`'s name.
const FLAGS: [(Capabilities, &str, &str); 12] = [
    (Capabilities::TSO_V4, "TSOv4", "tso4"),
    (Capabilities::IPV4_RX, "CSUM_IPv4_Rx", "ip4csum-rx"),
    (Capabilities::IPV4_TX, "CSUM_IPv4_Tx", "ip4csum-tx"),
    (Capabilities::TCP_V4_RX, "CSUM_TCPv4_Rx", "tcp4csum-rx"),
    (Capabilities::TCP_V4_TX, "CSUM_TCPv4_Tx", "tcp4csum-tx"),
    (Capabilities::UDP_V4_RX, "CSUM_UDPv4_Rx", "udp4csum-rx"),
    (Capabilities::UDP_V4_TX, "CSUM_UDPv4_Tx", "udp4csum-tx"),
    (Capabilities::TCP_V6_RX, "CSUM_TCPv6_Rx", "tcp6csum-rx"),
    (Capabilities::TCP_V6_TX, "CSUM_TCPv6_Tx", "tcp6csum-tx"),
    (Capabilities::UDP_V6_RX, "CSUM_UDPv6_Rx", "udp6csum-rx"),
    (Capabilities::UDP_V6_TX, "CSUM_UDPv6_Tx", "udp6csum-tx"),
    (Capabilities::TSO_V6, "TSOv6", "tso6"),
];

/// A set of known offload flags.
///
/// ```
/// use shmbus::offload::Capabilities;
///
/// let by_name: Capabilities = "tso4,tcp4csum-tx".parse()?;
/// assert_eq!(by_name, Capabilities::TSO_V4 | Capabilities::TCP_V4_TX);
/// assert_eq!(by_name, "0x880".parse()?);
/// assert_eq!(by_name.to_string(), "0x880<tso4,tcp4csum-tx>");
/// # Ok::<(), shmbus::offload::ParseCapabilitiesError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u32);

impl Capabilities {
    /// The empty set: frames are sent as they are, and nothing is verified.
    pub const NONE: Self = Self(0);
    /// Cutting TCP over IPv4 into segments.
    pub const TSO_V4: Self = Self(0x0_0080);
    /// Verifying IPv4 header checksums.
    pub const IPV4_RX: Self = Self(0x0_0100);
    /// Filling in IPv4 header checksums.
    pub const IPV4_TX: Self = Self(0x0_0200);
    /// Verifying checksums of TCP over IPv4.
    pub const TCP_V4_RX: Self = Self(0x0_0400);
    /// Filling in checksums of TCP over IPv4.
    pub const TCP_V4_TX: Self = Self(0x0_0800);
    /// Verifying checksums of UDP over IPv4.
    pub const UDP_V4_RX: Self = Self(0x0_1000);
    /// Filling in checksums of UDP over IPv4.
    pub const UDP_V4_TX: Self = Self(0x0_2000);
    /// Verifying checksums of TCP over IPv6.
    pub const TCP_V6_RX: Self = Self(0x0_4000);
    /// Filling in checksums of TCP over IPv6.
    pub const TCP_V6_TX: Self = Self(0x0_8000);
    /// Verifying checksums of UDP over IPv6.
    pub const UDP_V6_RX: Self = Self(0x1_0000);
    /// Filling in checksums of UDP over IPv6.
    pub const UDP_V6_TX: Self = Self(0x2_0000);
    /// Cutting TCP over IPv6 into segments.
    pub const TSO_V6: Self = Self(0x4_0000);
    /// Every flag for sending.
    pub const TX: Self = Self(0x6_aa80);
    /// Every flag for receiving.
    pub const RX: Self = Self(0x1_5500);
    /// Every flag.
    pub const ALL: Self = Self(Self::TX.0 | Self::RX.0);

    /// The environment variable that [`from_environment`](Self::from_environment) and rump kernels
    /// read.
    pub const VARIABLE: &'static str = "RUMP_SHMIF_CAPENABLE";

    /// Reads the environment variable `RUMP_SHMIF_CAPENABLE`; returns the empty set when it is
    /// unset or empty.
    ///
    /// # Errors
    /// When it holds neither a number nor names.
    pub fn from_environment() -> Result<Self, ParseCapabilitiesError> {
        match env::var_os(Self::VARIABLE) {
            Some(text) if !text.is_empty() => text.to_string_lossy().parse(),
            _ => Ok(Self::NONE),
        }
    }

    /// Returns the bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether all of `others` are in this set.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Returns whether any of `others` is in this set.
    #[must_use]
    pub const fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Returns the names of the flags in this set, as `ifconfig` has them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        FLAGS.into_iter().filter(move |(flag, ..)| self.contains(*flag)).map(|(_, _, name)| name)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

/// Returns the flags of this set that are not in the other.
impl Sub for Capabilities {
    type Output = Self;

    fn sub(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

/// Unknown bits are left out, as NetBSD does.
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
        write!(formatter, "{:#x}<", self.0)?;
        for (index, name) in self.names().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{name}")?;
        }
        write!(formatter, ">")
    }
}

/// A number (decimal, `0x` hexadecimal, `0` octal), or names with commas between, in any case. A
/// name without a direction, such as `ip4csum`, stands for both; `all` and `none` are names too.
impl FromStr for Capabilities {
    type Err = ParseCapabilitiesError;

    fn from_str(text: &str) -> Result<Self, ParseCapabilitiesError> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits =
                number(text).ok_or_else(|| ParseCapabilitiesError::Number(text.to_owned()))?;
            // Masked before it is cut to 32 bits.
            return Ok(u32::try_from(bits & u64::from(Self::ALL.0)).map_or(Self::NONE, Self));
        }
        text.split(',').map(named).try_fold(Self::NONE, |set, flags| Ok(set | flags?))
    }
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) =
        if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            (digits, 16)
        } else if text.len() > 1 && text.starts_with('0') {
            (&text[1..], 8)
        } else {
            (text, 10)
        };
    // `from_str_radix` takes a sign, which is no digit.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric())
        .then(|| u64::from_str_radix(digits, radix).ok())?
}

/// The flags that one name stands for.
fn named(name: &str) -> Result<Capabilities, ParseCapabilitiesError> {
    if name.eq_ignore_ascii_case("all") {
        return Ok(Capabilities::ALL);
    }
    if name.eq_ignore_ascii_case("none") {
        return Ok(Capabilities::NONE);
    }
    let flags = FLAGS
        .into_iter()
        .filter(|(_, header, ifconfig)| {
            let both = ifconfig.strip_suffix("-rx").or_else(|| ifconfig.strip_suffix("-tx"));
            [Some(*header), Some(*ifconfig), both]
                .iter()
                .flatten()
                .any(|known| known.eq_ignore_ascii_case(name))
        })
        .fold(Capabilities::NONE, |set, (flag, ..)| set | flag);
    if flags.is_empty() { Err(ParseCapabilitiesError::Name(name.to_owned())) } else { Ok(flags) }
}

/// Why a text is no set of offload flags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCapabilitiesError {
    /// Begins with a digit but is no number.
    #[error(
        "'{0}' is not a number: decimal, 0x for hexadecimal and 0 for octal are taken, or names such as tso4,tcp4csum-tx"
    )]
    Number(String),
    /// No flag has this name.
    #[error("'{0}' is not an offload flag: there are {names}, all and none", names = FLAGS.map(|(.., name)| name).join(" "))]
    Name(String),
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
        assert_eq!(Capabilities::from(u32::MAX), Capabilities::ALL);
    }

    #[test]
    fn names_come_in_both_forms_in_any_case() {
        assert_eq!(bits("tso4,TSO6"), 0x4_0080);
        assert_eq!(bits("CSUM_IPv4_Tx,csum_udpv6_rx"), 0x1_0200);
        assert_eq!(bits("tcp4csum"), 0xc00);
        assert_eq!(bits("ALL"), 0x7_ff80);
        assert_eq!(bits("none"), 0);
    }

    #[test]
    fn every_name_printed_reads_back() {
        assert_eq!(
            bits(&Capabilities::ALL.names().collect::<Vec<_>>().join(",")),
            Capabilities::ALL.bits()
        );
        assert_eq!(Capabilities(0x880).to_string(), "0x880<tso4,tcp4csum-tx>");
        assert_eq!(Capabilities::NONE.to_string(), "0x0<>");
    }

    #[test]
    fn the_sets_are_made_of_the_flags() {
        let union = |end: &str| {
            let named = FLAGS
                .into_iter()
                .filter(|(_, _, name)| name.ends_with(end) || name.starts_with("tso"));
            named.fold(Capabilities::NONE, |set, (flag, ..)| set | flag)
        };
        let tso = Capabilities::TSO_V4 | Capabilities::TSO_V6;
        assert_eq!(union("-tx"), Capabilities::TX);
        assert_eq!(union("-rx") - tso, Capabilities::RX);
        assert_eq!(Capabilities::ALL.bits(), 0x7_ff80);
        assert_eq!(union(""), Capabilities::ALL);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "0x",
            "0x+1",
            "0+7",
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
    }
}
