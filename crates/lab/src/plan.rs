//! A lab with everything decided: no defaults, groups, counts or templates are left in it.
//!
//! A plan is what a lab file becomes when it is read, what the supervisor runs, and what two
//! versions of a lab are compared by. It is written and read as JSON.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its name: letters, digits, `-`, `_` and `.`, at most 64 bytes.
    pub name: String,
    /// The machines that run it, with different names; empty: any machine runs all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<Machine>,
    /// The machine whose part is run, of those; see [`on`](Self::on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<String>,
    /// Its LANs and links, with different names.
    pub lans: Vec<Lan>,
    /// Its nodes, with different names, in the order of the file.
    pub nodes: Vec<Node>,
    /// What must hold once all nodes are ready, in order.
    pub checks: Vec<Check>,
}

/// A machine that runs a part of a lab: a host of the lab file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Where it receives VXLAN: the UDP port is that of the first LAN with a [`Trunk`].
    pub address: Option<SocketAddr>,
    /// Zenoh's endpoints that its trunks connect to.
    pub connect: Vec<String>,
    /// Zenoh's endpoints that it is a router at.
    pub listen: Vec<String>,
    /// Zenoh's own configuration.
    pub config: Option<PathBuf>,
}

/// A bus that nodes are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lan {
    /// Its name, of the same characters as a lab's.
    pub name: String,
    /// Whether it is a link: a LAN of exactly two interfaces.
    pub is_link: bool,
    /// The size of its file in bytes.
    pub size: u64,
    /// Whether it has the format that rump kernels share. Otherwise it is of our own format.
    pub is_shmif: bool,
    /// What its interfaces do to frames, in the words of a port's keys, such as
    /// `delay=20ms,loss=1%`; empty: nothing.
    pub impair: String,
    /// Where all its frames are written; a relative path begins in the lab's folder.
    pub capture: Option<PathBuf>,
    /// Which frames are written there, in the language of `tcpdump`; empty: all.
    #[serde(default)]
    pub filter: String,
    /// What joins its parts, if its nodes are on several machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<Trunk>,
}

/// What joins the parts of a LAN: a port on each machine that has nodes on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// Its name, made of those of the lab and the LAN.
    pub name: String,
    /// How frames travel.
    pub via: Via,
    /// The number of its VXLAN, from 1 to 2^24 - 1. No other LAN of the lab has it.
    pub vni: u32,
    /// What is added to the UDP port of each machine.
    pub offset: u16,
    /// The machines that have nodes on the LAN: at least two, in the order of [`Plan::machines`].
    pub machines: Vec<String>,
}

/// How frames travel between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// By VXLAN between the addresses of the machines.
    Vxlan,
    /// By trunk ports, which find each other through Zenoh.
    Trunk,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name: a host name of at most 63 letters, digits and `-`.
    pub name: String,
    /// The machine that runs it, where a lab has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Its interfaces, which are `eth0`, `eth1` and so on inside unless they have other names.
    pub interfaces: Vec<Interface>,
    /// Variables in the environment of all its commands.
    pub env: BTreeMap<String, String>,
    /// Files in its scratch folder, which is the working folder of its commands.
    pub files: Vec<File>,
    /// Commands for `sh -c` that run one after the other, before its services. One that fails ends
    /// the start of the lab.
    pub exec: Vec<String>,
    /// Commands that run as long as the lab.
    pub services: Vec<Service>,
    /// What must hold before it is ready, beside what its kind asks for.
    pub ready: Vec<Ready>,
    /// How long it may take to be ready.
    pub ready_within: Duration,
    /// The nodes that are ready before this one is started; no node is behind itself.
    pub after: Vec<String>,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Kind {
    /// A network namespace with a TAP on each LAN.
    Run(Run),
    /// A small IP host in the supervisor.
    Host(Host),
    /// A memif interface for a program such as VPP.
    Memif(Memif),
    /// A virtual machine under QEMU.
    Vm(Vm),
    /// The internet, by passt.
    Internet,
    /// A rump kernel, or several: processes that open the bus files themselves.
    Rump,
    /// Processes that are told the paths of the buses: `$BUS_` and the LAN's name, with `_` for what
    /// no variable's name has.
    Process,
    /// Another bus, such as that of another lab, joined to the LAN.
    Bus(PathBuf),
    /// A capture file that is played onto the LAN.
    Pcap(PathBuf),
}

impl Kind {
    /// Returns the word of a lab file for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Host(_) => "host",
            Self::Memif(_) => "memif",
            Self::Vm(_) => "vm",
            Self::Internet => "internet",
            Self::Rump => "rump",
            Self::Process => "process",
            Self::Bus(_) => "bus",
            Self::Pcap(_) => "pcap",
        }
    }
}

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its routes; a default route is 0.0.0.0/0 or `::/0`.
    pub routes: Vec<Route>,
    /// Its name servers.
    pub dns: Vec<IpAddr>,
    /// Whether it forwards packets between its interfaces.
    pub forward: bool,
    /// Kernel settings such as `net.ipv4.ip_forward`, set in the namespace.
    pub sysctl: BTreeMap<String, String>,
}

/// A route of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The destination.
    pub network: IpNet,
    /// The router, of the same family.
    pub via: IpAddr,
}

/// A small IP host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its routers, at most one for each family.
    pub gateways: Vec<IpAddr>,
    /// Whether it gets an IPv4 address by DHCP.
    pub dhcp: bool,
    /// Whether it gets IPv6 addresses from routers.
    pub slaac: bool,
    /// A TCP port that takes whatever comes.
    pub tcp_sink: Option<u16>,
}

/// A memif interface. It has exactly one LAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memif {
    /// Whether the lab's end is the server, which makes the socket.
    pub is_server: bool,
    /// The socket: absolute, or in the node's scratch folder. `@` begins an abstract name.
    pub socket: PathBuf,
    /// The id of the interface on the socket.
    pub id: u32,
    /// Further keys of the port, such as `rings=1,queues=2`; empty: none.
    pub keys: String,
}

/// A virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// The program.
    pub program: PathBuf,
    /// Its memory in MiB.
    pub memory: u32,
    /// A kernel that is started directly.
    pub kernel: Option<PathBuf>,
    /// The initial file system of that kernel.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub append: String,
    /// A disk image, which is not written.
    pub disk: Option<PathBuf>,
    /// Further arguments of the program.
    pub arguments: Vec<String>,
}

/// An interface of a node on a LAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The name of the LAN.
    pub lan: String,
    /// Its name in the node.
    pub name: String,
    /// Its Ethernet address, which is the same each time that the lab is started.
    pub mac: [u8; 6],
    /// The longest packet in bytes; `None`: what the LAN carries.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// What it does to frames, as [`Lan::impair`], which it replaces; `None`: what the LAN says.
    pub impair: Option<String>,
    /// Further keys of its port, such as `vlan=7`; empty: none.
    pub keys: String,
}

/// A file in a node's scratch folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its path below the scratch folder, without `..`.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
    /// Whether it can be run.
    pub is_executable: bool,
}

/// A command that runs as long as the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name, which is that of its log, too; unique in the node.
    pub name: String,
    /// What `sh -c` runs.
    pub command: String,
    /// When it is started again.
    pub restart: Restart,
}

/// When a command that has ended is started again. There is a pause before, which grows from 0.1 to
/// 10 seconds while the command keeps ending early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never. A service that fails is reported.
    #[default]
    No,
    /// When it fails.
    OnFailure,
    /// Whenever it ends.
    Always,
}

/// What must hold before a node is ready. It is tried again until it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Ready {
    /// A command for `sh -c` in the node ends with exit code 0.
    Exec(String),
    /// Something listens on this TCP port in the node.
    Tcp(u16),
    /// This file exists; a relative path begins in the scratch folder.
    File(PathBuf),
    /// A line of a log of the node has this text in it.
    Log(String),
    /// A memif peer is connected.
    Connected,
}

/// What must hold in a lab that is up. It is tried again until it does, or its time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What the user calls it.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// How long it may take in all.
    pub within: Duration,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Action {
    /// Runs a command for `sh -c`, which must end with exit code 0 (or not, if `fails`).
    Exec {
        /// The node it runs in: its namespace, or just its environment for kinds without one.
        node: String,
        /// The command.
        command: String,
        /// What its stdout must contain; empty: anything.
        output: String,
        /// Whether it must fail instead.
        fails: bool,
    },
    /// Pings from a `host` node.
    Ping {
        /// The `host` node.
        node: String,
        /// The address.
        target: IpAddr,
        /// Whether there must be no answer.
        fails: bool,
    },
    /// Changes a link, which counts as done when it is.
    Set {
        /// The LAN, or `NODE:INTERFACE`.
        link: String,
        /// Keys such as `delay=20ms` or `partition=on`.
        impair: String,
    },
}
