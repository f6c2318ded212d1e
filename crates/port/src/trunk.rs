//! The syntax of a trunk port, `trunk:NAME,key=value,...`.
//!
//! A trunk joins buses of machines that find each other through Zenoh. Another crate opens it, so that
//! programs without trunks need no Zenoh: see [`PortOptions::trunks`](crate::PortOptions::trunks).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use shmbus::MacAddr6;

use crate::error::{ParsePortError, PortError};
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::keys::{Keys, refused};
use crate::port::Port;
use crate::vxlan::{MAX_VNI, UDP_PORT, address, host, vni_of};

const KEYS: [&str; 10] =
    ["connect", "listen", "via", "config", "vni", "local", "host", "storm", "suppress", "mac"];

/// The most bytes of a trunk's name.
pub const MAX_NAME: usize = 64;
/// The most endpoints of one key.
const MAX_ENDPOINTS: usize = 16;

/// Opens the trunk port that has a name.
pub type OpenTrunk = fn(&TrunkSpec, String) -> Result<Box<dyn Port>, PortError>;

/// One end of a trunk as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrunkSpec {
    /// The name that all ends of the trunk share: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Zenoh's endpoints that this end connects to, such as `tcp/192.0.2.1:7447`.
    pub connect: Vec<String>,
    /// Zenoh's endpoints that this end is a router at.
    pub listen: Vec<String>,
    /// Which way frames take.
    pub via: Via,
    /// Zenoh's own configuration.
    pub config: Option<PathBuf>,
    /// The number of the VXLAN between ends that reach each other, of 24 bits.
    pub vni: u32,
    /// The address that other ends send datagrams to; `None`: the one that leads to the others.
    pub local: Option<IpAddr>,
    /// The UDP port there; `None`: VXLAN's, or any when that is in use.
    pub port: Option<u16>,
    /// What the other ends show this machine as; `None`: what it calls itself.
    pub host: Option<String>,
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

/// Which way the frames of a trunk take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// In VXLAN's datagrams to ends that these reach, and in Zenoh's messages to the others.
    #[default]
    Auto,
    /// In VXLAN's datagrams only.
    Vxlan,
    /// In Zenoh's messages only.
    Zenoh,
}

impl TrunkSpec {
    /// Parses the settings of the interface `interface`. That is also the trunk's name, unless `name` is
    /// set.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no such setting, or the setting does not take this value.
    pub fn of_interface<'s>(
        interface: &str,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<Self, ParsePortError> {
        let known: Vec<&str> = ["name"].into_iter().chain(KEYS).collect();
        let keys = Keys::new("trunk", &known, settings)?;
        Self::new(keys.get("name").unwrap_or(interface), &keys)
    }

    fn new(name: &str, keys: &Keys<'_>) -> Result<Self, ParsePortError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
            let problem =
                format!("a trunk's name has 1 to {MAX_NAME} letters, digits, '-', '_' and '.'");
            return Err(refused("name", name, &problem));
        }
        let endpoints = |key: &str| -> Result<Vec<String>, ParsePortError> {
            let each = keys.list(key).take(MAX_ENDPOINTS + 1).enumerate();
            each.map(|(number, text)| {
                let parts = text.split_once('/').filter(|(protocol, place)| {
                    !protocol.is_empty() && !place.is_empty() && number < MAX_ENDPOINTS
                });
                parts.map(|_| text.to_owned()).ok_or_else(|| {
                    let problem = format!(
                        "it is an endpoint of Zenoh, such as tcp/192.0.2.1:7447, or up to \
                         {MAX_ENDPOINTS} with commas between"
                    );
                    refused(key, text, &problem)
                })
            })
            .collect()
        };
        let via = [("auto", Via::Auto), ("vxlan", Via::Vxlan), ("zenoh", Via::Zenoh)];
        let (local, port) = match keys.get("local") {
            None => (None, None),
            Some(text) => {
                let local = address("local", text, UDP_PORT)?;
                let problem = "it is one address of this machine, which the other ends send to";
                if local.ip().is_unspecified() || local.ip().is_multicast() {
                    return Err(refused("local", text, &problem));
                }
                let has_port = text.parse::<IpAddr>().is_err();
                (Some(local.ip()), has_port.then_some(local.port()))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            connect: endpoints("connect")?,
            listen: endpoints("listen")?,
            via: keys.choice("via", &via)?,
            config: keys.get("config").map(PathBuf::from),
            vni: keys.number("vni", vni_of(name), 0..=u64::from(MAX_VNI))?,
            local,
            port,
            host: keys.get("host").map(|text| host("host", text)).transpose()?,
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

impl FromStr for TrunkSpec {
    type Err = ParsePortError;

    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let (name, keys) = text.split_once(',').unwrap_or((text, ""));
        if name.is_empty() || name.contains('=') {
            let what = "NAME, which its ends share, as in trunk:lab,connect=tcp/192.0.2.1:7447";
            return Err(ParsePortError::Missing { kind: "trunk", what });
        }
        Self::new(name, &Keys::parse("trunk", &KEYS, keys)?)
    }
}

/// Writes the name of the port, such as `trunk lab`.
impl fmt::Display for TrunkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trunk {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TrunkSpec, String> {
        text.parse::<TrunkSpec>().map_err(|error| error.to_string())
    }

    #[test]
    fn an_end_is_read() {
        let spec = parse("lab").unwrap();
        assert_eq!(
            (spec.to_string(), spec.via, spec.learn),
            ("trunk lab".to_owned(), Via::Auto, true)
        );
        assert_eq!((spec.local, spec.port, spec.connect.len()), (None, None, 0));
        assert_eq!(spec.vni, parse("lab,via=zenoh").unwrap().vni, "all ends agree");
        assert_ne!(spec.vni, parse("lab2").unwrap().vni);
        let spec =
            parse("lab,connect=tcp/a:7447,tls/b:7448,listen=tcp/[::1]:1,vni=42,local=10.0.0.1")
                .unwrap();
        assert_eq!(spec.connect, ["tcp/a:7447", "tls/b:7448"]);
        assert_eq!((spec.listen.len(), spec.vni), (1, 42));
        assert_eq!((spec.local, spec.port), (Some([10, 0, 0, 1].into()), None));
        assert_eq!(parse("lab,host=attic").unwrap().host.as_deref(), Some("attic"));
        let spec = parse("lab,local=[fd00::1]:4790,storm=100,config=a.json5,learn=off").unwrap();
        assert_eq!((spec.local, spec.port), (Some("fd00::1".parse().unwrap()), Some(4_790)));
        assert_eq!(
            (spec.storm, spec.config, spec.learn),
            (Some(100), Some("a.json5".into()), false)
        );
    }

    #[test]
    fn an_interface_is_a_trunk_of_its_name() {
        let settings = [("connect", "tcp/a:7447,tls/b:7448"), ("via", "zenoh")];
        let spec = TrunkSpec::of_interface("trunk0", settings).unwrap();
        assert_eq!(spec, parse("trunk0,connect=tcp/a:7447,tls/b:7448,via=zenoh").unwrap());
        let spec = TrunkSpec::of_interface("trunk0", [("name", "lab")]).unwrap();
        assert_eq!(spec, parse("lab").unwrap());
        for setting in [("name", "a/b"), ("via", "udp"), ("nmae", "lab")] {
            assert!(TrunkSpec::of_interface("trunk0", [setting]).is_err(), "{setting:?}");
        }
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, words) in [
            ("", "a trunk port needs NAME"),
            ("connect=tcp/a:1", "a trunk port needs NAME"),
            ("a/b", "name=a/b: a trunk's name has 1 to 64 letters"),
            ("a*", "a trunk's name has"),
            ("lab,connect=host:7447", "connect=host:7447: it is an endpoint of Zenoh"),
            ("lab,connect=tcp/", "it is an endpoint of Zenoh"),
            ("lab,via=udp", "via=udp: it is one of auto, vxlan, zenoh"),
            ("lab,vni=16777216", "from 0 to 16777215"),
            ("lab,local=0.0.0.0", "it is one address of this machine"),
            ("lab,host=a/b", "host=a/b: the name of a machine has"),
            ("lab,local=x", "local=x: it is an IP address"),
            ("lab,lisen=tcp/a:1", "did you mean 'listen'?"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let many = vec!["tcp/a:1"; 17].join(",");
        assert!(parse(&format!("lab,connect={many}")).is_err());
    }
}
