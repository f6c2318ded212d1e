//! The syntax of a memif port, `memif:key=value,...`, with DPDK's names for the keys.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use memif::{ClientOptions, InterfaceOptions, Mode, Role, RxMode, SocketAddr};

use crate::error::ParsePortError;
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::ip_peer::IpPeer;
use crate::keys::{Keys, refused};

/// Where VPP listens by default, and a memif port without `socket=`.
pub const DEFAULT_SOCKET: &str = "/run/vpp/memif.sock";

/// The bytes of the longest secret.
const MAX_SECRET: usize = 24;

/// How many queues each way a server lets a client have, unless it is configured. One would do, but
/// then the greatest index that a server announces is 0, and gomemif takes that for a count.
const SERVER_QUEUES: u8 = 2;

/// The keys that select the interface. An interface of a registry has these in its name.
const ADDRESS_KEYS: [&str; 3] = ["id", "socket", "socket-abstract"];
/// The keys that configure the interface.
const SETTINGS_KEYS: [&str; 14] = [
    "role",
    "bsize",
    "rsize",
    "rx-queues",
    "tx-queues",
    "secret",
    "mac",
    "mode",
    "zero-copy",
    "rx-mode",
    "name",
    "reconnect",
    "ip",
    "gateway",
];

/// A memif interface as it is configured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemifSpec {
    /// Whether it listens (server) or connects (client).
    pub role: Role,
    /// The socket.
    pub address: SocketAddr,
    /// What its packets are: Ethernet frames, or IP packets.
    pub mode: Mode,
    /// Who a peer in IP mode is on the LAN.
    pub ip_peer: IpPeer,
    /// Whether a thread that serves it polls, sleeps, or adapts.
    pub rx_mode: RxMode,
    /// The address of its station on the bus; `None`: a random one.
    pub mac: Option<shmbus::MacAddr6>,
    /// Whether its peer receives only what it needs, as from a switch.
    pub learn: bool,
    /// Which frames pass between its peer and the bus.
    pub rules: FrameRules,
    /// What its link does to frames on purpose.
    pub impairments: Impairments,
    /// The base-2 logarithm of the descriptors in a ring, 1 to 14.
    pub log2_ring_size: u8,
    /// The size of a buffer in bytes.
    pub buffer_size: u32,
    /// Whether peers need a secret. The secret itself cannot be read.
    pub has_secret: bool,
    /// The bytes of the secret, 0 for none.
    secret_len: usize,
    /// Whether `zero-copy=yes` was given. It changes nothing: a port always copies, once; its peer
    /// need not.
    pub zero_copy: bool,
    options: MemifOptions,
}

/// The library's options for an interface, by its role.
#[derive(Clone, Debug)]
pub enum MemifOptions {
    /// It connects.
    Client(ClientOptions),
    /// It is one of a server's.
    Interface(InterfaceOptions),
}

impl MemifOptions {
    /// Returns the interface's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        match self {
            Self::Client(options) => options.id(),
            Self::Interface(options) => options.id(),
        }
    }
}

impl MemifSpec {
    /// Parses the settings of the interface `id`, on the default socket unless it is
    /// [placed](Self::at) on another.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no such setting, or the setting does not take this value.
    pub fn of_interface<'s>(
        id: u32,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<Self, ParsePortError> {
        let keys = Keys::new("memif", &SETTINGS_KEYS, settings)?;
        Self::new(&keys, id, address(&keys)?)
    }

    /// Returns the same interface on another socket.
    #[must_use]
    pub fn at(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    fn new(keys: &Keys<'_>, id: u32, address: SocketAddr) -> Result<Self, ParsePortError> {
        let role = keys.choice(
            "role",
            &[
                ("server", Role::Server),
                ("client", Role::Client),
                ("master", Role::Server),
                ("slave", Role::Client),
            ],
        )?;
        let rx_mode = keys.choice(
            "rx-mode",
            &[
                ("adaptive", RxMode::Adaptive),
                ("polling", RxMode::Polling),
                ("interrupt", RxMode::Interrupt),
            ],
        )?;
        if let Some(word @ ("punt" | "punt-inject")) = keys.get("mode") {
            let problem = "its packets are those that a router hands to its own control plane, and \
                           no LAN's; take mode=ethernet or mode=ip";
            return Err(refused("mode", word, &problem));
        }
        let mode = keys.choice("mode", &[("ethernet", Mode::Ethernet), ("ip", Mode::Ip)])?;
        let zero_copy = keys.choice("zero-copy", &[("no", false), ("yes", true)])?;
        let log2_ring_size = keys.number("rsize", 10, 1..=14)?;
        let buffer_size = keys.number("bsize", 2_048, 64..=65_535)?;
        let mut interface = InterfaceOptions::new(id).mode(mode).rx_mode(rx_mode);
        let mut client = ClientOptions::new(id)
            .mode(mode)
            .rx_mode(rx_mode)
            .log2_ring_size(log2_ring_size)
            .buffer_size(buffer_size)
            .reconnect(Some(Duration::from_millis(keys.number(
                "reconnect",
                1_000,
                10..=3_600_000,
            )?)));
        let queues = match role {
            Role::Client => 1,
            Role::Server => SERVER_QUEUES,
        };
        let rx_queues = keys.number("rx-queues", queues, 1..=255)?;
        (client, interface) = (client.rx_queues(rx_queues), interface.rx_queues(rx_queues));
        let tx_queues = keys.number("tx-queues", queues, 1..=255)?;
        (client, interface) = (client.tx_queues(tx_queues), interface.tx_queues(tx_queues));
        if let Some(name) = keys.get("name") {
            (client, interface) = (client.name(name), interface.name(name));
        }
        let mut options = match role {
            Role::Client => MemifOptions::Client(client),
            Role::Server => MemifOptions::Interface(interface),
        };
        if let Some(secret) = keys.get("secret") {
            let secured = match options {
                MemifOptions::Client(options) => options.secret(secret).map(MemifOptions::Client),
                MemifOptions::Interface(options) => {
                    options.secret(secret).map(MemifOptions::Interface)
                }
            };
            options = secured.map_err(|error| refused("secret", "...", &error))?;
        }
        let (mac, has_secret) = (keys.mac("mac")?, keys.get("secret").is_some());
        let secret_len = keys.get("secret").map_or(0, str::len);
        let (learn, rules) = (keys.learn()?, keys.frame_rules()?);
        let impairments = keys.impairments()?;
        Ok(Self {
            role,
            address,
            mode,
            ip_peer: IpPeer::from_keys(keys)?,
            rx_mode,
            mac,
            learn,
            rules,
            impairments,
            log2_ring_size,
            buffer_size,
            has_secret,
            secret_len,
            zero_copy,
            options,
        })
    }

    /// Returns whether its peer may lead to other ports, and so back to the bus. What a peer in IP mode gets
    /// has lost its Ethernet header, and each hop behind it counts.
    #[must_use]
    pub fn joins(&self) -> bool {
        self.mode == Mode::Ethernet
    }

    /// Checks that it can be a port of a bus: that a peer in IP mode has addresses there, and no other
    /// peer.
    ///
    /// # Errors
    /// [`ParsePortError`] when it cannot.
    pub fn check_port(&self) -> Result<(), ParsePortError> {
        if self.mode != Mode::Ip {
            return self
                .refuse_addresses("only with mode=ip: other peers have addresses of their own");
        }
        if let Some(vlan) = &self.rules.vlan
            && !vlan.tags().eq([None])
        {
            let problem = "a peer in IP mode has no tags; put it into one VLAN, with vlan=N";
            return Err(refused("trunk", "...", &problem));
        }
        self.ip_peer.check()
    }

    /// Checks that it can be the interface of a host, or be dumped: these have their own addresses.
    ///
    /// # Errors
    /// [`ParsePortError`] when it is set up for a bus.
    pub fn check_alone(&self) -> Result<(), ParsePortError> {
        if let Some(mac) = self.mac.filter(|_| self.mode == Mode::Ip) {
            let problem = "IP packets alone have no Ethernet addresses";
            return Err(refused("mac", &mac.to_string(), &problem));
        }
        self.refuse_addresses("only for a port of a bus, as of 'busctl attach'")
    }

    fn refuse_addresses(&self, problem: &str) -> Result<(), ParsePortError> {
        let IpPeer { addresses, gateways } = &self.ip_peer;
        let address = addresses.first().map(|own| refused("ip", &own.to_string(), &problem));
        let gateway = || gateways.first().map(|own| refused("gateway", &own.to_string(), &problem));
        address.or_else(gateway).map_or(Ok(()), Err)
    }

    /// Returns what a user should know about settings that are accepted all the same.
    pub fn warnings(&self) -> impl Iterator<Item = &'static str> {
        let zero_copy = self.zero_copy.then_some(
            "zero-copy=yes changes nothing: this end always copies, once; the peer need not",
        );
        zero_copy.into_iter().chain(self.secret_warning())
    }

    /// Returns what a user should know about a secret of 24 bytes.
    #[must_use]
    pub fn secret_warning(&self) -> Option<&'static str> {
        (self.secret_len == MAX_SECRET).then_some(
            "a secret of 24 bytes matches neither libmemif nor a VPP client, which use 23 of them; only a VPP server compares all 24",
        )
    }

    /// Returns the library's options for it. Peers see `program` as the program's name, unless it
    /// is empty.
    #[must_use]
    pub fn options(&self, program: &str) -> MemifOptions {
        let options = self.options.clone();
        match options {
            _ if program.is_empty() => options,
            MemifOptions::Client(options) => MemifOptions::Client(options.app_name(program)),
            MemifOptions::Interface(options) => MemifOptions::Interface(options.app_name(program)),
        }
    }
}

/// Writes the default name of the port, such as `memif /run/vpp/memif.sock id 0`.
impl fmt::Display for MemifSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memif {} id {}", self.address, self.options.id())
    }
}

impl FromStr for MemifSpec {
    type Err = ParsePortError;

    /// Parses what follows `memif:`.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        let keys = Keys::parse("memif", &[&ADDRESS_KEYS[..], &SETTINGS_KEYS].concat(), text)?;
        Self::new(&keys, keys.number("id", 0, 0..=u32::MAX.into())?, address(&keys)?)
    }
}

/// Returns the socket: a path, or an abstract name, written `@name` or with DPDK's
/// `socket-abstract=yes`.
fn address(keys: &Keys<'_>) -> Result<SocketAddr, ParsePortError> {
    let socket = keys.get("socket").unwrap_or(DEFAULT_SOCKET);
    let address = if keys.choice("socket-abstract", &[("no", false), ("yes", true)])? {
        SocketAddr::abstract_name(socket.strip_prefix('@').unwrap_or(socket))
    } else {
        socket.parse()
    };
    address.map_err(|error| refused("socket", socket, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MemifSpec, String> {
        text.parse().map_err(|error: ParsePortError| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_a_server() {
        let spec = parse("").expect("nothing is needed");
        assert_eq!((spec.role, spec.options.id()), (Role::Server, 0));
        assert_eq!(spec.address.to_string(), DEFAULT_SOCKET);
    }

    #[test]
    fn a_port_in_ip_mode_has_addresses_on_the_bus_and_no_other_has() {
        let check =
            |text: &str| parse(text).expect(text).check_port().map_err(|error| error.to_string());
        let good = "mode=ip,ip=10.0.0.2/24,fd00::2/64,gateway=10.0.0.1,vlan=7";
        assert_eq!(check(good), Ok(()));
        assert_eq!(check(""), Ok(()));
        for (text, words) in [
            ("mode=ip", "a memif port needs ip=ADDR/LEN with mode=ip"),
            ("ip=10.0.0.2/24", "ip=10.0.0.2/24: only with mode=ip"),
            ("gateway=10.0.0.2", "gateway=10.0.0.2: only with mode=ip"),
            ("mode=ip,ip=10.0.0.2/24,trunk=7", "in IP mode has no tags"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let alone = |text: &str| parse(text).expect(text).check_alone().is_ok();
        assert!(alone("mode=ip") && alone("") && !alone(good));
    }

    #[test]
    fn abstract_sockets_are_written_in_two_ways() {
        let at = parse("role=client,id=7,socket=@lan").expect("valid");
        let key = parse("role=slave,id=7,socket=lan,socket-abstract=yes").expect("valid");
        assert_eq!((at.role, at.options.id()), (Role::Client, 7));
        assert_eq!(at.address, key.address);
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, words) in [
            ("id", "'id' is not key=value"),
            ("idd=3", "no key 'idd' (did you mean 'id'?)"),
            ("id=1,id=2", "'id' is given twice"),
            ("id=x", "id=x: it is a number from 0 to 4294967295"),
            ("rsize=15", "rsize=15: it is a number from 1 to 14"),
            ("role=sever", "it is one of server, client, master, slave (did you mean 'server'?)"),
            ("mode=l2", "mode=l2: it is one of ethernet, ip"),
            ("mode=punt-inject", "its packets are those that a router hands to its own control"),
            ("mode=ip,ip=10.0.0.2", "ip=10.0.0.2: it is an address with its network"),
            ("zero-copy=maybe", "zero-copy=maybe: it is one of no, yes"),
            ("mac=02:00", "mac=02:00: "),
            ("mac=01:00:5e:00:00:01", "it is no station's address"),
            ("socket=", "socket=: "),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let warnings = |text: &str| parse(text).expect(text).warnings().count();
        assert_eq!(warnings("secret=abcdefghijklmnopqrstuvw"), 0, "23 bytes match everywhere");
        assert_eq!(warnings("secret=abcdefghijklmnopqrstuvwx"), 1);
        assert_eq!(warnings("zero-copy=yes,secret=abcdefghijklmnopqrstuvwx"), 2);
        let secret = "a-secret-that-is-far-too-long";
        assert!(!parse(&format!("secret={secret}")).expect_err("too long").contains(secret));
    }
}
