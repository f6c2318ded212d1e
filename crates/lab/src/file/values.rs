//! Values of a lab file as what they mean.

use std::net::IpAddr;
use std::path::{Component, Path};
use std::time::Duration;

use ipnet::IpNet;

/// The longest time in a lab file.
const MAX_TIME: Duration = Duration::from_hours(24);

/// Reads a time such as `30s`, `500ms`, `1.5m` or `2h`; a bare number is one of seconds.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time: times are like \"30s\", \"500ms\" or \"2m\"");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let time = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
    if time > MAX_TIME {
        return Err(format!("'{text}' is too long: times are at most 24 hours"));
    }
    Ok(time)
}

/// Reads a size in bytes, with K, M or G behind it for 1,024, 1,024² or 1,024³ of them.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| digits.parse::<u64>().ok()).flatten();
    number.and_then(|number| number.checked_mul(1 << shift)).ok_or_else(|| {
        format!("'{text}' is no size: a size is a number of bytes, or one with K, M or G behind it")
    })
}

/// Reads the Ethernet address of one station.
pub(super) fn mac(text: &str) -> Result<[u8; 6], String> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| matches!(part.len(), 1 | 2));
        *byte = part
            .filter(|part| part.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|part| u8::from_str_radix(part, 16).ok())
            .ok_or_else(|| wrong_mac(text))?;
    }
    if parts.next().is_some() {
        return Err(wrong_mac(text));
    }
    if bytes[0] & 1 == 1 || bytes == [0; 6] {
        return Err(format!(
            "{text} is not the address of one station: the lowest bit of the first byte must be 0"
        ));
    }
    Ok(bytes)
}

fn wrong_mac(text: &str) -> String {
    format!("'{text}' is no Ethernet address: one is like 02:00:00:00:00:01")
}

/// Reads an IP address.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match text.parse::<IpNet>() {
        Ok(net) => {
            format!("'{text}' has a prefix length; here is only the address, {}", net.addr())
        }
        Err(_) => format!("'{text}' is no IP address"),
    })
}

/// Reads an address, with its prefix length or without.
pub(super) fn address(text: &str) -> Result<(IpAddr, Option<u8>), String> {
    let wrong = || format!("'{text}' is no address: one is like 10.1.0.1/24 or fd00::1/64");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if length.is_some_and(|length| length > longest) {
        return Err(format!("'{text}': a prefix length is at most {longest}"));
    }
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} is not the address of one host"));
    }
    Ok((address, length))
}

/// Reads a network.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let net = match text {
        "default" => "0.0.0.0/0".parse(),
        text => text.parse(),
    };
    let net: IpNet =
        net.map_err(|_| format!("'{text}' is no network: one is like 10.1.0.0/24 or fd00::/64"))?;
    if net.trunc() != net {
        return Err(format!("{text} is an address in a network; the network is {}", net.trunc()));
    }
    Ok(net)
}

/// Reads a route, `NETWORK=ROUTER`.
pub(super) fn route(text: &str) -> Result<(IpNet, IpAddr), String> {
    let (net, via) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is no route: one is like 10.2.0.0/16=10.1.0.254"))?;
    let (via, mut net) = (ip(via.trim())?, network(net.trim())?);
    if text.starts_with("default=") && via.is_ipv6() {
        net = IpNet::V6(ipnet::Ipv6Net::default());
    }
    if net.addr().is_ipv4() != via.is_ipv4() {
        return Err(format!("'{text}' has a network and a router of different families"));
    }
    Ok((net, via))
}

/// Checks the name of a lab or a LAN.
pub(super) fn check_name(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with(['-', '.'])
    {
        return Ok(());
    }
    Err(format!(
        "'{text}' cannot be a name: names have 1 to 64 letters, digits, '-', '_' and '.', and begin \
         with none of '-' and '.'"
    ))
}

/// Checks the name of a node, which is a host name.
pub(super) fn check_host_name(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
    {
        return Ok(());
    }
    Err(format!(
        "'{text}' cannot be a host name: those have 1 to 63 letters, digits and '-', and no '-' at \
         an end"
    ))
}

/// Checks the name of an interface.
pub(super) fn check_interface_name(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    if (1..=15).contains(&text.len())
        && text.bytes().all(allowed)
        && !matches!(text, "." | ".." | "lo")
    {
        return Ok(());
    }
    Err(format!(
        "'{text}' cannot be the name of an interface: those have 1 to 15 visible characters, no '/' \
         and no ':'"
    ))
}

/// Checks a path that must stay in its folder.
pub(super) fn check_inner_path(text: &str) -> Result<(), String> {
    let mut parts = Path::new(text).components().peekable();
    let is_inner = parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !text.contains('\0');
    if is_inner && text.len() <= 1024 {
        return Ok(());
    }
    Err(format!("'{text}' is outside of the folder: a path here is relative and has no '..'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("30"), Ok(Duration::from_secs(30)));
        assert_eq!(time("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "s", "-1s", "1d", "nan", "inf", "1e300h", "25h", "ü"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("16M"), Ok(16 << 20));
        assert_eq!(size("4096"), Ok(4096));
        for text in ["", "M", "-1", "1T", "99999999999G", "1.5M", "ü"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn macs_are_of_one_station() {
        assert_eq!(mac("02:0:00:00:00:fF"), Ok([2, 0, 0, 0, 0, 255]));
        for text in [
            "",
            "02:00",
            "02:00:00:00:00:00:01",
            "01:00:00:00:00:00",
            "0:0:0:0:0:0",
            "+2:0:0:0:0:0",
        ] {
            assert!(mac(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_and_networks() {
        assert_eq!(address("10.0.0.1/24"), Ok(("10.0.0.1".parse().unwrap(), Some(24))));
        assert_eq!(address("fd00::1"), Ok(("fd00::1".parse().unwrap(), None)));
        for text in ["", "10.0.0.1/33", "10.0.0/24", "0.0.0.0/0", "224.0.0.1/4", "10.0.0.1/x"] {
            assert!(address(text).is_err(), "{text}");
        }
        assert_eq!(
            network("10.1.0.5/24").unwrap_err(),
            "10.1.0.5/24 is an address in a network; the network is 10.1.0.0/24"
        );
        assert_eq!(route("default=fd00::1").unwrap().0, "::/0".parse().unwrap());
        assert!(route("10.0.0.0/8=fd00::1").is_err());
        assert!(route("10.0.0.0/8").is_err());
    }

    #[test]
    fn names_and_paths() {
        assert!(check_name("r1-r2.x_y").is_ok());
        assert!(check_name("").is_err() && check_name(".x").is_err() && check_name("a b").is_err());
        assert!(check_host_name("r1").is_ok());
        assert!(check_host_name("r_1").is_err() && check_host_name("r1-").is_err());
        assert!(check_interface_name("eth0").is_ok());
        assert!(check_interface_name("lo").is_err() && check_interface_name("a/b").is_err());
        assert!(check_inner_path("etc/bird.conf").is_ok());
        for text in ["", "/etc/passwd", "../x", "a/../../x", "./a"] {
            assert!(check_inner_path(text).is_err(), "{text}");
        }
    }
}
