//! What switches say to each other: spanning trees, LLDP, LACP, and other frames of IEEE 802.2.

use std::fmt::{self, Write as _};

use super::text::{Mac, Name, half, mac, word};

/// Writes a frame whose type is a length: `payload` begins with the header of IEEE 802.2. Returns
/// the type and payload of a packet in it, where it only wraps one.
pub(super) fn write_llc<'a>(
    f: &mut fmt::Formatter<'_>,
    length: u16,
    payload: &'a [u8],
) -> Result<Option<(u16, &'a [u8])>, fmt::Error> {
    let body = payload.get(..length.into()).unwrap_or(payload);
    match body {
        [0x42, _, 3, rest @ ..] => write_stp(f, rest)?,
        // The second OUI is for frames that go through a bridge.
        [0xaa, 0xaa, 3, 0, 0, 0 | 0xf8, high, low, rest @ ..] => {
            let ether_type = u16::from_be_bytes([*high, *low]);
            f.write_str("SNAP, ")?;
            return Ok(Some((ether_type, rest)));
        }
        [0xaa, 0xaa, 3, a, b, c, high, low, ..] => {
            let protocol = u16::from_be_bytes([*high, *low]);
            write!(f, "SNAP {a:02x}:{b:02x}:{c:02x} {protocol:#06x}, length {length}")?;
        }
        // Novell's frames without a header.
        [0xff, 0xff, ..] => write!(f, "IPX, 802.3, length {length}")?,
        [0xfe, 0xfe, 3, protocol, ..] => match protocol {
            0x81 => write!(f, "CLNP, length {length}")?,
            0x82 => write!(f, "ES-IS, length {length}")?,
            0x83 => write!(f, "IS-IS, length {length}")?,
            other => write!(f, "OSI {other:#04x}, length {length}")?,
        },
        [0, 0, ..] | [_] | [] => write!(f, "802.3, length {length}")?,
        [destination, source, ..] => {
            write!(f, "802.3, LLC from {source:#04x} to {destination:#04x}, length {length}")?;
        }
    }
    Ok(None)
}

fn write_stp(f: &mut fmt::Formatter<'_>, bpdu: &[u8]) -> fmt::Result {
    let (Some(&version), Some(&kind)) = (bpdu.get(2), bpdu.get(3)) else {
        return f.write_str("STP, damaged");
    };
    let name = match version {
        2 => "RSTP",
        3 => "MSTP",
        4 => "SPB",
        _ => "STP",
    };
    if !matches!(version, 0 | 2..=4) {
        // What later versions say begins as it always did.
        write!(f, "version {version} of ")?;
    }
    if kind == 0x80 {
        return write!(f, "{name} topology change notification");
    }
    let (Some(&flags), Some(root), Some(cost), Some(bridge)) =
        (bpdu.get(4), bridge(bpdu, 5), word(bpdu, 13), bridge(bpdu, 17))
    else {
        return write!(f, "{name}, damaged");
    };
    let Some(port) = half(bpdu, 25) else { return write!(f, "{name}, damaged") };
    let change = if flags & 1 == 1 { ", topology change" } else { "" };
    write!(f, "{name} root {root}, cost {cost}, bridge {bridge}, port {port:#06x}{change}")
}

/// Returns an identity as `PRIORITY.MAC`.
fn bridge(bpdu: &[u8], at: usize) -> Option<String> {
    Some(format!("{:04x}.{}", half(bpdu, at)?, mac(bpdu, at + 2)?))
}

/// Writes what a neighbor says about itself.
pub(super) fn write_lldp(f: &mut fmt::Formatter<'_>, mut tlvs: &[u8]) -> fmt::Result {
    f.write_str("LLDP")?;
    let mut has_ttl = false;
    while let Some(head) = half(tlvs, 0) {
        let (kind, len) = (head >> 9, usize::from(head & 0x1ff));
        let Some(value) = tlvs.get(2..2 + len) else { return f.write_str(", damaged") };
        tlvs = &tlvs[2 + len..];
        match (kind, value) {
            (0, _) => break,
            (1, [kind, id @ ..]) => write!(f, ", chassis {}", Id { is_mac: *kind == 4, id })?,
            (2, [kind, id @ ..]) => write!(f, ", port {}", Id { is_mac: *kind == 3, id })?,
            (3, [high, low]) => {
                has_ttl = true;
                write!(f, ", ttl {}", u16::from_be_bytes([*high, *low]))?;
            }
            (5, name) => write!(f, ", name {}", Name(name))?,
            _ => {}
        }
    }
    // No message is without.
    f.write_str(if has_ttl { "" } else { ", damaged" })
}

/// The identity of a chassis or port.
struct Id<'a> {
    is_mac: bool,
    id: &'a [u8],
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match <[u8; 6]>::try_from(self.id) {
            Ok(mac) if self.is_mac => Mac(mac).fmt(f),
            _ => Name(self.id).fmt(f),
        }
    }
}

/// Writes a frame of a slow protocol, of which LACP is the one with summaries.
pub(super) fn write_slow(f: &mut fmt::Formatter<'_>, payload: &[u8]) -> fmt::Result {
    match payload {
        [1, version, ..] => {
            write!(f, "LACPv{version}")?;
            for (who, at) in [("actor", 4), ("partner", 24)] {
                let (Some(system), Some(key), Some(port)) =
                    (mac(payload, at + 2), half(payload, at + 8), half(payload, at + 12))
                else {
                    return f.write_str(", damaged");
                };
                let state = payload.get(at + 14).copied().unwrap_or_default();
                write!(f, ", {who} {system} key {key} port {port} [")?;
                let letters = "ASGYCDFE".chars().enumerate();
                letters
                    .filter(|(bit, _)| state >> bit & 1 == 1)
                    .try_for_each(|(_, letter)| f.write_char(letter))?;
                f.write_char(']')?;
            }
            Ok(())
        }
        [2, ..] => f.write_str("slow protocol, marker"),
        [3, ..] => f.write_str("slow protocol, OAM"),
        _ => f.write_str("slow protocol"),
    }
}
