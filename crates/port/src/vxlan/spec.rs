//! The syntax of a VXLAN port, `vxlan:key=value,...`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use shmbus::MacAddr6;

use super::header::MAX_VNI;
use crate::error::ParsePortError;
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::keys::{Keys, refused};

const KEYS: [&str; 8] = ["vni", "local", "peers", "hosts", "group", "storm", "suppress", "mac"];

/// The UDP port of VXLAN.
pub const UDP_PORT: u16 = 4_789;
/// The most peers that are named.
const MAX_PEERS: usize = 1_024;
/// The most bytes of the name of a machine.
const MAX_HOST: usize = 63;

/// One end of a VXLAN as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VxlanSpec {
    /// The number of the VXLAN, of 24 bits.
    pub vni: u32,
    /// Where datagrams are received. The peers receive at the same UDP port unless they name another.
    pub local: SocketAddr,
    /// The other ends.
    pub peers: Vec<SocketAddr>,
    /// What the machines of the peers are called, in the same order; or empty.
    pub hosts: Vec<String>,
    /// The multicast group that the other ends are in, too.
    pub group: Option<IpAddr>,
    /// The most group frames a second that a remote may send to the bus; `None`: no limit.
    pub storm: Option<u32>,
    /// Whether questions for neighbors behind a remote are answered here, once the answer is known.
    pub suppress: bool,
    /// The address of its station on the bus; `None`: a random one.
    pub mac: Option<MacAddr6>,
    /// Whether the other ends receive only what they need, as from a switch.
    pub learn: bool,
    /// Which frames pass between the other ends and the bus.
    pub rules: FrameRules,
    /// What its link does to frames on purpose.
    pub impairments: Impairments,
}

impl VxlanSpec {
    /// Parses the settings of interface `vxlan<UNIT>`. Its VNI is its unit unless another is set.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no such setting, the setting does not take this value, two
    /// settings exclude each other, or one is missing.
    pub fn of_interface<'s>(
        unit: u32,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<Self, ParsePortError> {
        Self::new(&Keys::new("vxlan", &KEYS, settings)?, Some(unit).filter(|unit| *unit <= MAX_VNI))
    }

    /// Checks settings one by one, and not whether they make a whole.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no such setting, or the setting does not take this value.
    pub fn check_each<'s>(
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<(), ParsePortError> {
        let keys = Keys::new("vxlan", &KEYS, settings)?;
        let local = match keys.get("local") {
            Some(text) => address("local", text, UDP_PORT)?,
            // Any address of their family.
            None if keys.list("peers").chain(keys.get("group")).any(is_ipv6) => {
                (Ipv6Addr::LOCALHOST, UDP_PORT).into()
            }
            None => (Ipv4Addr::LOCALHOST, UDP_PORT).into(),
        };
        Self::read(&keys, 0, local).map(drop)
    }

    /// Reads the settings of an end whose VNI is `vni` unless another is given.
    fn new(keys: &Keys<'_>, vni: Option<u32>) -> Result<Self, ParsePortError> {
        let missing = |what| ParsePortError::Missing { kind: "vxlan", what };
        let vni = vni.or(keys.get("vni").and(Some(0))).ok_or_else(|| missing("vni=NUMBER"))?;
        let local = keys.get("local").ok_or_else(|| {
            missing("local=ADDRESS, the address of this machine that the peers send to")
        })?;
        let spec = Self::read(keys, vni, address("local", local, UDP_PORT)?)?;
        if spec.peers.is_empty() && spec.group.is_none() {
            return Err(missing("peers=ADDRESS,ADDRESS,... or group=ADDRESS"));
        }
        if !spec.hosts.is_empty() && spec.hosts.len() != spec.peers.len() {
            let problem = "it has a name for each of peers=, in the same order";
            return Err(refused("hosts", &spec.hosts.join(","), &problem));
        }
        Ok(spec)
    }

    /// Reads the settings of an end at `local`, which may still have no other ends.
    fn read(keys: &Keys<'_>, vni: u32, local: SocketAddr) -> Result<Self, ParsePortError> {
        let why = "it is an address of this machine";
        if local.ip().is_multicast() {
            return Err(refused("local", &local.ip().to_string(), &why));
        }
        let mut peers = Vec::new();
        for text in keys.list("peers") {
            let peer = address("peers", text, local.port())?;
            let problem = if peer.ip().is_unspecified() || peer.ip().is_multicast() {
                "a peer is one machine; group= takes an address of many"
            } else if peer.is_ipv4() != local.is_ipv4() {
                "peers and local= are all IPv4, or all IPv6"
            } else if peer.ip() == local.ip() {
                "it is the address of this end"
            } else if peers.iter().any(|other: &SocketAddr| other.ip() == peer.ip()) {
                "it is given twice"
            } else if peers.len() == MAX_PEERS {
                "there are too many peers"
            } else {
                peers.push(peer);
                continue;
            };
            return Err(refused("peers", text, &problem));
        }
        let hosts = keys.list("hosts").take(MAX_PEERS + 1).map(|text| host("hosts", text));
        let group = keys.get("group").map(|text| group(text, local)).transpose()?;
        if group.is_some() && local.ip().is_unspecified() {
            let problem = "with group= it is one address: what this end sends comes back to it, and is \
                           known by that";
            return Err(refused("local", &local.ip().to_string(), &problem));
        }
        Ok(Self {
            vni: keys.number("vni", vni, 0..=u64::from(MAX_VNI))?,
            local,
            peers,
            hosts: hosts.collect::<Result<_, _>>()?,
            group,
            storm: keys.limit("storm")?,
            suppress: keys.choice("suppress", &[("off", false), ("on", true)])?,
            mac: keys.mac("mac")?,
            // A frame for another machine costs more than the look at its address.
            learn: keys.choice("learn", &[("on", true), ("off", false)])?,
            rules: keys.frame_rules()?,
            impairments: keys.impairments()?,
        })
    }
}

/// Returns whether an address looks like one of IPv6.
fn is_ipv6(text: &str) -> bool {
    text.matches(':').count() > 1
}

/// Reads an address that may have a UDP port.
pub(crate) fn address(key: &str, text: &str, port: u16) -> Result<SocketAddr, ParsePortError> {
    let address = match text.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, port)),
        Err(_) => text.parse().ok(),
    };
    address.filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
        let problem = "it is an IP address, which may have a UDP port, such as 192.0.2.1, \
                       192.0.2.1:4790 or [2001:db8::1]:4790";
        refused(key, text, &problem)
    })
}

/// Reads the name of a machine.
pub(crate) fn host(key: &str, text: &str) -> Result<String, ParsePortError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !(1..=MAX_HOST).contains(&text.len()) || !text.chars().all(is_plain) {
        let problem =
            format!("the name of a machine has 1 to {MAX_HOST} letters, digits, '-', '_' and '.'");
        return Err(refused(key, text, &problem));
    }
    Ok(text.to_owned())
}

fn group(text: &str, local: SocketAddr) -> Result<IpAddr, ParsePortError> {
    let problem = match text.parse::<IpAddr>() {
        Ok(group) if group.is_multicast() && group.is_ipv4() == local.is_ipv4() => {
            return Ok(group);
        }
        Ok(group) if group.is_multicast() => "group= and local= are both IPv4, or both IPv6",
        _ => "it is a multicast address, such as 239.1.1.1 or ff05::100",
    };
    Err(refused("group", text, &problem))
}

impl FromStr for VxlanSpec {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        Self::new(&Keys::parse("vxlan", &KEYS, text)?, None)
    }
}

/// Writes the name of the port, such as `vxlan 42`.
impl fmt::Display for VxlanSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vxlan {}", self.vni)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<VxlanSpec, String> {
        text.parse::<VxlanSpec>().map_err(|error| error.to_string())
    }

    #[test]
    fn a_mesh_is_read() {
        let spec = parse("vni=42,local=10.0.0.1,peers=10.0.0.2,10.0.0.3:4790,storm=100").unwrap();
        assert_eq!((spec.vni, spec.local), (42, "10.0.0.1:4789".parse().unwrap()));
        let peers = ["10.0.0.2:4789", "10.0.0.3:4790"].map(|peer| peer.parse().unwrap());
        assert_eq!(spec.peers, peers);
        assert_eq!((spec.storm, spec.learn, spec.group), (Some(100), true, None));
        assert_eq!(spec.to_string(), "vxlan 42");
        let spec = parse("vni=0,local=[fd00::1]:5000,peers=fd00::2,[fd00::3]:5001").unwrap();
        let peers = ["[fd00::2]:5000", "[fd00::3]:5001"].map(|peer| peer.parse().unwrap());
        assert_eq!(spec.peers, peers);
        let spec =
            parse("vni=1,local=10.0.0.1,peers=10.0.0.2,10.0.0.3,hosts=attic,cellar").unwrap();
        assert_eq!(spec.hosts, ["attic", "cellar"]);
        let spec = parse("vni=1,local=10.0.0.1,group=239.1.1.1,learn=off").unwrap();
        assert_eq!((spec.group, spec.learn), (Some([239, 1, 1, 1].into()), false));
    }

    #[test]
    fn the_settings_of_an_interface_are_checked_one_by_one() {
        let settings = [("local", "10.0.0.1"), ("peers", "10.0.0.2,10.0.0.3")];
        let spec = VxlanSpec::of_interface(42, settings).unwrap();
        assert_eq!(spec, parse("vni=42,local=10.0.0.1,peers=10.0.0.2,10.0.0.3").unwrap());
        for setting in [
            ("peers", "10.0.0.2"),
            ("peers", "fd00::2,fd00::3"),
            ("group", "239.1.1.1"),
            ("group", "ff05::1"),
            ("local", "fd00::1"),
            ("suppress", "on"),
            ("delay", "10ms"),
        ] {
            assert!(VxlanSpec::check_each([setting]).is_ok(), "{setting:?}");
        }
        for setting in
            [("vni", "16777216"), ("peers", "x"), ("group", "10.0.0.1"), ("storm", "many")]
        {
            assert!(VxlanSpec::check_each([setting]).is_err(), "{setting:?}");
        }
        assert!(VxlanSpec::of_interface(42, [("peers", "10.0.0.2")]).is_err());
        assert!(VxlanSpec::of_interface(1 << 24, settings).is_err());
        let with_vni = settings.into_iter().chain([("vni", "7")]);
        assert_eq!(VxlanSpec::of_interface(1 << 24, with_vni).map(|spec| spec.vni).ok(), Some(7));
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, words) in [
            ("local=10.0.0.1,peers=10.0.0.2", "vni=NUMBER"),
            ("vni=1,peers=10.0.0.2", "local=ADDRESS"),
            ("vni=1,local=10.0.0.1", "peers=ADDRESS,ADDRESS,... or group=ADDRESS"),
            ("vni=16777216,local=10.0.0.1,peers=10.0.0.2", "from 0 to 16777215"),
            ("vni=1,local=host,peers=10.0.0.2", "local=host: it is an IP address"),
            ("vni=1,local=10.0.0.1:0,peers=10.0.0.2", "it is an IP address"),
            ("vni=1,local=239.1.1.1,peers=10.0.0.2", "it is an address of this machine"),
            ("vni=1,local=10.0.0.1,peers=10.0.0.1", "the address of this end"),
            ("vni=1,local=10.0.0.1,peers=10.0.0.2,10.0.0.2:5", "10.0.0.2:5: it is given twice"),
            ("vni=1,local=10.0.0.1,peers=239.1.1.1", "a peer is one machine"),
            ("vni=1,local=10.0.0.1,peers=fd00::1", "all IPv4, or all IPv6"),
            ("vni=1,local=10.0.0.1,group=10.0.0.2", "it is a multicast address"),
            ("vni=1,local=10.0.0.1,group=ff05::1", "both IPv4, or both IPv6"),
            ("vni=1,local=0.0.0.0,group=239.1.1.1", "with group= it is one address"),
            ("vni=1,local=10.0.0.1,peers=10.0.0.2,hosts=a,b", "hosts=a,b: it has a name for each"),
            ("vni=1,local=10.0.0.1,peers=10.0.0.2,hosts=a/b", "the name of a machine has"),
            ("vni=1,local=10.0.0.1,pers=10.0.0.2", "did you mean 'peers'?"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
