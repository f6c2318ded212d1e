//! Messages inside UDP and TCP that a LAN lives by: DNS, DHCP, and the options of TCP.

use std::fmt;
use std::net::Ipv4Addr;

use super::text::{Name, half, mac, word};

/// Writes what a UDP payload says, if its ports say what it is.
pub(super) fn write_udp(
    f: &mut fmt::Formatter<'_>,
    ports: [u16; 2],
    payload: &[u8],
) -> fmt::Result {
    // The lower port is more likely a server's.
    let [low, high] = [ports[0].min(ports[1]), ports[0].max(ports[1])];
    for port in [low, high] {
        match port {
            53 => return write_dns(f, "DNS", payload),
            67 | 68 => return write_dhcp(f, payload),
            546 | 547 => return write_dhcpv6(f, payload),
            5353 => return write_dns(f, "mDNS", payload),
            5355 => return write_dns(f, "LLMNR", payload),
            _ => {}
        }
    }
    Ok(())
}

/// Writes what a TCP payload says.
pub(super) fn write_tcp(
    f: &mut fmt::Formatter<'_>,
    ports: [u16; 2],
    payload: &[u8],
) -> fmt::Result {
    match payload {
        // The length of the message comes first.
        [_, _, message @ ..] if ports.contains(&53) => write_dns(f, "DNS", message),
        _ => Ok(()),
    }
}

fn write_dns(f: &mut fmt::Formatter<'_>, protocol: &str, message: &[u8]) -> fmt::Result {
    let numbers = (half(message, 0), half(message, 2), half(message, 4), half(message, 6));
    let (Some(id), Some(flags), Some(questions), Some(answers)) = numbers else {
        return Ok(());
    };
    let is_answer = flags & 0x8000 != 0;
    write!(f, ", {protocol} {} {id:#06x}", if is_answer { "answer" } else { "query" })?;
    if questions > 0
        && let Some((name, end)) = dns_name(message, 12)
        && let Some(kind) = half(message, end)
    {
        let name = Name(if name.is_empty() { b"." } else { &name });
        match dns_type(kind) {
            "" => write!(f, ", type {kind} {name}")?,
            kind => write!(f, ", {kind} {name}")?,
        }
    }
    match (is_answer, flags & 15) {
        (false, _) => Ok(()),
        (true, 0) => write!(f, ", {}", Count(answers.into(), "record")),
        (true, 3) => f.write_str(", no such name"),
        (true, code) => write!(f, ", error {code}"),
    }
}

/// A number of things.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// Returns a name with dots, and where it ends. A question's name is not compressed.
fn dns_name(message: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        match len {
            0 => return Some((name, at)),
            1..64 if name.len() < 256 => {
                if !name.is_empty() {
                    name.push(b'.');
                }
                name.extend(message.get(at..at + len)?);
                at += len;
            }
            _ => return None,
        }
    }
}

fn dns_type(kind: u16) -> &'static str {
    match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        65 => "HTTPS",
        255 => "ANY",
        _ => "",
    }
}

fn write_dhcp(f: &mut fmt::Formatter<'_>, message: &[u8]) -> fmt::Result {
    let (Some(operation), Some(client), Some(yours)) =
        (message.first(), mac(message, 28), word(message, 16))
    else {
        return Ok(());
    };
    let option = |wanted| dhcp_option(message.get(240..).unwrap_or_default(), wanted);
    let kind = option(53).and_then(|value| value.first());
    let name = match kind {
        Some(1) => "DHCP discover",
        Some(2) => "DHCP offer",
        Some(3) => "DHCP request",
        Some(4) => "DHCP decline",
        Some(5) => "DHCP ack",
        Some(6) => "DHCP nak",
        Some(7) => "DHCP release",
        Some(8) => "DHCP inform",
        _ => "BOOTP",
    };
    let yours = Ipv4Addr::from_bits(yours);
    if *operation == 2 {
        write!(f, ", {name}")?;
        if !yours.is_unspecified() {
            write!(f, " of {yours}")?;
        }
        return write!(f, " to {client}");
    }
    write!(f, ", {name} from {client}")?;
    match option(50).and_then(|value| word(value, 0)) {
        Some(wanted) => write!(f, ", wants {}", Ipv4Addr::from_bits(wanted)),
        None => Ok(()),
    }
}

/// Returns the value of an option.
fn dhcp_option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [kind, len, rest @ ..] => {
                let value = rest.get(..usize::from(*len))?;
                if *kind == wanted {
                    return Some(value);
                }
                options = &rest[value.len()..];
            }
        }
    }
}

fn write_dhcpv6(f: &mut fmt::Formatter<'_>, message: &[u8]) -> fmt::Result {
    const KINDS: [&str; 13] = [
        "solicit",
        "advertise",
        "request",
        "confirm",
        "renew",
        "rebind",
        "reply",
        "release",
        "decline",
        "reconfigure",
        "information request",
        "relay forward",
        "relay reply",
    ];
    let Some(kind) = message.first() else { return Ok(()) };
    match usize::from(*kind).checked_sub(1).and_then(|kind| KINDS.get(kind)) {
        Some(name) => write!(f, ", DHCPv6 {name}"),
        None => write!(f, ", DHCPv6 type {kind}"),
    }
}

/// Writes the options of TCP in the words of `tcpdump`, without those that only fill.
pub(super) fn write_tcp_options(f: &mut fmt::Formatter<'_>, mut options: &[u8]) -> fmt::Result {
    let mut separator = ", options [";
    while let [kind, rest @ ..] = options {
        if *kind == 0 {
            break;
        }
        if *kind == 1 {
            options = rest;
            continue;
        }
        let len = rest.first().map_or(0, |len| usize::from(*len));
        let (Some(value), Some(after)) = (options.get(2..len), options.get(len..)) else {
            write!(f, "{separator}damaged")?;
            separator = ",";
            break;
        };
        options = after;
        f.write_str(separator)?;
        separator = ",";
        match (kind, value) {
            (2, [high, low]) => write!(f, "mss {}", u16::from_be_bytes([*high, *low]))?,
            (3, [shift]) => write!(f, "wscale {shift}")?,
            (4, []) => f.write_str("sackOK")?,
            (5, blocks) => write!(f, "sack {}", blocks.len() / 8)?,
            (8, value) if value.len() == 8 => write!(
                f,
                "TS val {} ecr {}",
                word(value, 0).unwrap_or_default(),
                word(value, 4).unwrap_or_default()
            )?,
            (30, _) => f.write_str("mptcp")?,
            (34, _) => f.write_str("tfo")?,
            (kind, _) => write!(f, "option {kind}")?,
        }
    }
    if separator == "," { f.write_str("]") } else { Ok(()) }
}
