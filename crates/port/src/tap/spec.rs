//! The syntax of a TAP port, `tap:key=value,...`.

use std::str::FromStr;

use netif::{IpNet, NetNamespace, NetifError};
use shmbus::MacAddr6;
use tapdev::MAX_NAME;

use crate::error::ParsePortError;
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::keys::{Keys, refused};

const KEYS: [&str; 8] = ["name", "mac", "offload", "ip", "up", "netns", "pid", "queues"];

/// The most queues of a TAP interface in the kernel.
const MAX_QUEUES: u64 = 256;

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
    /// Which frames pass between the kernel and the bus. The MTU is also that of the interface.
    pub rules: FrameRules,
    /// What its link does to frames on purpose.
    pub impairments: Impairments,
    /// The IP addresses that the interface gets.
    pub addresses: Vec<IpNet>,
    /// Whether the interface is set up.
    pub up: bool,
    /// The network namespace that the interface is in; `None`: that of the process.
    pub namespace: Option<Namespace>,
    /// How many queues the interface has, each a port of its own.
    pub queues: u16,
}

/// A network namespace as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// The name that `ip netns add` gave it, or a path.
    Named(String),
    /// That of a process.
    OfProcess(u32),
}

impl Namespace {
    /// Opens the namespace.
    pub(super) fn open(&self) -> Result<NetNamespace, NetifError> {
        match self {
            Self::Named(name) => NetNamespace::named(name),
            Self::OfProcess(pid) => NetNamespace::of_process(*pid),
        }
    }
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
        Ok(Self {
            name: name.to_owned(),
            mac,
            offload,
            learn: keys.learn()?,
            rules: keys.frame_rules()?,
            impairments: keys.impairments()?,
            addresses: keys.networks("ip")?,
            up: keys.choice("up", &[("off", false), ("on", true)])?,
            namespace: namespace(keys)?,
            queues: keys.number("queues", 1, 1..=MAX_QUEUES)?,
        })
    }
}

fn namespace(keys: &Keys<'_>) -> Result<Option<Namespace>, ParsePortError> {
    match (keys.get("netns"), keys.get("pid")) {
        (None, None) => Ok(None),
        (Some(""), None) => {
            Err(refused("netns", "", &"it is a name of 'ip netns list', or a path"))
        }
        (Some(name), None) => Ok(Some(Namespace::Named(name.to_owned()))),
        (None, Some(_)) => keys
            .number("pid", 0, 1..=i32::MAX.unsigned_abs().into())
            .map(|pid| Some(Namespace::OfProcess(pid))),
        (Some(_), Some(pid)) => Err(refused(
            "pid",
            pid,
            &"netns= is given, too, and the interface is in one network namespace",
        )),
    }
}

impl FromStr for TapSpec {
    type Err = ParsePortError;

    /// Parses what follows `tap:`. Every key has a default; the name may come first, without its
    /// key.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let (first, rest) = text.split_once(',').unwrap_or((text, ""));
        if first.is_empty() || first.contains('=') {
            return Self::new(&Keys::parse("tap", &KEYS, text)?, "tap0");
        }
        let keys = Keys::parse("tap", &KEYS, rest)?;
        match keys.get("name") {
            None => Self::new(&keys, first),
            Some(_) => Err(ParsePortError::Twice("name".to_owned())),
        }
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
            Ok(TapSpec {
                name: "tap0".to_owned(),
                mac: None,
                offload: true,
                learn: false,
                rules: FrameRules::default(),
                impairments: Impairments::default(),
                addresses: Vec::new(),
                up: false,
                namespace: None,
                queues: 1,
            })
        );
    }

    #[test]
    fn all_keys_are_read() {
        let spec =
            parse("name=lan,mac=02:00:00:00:00:07,offload=off,learn=on,queues=4").expect("valid");
        assert_eq!(spec.queues, 4);
        assert_eq!((spec.name.as_str(), spec.offload, spec.learn), ("lan", false, true));
        assert_eq!(spec.mac, Some(MacAddr6::new(2, 0, 0, 0, 0, 7)));
    }

    #[test]
    fn the_name_may_come_first() {
        assert_eq!(parse("lan").expect("valid").name, "lan");
        let spec = parse("lan,ip=10.0.0.1/24,fd00::1/64,up=on,mtu=1400,pid=7").expect("valid");
        assert_eq!((spec.name.as_str(), spec.up, spec.rules.mtu), ("lan", true, Some(1_400)));
        let addresses: Vec<String> = spec.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1/24", "fd00::1/64"]);
        assert_eq!(spec.namespace, Some(Namespace::OfProcess(7)));
        let spec = parse("netns=blue,ip=10.0.0.1/24,ip=10.0.0.2/24").expect("valid");
        assert_eq!((spec.name.as_str(), spec.addresses.len()), ("tap0", 2));
        assert_eq!(spec.namespace, Some(Namespace::Named("blue".to_owned())));
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, words) in [
            ("mac=02:00:00:00:00:07,tap0", "'tap0' is not key=value"),
            ("tap0,name=tap1", "'name' is given twice"),
            ("a/b", "a name has 1 to 15 bytes"),
            ("ip=10.0.0.1", "ip=10.0.0.1: it is an address with its network"),
            ("ip=10.0.0.1/24,10.0.0.2", "ip=10.0.0.2: it is an address"),
            ("up=yes", "it is one of off, on"),
            ("pid=0", "pid=0: it is a number from 1"),
            ("pid=1,netns=blue", "netns= is given, too"),
            ("netns=", "a name of 'ip netns list'"),
            ("nmae=tap0", "a tap port has no key 'nmae' (did you mean 'name'?)"),
            ("name=", "a name has 1 to 15 bytes"),
            ("queues=0", "queues=0: it is a number from 1 to 256"),
            ("queues=257", "queues=257: it is a number from 1 to 256"),
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
