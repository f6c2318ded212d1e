//! The syntax of a socket port, `socket:key=value,...`.

use std::fmt;
use std::net::SocketAddr as InetAddr;
use std::os::fd::RawFd;
use std::str::FromStr;

use memif::{Role, SocketAddr};

use super::framing::Framing;
use crate::error::ParsePortError;
use crate::frame_rules::FrameRules;
use crate::impair::Impairments;
use crate::keys::{Keys, refused};

const KEYS: [&str; 9] =
    ["path", "tcp", "fd", "fd-out", "framing", "role", "peer", "clients", "mac"];

/// The most ports of one listening socket.
const MAX_CLIENTS: u64 = 1_024;

/// The descriptors of stdin and stdout.
pub(crate) const STDIN: RawFd = 0;
pub(crate) const STDOUT: RawFd = 1;

/// A socket as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketSpec {
    /// Where it is.
    pub place: Place,
    /// How frames are separated.
    pub framing: Framing,
    /// The address of its station on the bus; `None`: a random one.
    pub mac: Option<shmbus::MacAddr6>,
    /// Whether its peer receives only what it needs, as from a switch.
    pub learn: bool,
    /// Which frames pass between its peer and the bus.
    pub rules: FrameRules,
    /// What its link does to frames on purpose.
    pub impairments: Impairments,
    /// How many clients a server has room for, each on a port of its own.
    pub clients: u16,
    /// The number of this port among those of its server, from 1, once they are told apart.
    client: Option<u16>,
}

/// Where the other end of a socket port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket that is listened on or connected to.
    Unix {
        /// Its address.
        address: SocketAddr,
        /// Whether this end listens.
        role: Role,
    },
    /// Two Unix datagram sockets, one for each direction.
    Pair {
        /// The address that frames arrive at.
        local: SocketAddr,
        /// The address that frames are sent to.
        peer: SocketAddr,
    },
    /// A TCP socket.
    Tcp {
        /// Its address.
        address: InetAddr,
        /// Whether this end listens.
        role: Role,
    },
    /// Descriptors that this process was started with: a socket, or a pipe for each direction.
    Descriptors {
        /// The one that frames are read from.
        input: RawFd,
        /// The one that frames are written to, unless it is the same.
        output: Option<RawFd>,
    },
}

impl SocketSpec {
    /// Parses the settings of an interface.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no such setting, the setting does not take this value, or
    /// two settings exclude each other.
    pub fn of_interface<'s>(
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<Self, ParsePortError> {
        Self::new(&Keys::new("socket", &KEYS, settings)?)
    }

    /// Checks settings one by one, and not whether they make a whole.
    ///
    /// # Errors
    /// [`ParsePortError`] when there is no such setting, or the setting does not take this value.
    pub fn check_each<'s>(
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<(), ParsePortError> {
        let keys = Keys::new("socket", &KEYS, settings)?;
        let values = Values::read(&keys)?;
        for key in ["fd", "fd-out"] {
            if let Some(value) = keys.get(key) {
                let why = "a descriptor belongs to one process; give it to 'busctl attach'";
                return Err(refused(key, value, &why));
            }
        }
        if values.clients > 1 {
            let why = "each interface has one client; make another interface with the same path";
            return Err(refused("clients", &values.clients.to_string(), &why));
        }
        Ok(())
    }

    fn new(keys: &Keys<'_>) -> Result<Self, ParsePortError> {
        let Values { path, peer, tcp, input, output, framing, role, clients } = Values::read(keys)?;
        let given = |key: &str| keys.get(key).unwrap_or_default().to_owned();
        let refuse = |key: &str, why: &str| Err(refused(key, &given(key), &why));
        if usize::from(path.is_some()) + usize::from(tcp.is_some()) + usize::from(input.is_some())
            > 1
        {
            let key = if tcp.is_some() { "tcp" } else { "fd" };
            return refuse(key, "give one of path=, tcp= and fd=");
        }
        if peer.is_some() && (framing != Framing::Dgram || path.is_none()) {
            return refuse("peer", "it is for framing=dgram with path=");
        }
        if keys.get("role").is_some() && (peer.is_some() || input.is_some()) {
            return refuse("role", "with peer= or fd= no end listens");
        }
        if output.is_some() && (input.is_none() || !framing.is_stream()) {
            return refuse("fd-out", "it is for fd= with framing=qemu or framing=vde");
        }
        let place = match (path, tcp, input) {
            (Some(local), ..) => match peer {
                Some(peer) if peer == local => return refuse("peer", "it is the same as path="),
                Some(peer) => Place::Pair { local, peer },
                None => Place::Unix { address: local, role },
            },
            (_, Some(_), _) if framing != Framing::Qemu => {
                return refuse("framing", "a TCP connection carries framing=qemu only");
            }
            (_, Some(address), _) => Place::Tcp { address, role },
            (.., Some(input)) => Place::Descriptors { input, output },
            (None, None, None) => {
                return Err(ParsePortError::Missing {
                    kind: "socket",
                    what: "path=PATH, tcp=ADDRESS:PORT or fd=N",
                });
            }
        };
        let listens = place.role() == Some(Role::Server);
        if clients > 1 && (!listens || framing == Framing::Dgram) {
            return refuse("clients", "only a server that clients connect to has several");
        }
        if clients > 1 && keys.get("mac").is_some() {
            return refuse("mac", "with clients=N each port needs another address");
        }
        Ok(Self {
            place,
            framing,
            mac: keys.mac("mac")?,
            learn: keys.learn()?,
            rules: keys.frame_rules()?,
            impairments: keys.impairments()?,
            clients,
            client: None,
        })
    }

    /// Returns the same port for each client of the server.
    pub(crate) fn each_client(&self) -> impl Iterator<Item = Self> {
        let numbers = match (self.client, self.clients) {
            (Some(number), _) => number..=number,
            (None, clients) => 1..=clients,
        };
        numbers.map(|number| Self { client: Some(number), ..self.clone() })
    }

    /// Returns whether it reads stdin.
    pub(crate) fn takes_stdin(&self) -> bool {
        matches!(self.place, Place::Descriptors { input: STDIN, .. })
    }

    /// Returns whether it may write to stdout.
    pub(crate) fn takes_stdout(&self) -> bool {
        match self.place {
            Place::Descriptors { input, output } => {
                output.map_or(input == STDIN || input == STDOUT, |output| output == STDOUT)
            }
            _ => false,
        }
    }
}

/// The values of the keys, each on its own.
struct Values {
    path: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    tcp: Option<InetAddr>,
    input: Option<RawFd>,
    output: Option<RawFd>,
    framing: Framing,
    role: Role,
    clients: u16,
}

impl Values {
    fn read(keys: &Keys<'_>) -> Result<Self, ParsePortError> {
        let address = |key: &str| -> Result<Option<SocketAddr>, ParsePortError> {
            let Some(text) = keys.get(key) else { return Ok(None) };
            text.parse().map(Some).map_err(|error| refused(key, text, &error))
        };
        let tcp = keys.get("tcp").map(|text| {
            let why = "it is an address and a port, such as 127.0.0.1:5555 or [::1]:5555";
            text.parse().map_err(|_| refused("tcp", text, &why))
        });
        let descriptor = |key: &str| -> Result<Option<RawFd>, ParsePortError> {
            keys.get(key).map(|_| keys.number(key, 0, 0..=1 << 20)).transpose()
        };
        // Checked here, too, so that each setting of an interface is.
        keys.mac("mac")?;
        keys.learn()?;
        keys.frame_rules()?;
        keys.impairments()?;
        Ok(Self {
            path: address("path")?,
            peer: address("peer")?,
            tcp: tcp.transpose()?,
            input: descriptor("fd")?,
            output: descriptor("fd-out")?,
            framing: keys.choice(
                "framing",
                &[
                    ("qemu", Framing::Qemu),
                    ("packet", Framing::Packet),
                    ("dgram", Framing::Dgram),
                    ("vde", Framing::Vde),
                ],
            )?,
            role: keys.choice("role", &[("server", Role::Server), ("client", Role::Client)])?,
            clients: keys.number("clients", 1, 1..=MAX_CLIENTS)?,
        })
    }
}

impl Place {
    /// Returns whether this end listens or connects; `None` where neither does.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Unix { role, .. } | Self::Tcp { role, .. } => Some(*role),
            Self::Pair { .. } | Self::Descriptors { .. } => None,
        }
    }
}

/// Writes the default name of the port, such as `socket ./vm.sock`.
impl fmt::Display for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.place)?;
        match self.client {
            Some(number) if self.clients > 1 => write!(f, " client {number}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { address, .. } | Self::Pair { local: address, .. } => address.fmt(f),
            Self::Tcp { address, .. } => write!(f, "tcp {address}"),
            Self::Descriptors { input, .. } => write!(f, "fd {input}"),
        }
    }
}

impl FromStr for SocketSpec {
    type Err = ParsePortError;

    /// Parses what follows `socket:`.
    fn from_str(text: &str) -> Result<Self, ParsePortError> {
        Self::new(&Keys::parse("socket", &KEYS, text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SocketSpec, String> {
        text.parse().map_err(|error: ParsePortError| error.to_string())
    }

    #[test]
    fn a_server_with_qemus_framing_is_the_default() {
        let spec = parse("path=./vm.sock").expect("valid");
        assert!(matches!(spec.place, Place::Unix { role: Role::Server, .. }));
        assert_eq!((spec.framing, spec.clients), (Framing::Qemu, 1));
        assert_eq!(spec.to_string(), "socket ./vm.sock");
    }

    #[test]
    fn each_client_has_a_port() {
        let spec = parse("path=@lan,clients=3").expect("valid");
        let ports: Vec<_> = spec.each_client().collect();
        let names: Vec<_> = ports.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            ["@lan client 1", "@lan client 2", "@lan client 3"]
                .map(|name| format!("socket {name}"))
        );
        assert_eq!(ports[1].each_client().collect::<Vec<_>>(), [ports[1].clone()]);
    }

    #[test]
    fn standard_streams_are_taken() {
        for (text, takes) in [
            ("fd=0,framing=vde", (true, true)),
            ("fd=0,fd-out=3", (true, false)),
            ("fd=5", (false, false)),
            ("fd=5,fd-out=1", (false, true)),
            ("path=x", (false, false)),
        ] {
            let spec = parse(text).expect(text);
            assert_eq!((spec.takes_stdin(), spec.takes_stdout()), takes, "{text}");
        }
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        for (text, words) in [
            ("", "a socket port needs path=PATH, tcp=ADDRESS:PORT or fd=N"),
            ("./vm.sock", "'./vm.sock' is not key=value"),
            ("paht=x", "no key 'paht' (did you mean 'path'?)"),
            ("path=", "path=: "),
            ("path=x,fd=3", "fd=3: give one of path=, tcp= and fd="),
            ("path=x,tcp=127.0.0.1:1", "tcp=127.0.0.1:1: give one of"),
            ("path=x,framing=qmeu", "it is one of qemu, packet, dgram, vde (did you mean 'qemu'?)"),
            ("path=x,role=sever", "it is one of server, client (did you mean 'server'?)"),
            ("path=x,peer=y", "peer=y: it is for framing=dgram"),
            ("path=x,peer=x,framing=dgram", "peer=x: it is the same as path="),
            ("path=x,peer=y,framing=dgram,role=client", "role=client: with peer= or fd="),
            ("fd=3,role=client", "role=client: with peer= or fd="),
            ("fd=-1", "fd=-1: it is a number from 0"),
            ("path=x,fd-out=4", "fd-out=4: it is for fd="),
            ("tcp=localhost", "such as 127.0.0.1:5555"),
            ("tcp=127.0.0.1:5,framing=vde", "a TCP connection carries framing=qemu only"),
            ("path=x,clients=0", "clients=0: it is a number from 1 to 1024"),
            ("path=x,clients=2,role=client", "only a server that clients connect to"),
            ("path=x,clients=2,framing=dgram", "only a server that clients connect to"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn settings_of_an_interface_come_one_by_one() {
        for (key, value) in [("framing", "dgram"), ("peer", "/y"), ("path", "/x"), ("clients", "1")]
        {
            SocketSpec::check_each([(key, value)]).expect(key);
        }
        for (key, value, words) in [
            ("fd", "3", "give it to 'busctl attach'"),
            ("clients", "2", "make another interface with the same path"),
            ("framing", "x", "it is one of"),
            ("mac", "x", "mac=x: "),
        ] {
            let error = SocketSpec::check_each([(key, value)]).expect_err(key).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
