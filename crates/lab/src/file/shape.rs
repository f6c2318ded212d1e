//! The keys of a lab file: what reading checks a file against, and what the JSON schema says.

/// What a value may be. A text may be a template wherever a number or `true` may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// A text.
    Text,
    /// `true` or `false`.
    Bool,
    /// An integer.
    Integer,
    /// A text, a number, `true` or `false`.
    Scalar,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list.
    List(&'static Form),
    /// A value, or a list of such values.
    Some(&'static Form),
    /// A text, or a table.
    TextOr(&'static Keys),
    /// A table with these keys.
    Table(&'static Keys),
    /// A table with any names as keys.
    Map(&'static Form),
}

/// A kind of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KindName {
    Run,
    Host,
    Memif,
    Vm,
    Internet,
    Rump,
    Process,
    Bus,
    Pcap,
}

impl KindName {
    /// All kinds, in the order in which they are listed to users.
    pub(crate) const ALL: [(&'static str, Self); 9] = [
        ("run", Self::Run),
        ("host", Self::Host),
        ("memif", Self::Memif),
        ("vm", Self::Vm),
        ("internet", Self::Internet),
        ("rump", Self::Rump),
        ("process", Self::Process),
        ("bus", Self::Bus),
        ("pcap", Self::Pcap),
    ];

    /// Returns the word of a file for it.
    pub(crate) fn word(self) -> &'static str {
        KIND_WORDS[self as usize]
    }

    /// Returns whether nodes of this kind run commands.
    pub(crate) fn has_commands(self) -> bool {
        COMMANDS.contains(&self)
    }

    /// Returns whether it is on exactly one LAN.
    pub(crate) fn is_on_one_lan(self) -> bool {
        matches!(self, Self::Host | Self::Memif | Self::Internet | Self::Bus | Self::Pcap)
    }

    /// Returns whether its interfaces have addresses.
    pub(crate) fn has_addresses(self) -> bool {
        ADDRESSED.contains(&self)
    }
}

/// The words of [`KindName::ALL`].
const KIND_WORDS: &[&str] =
    &["run", "host", "memif", "vm", "internet", "rump", "process", "bus", "pcap"];

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// The kinds of nodes that have it; empty: all.
    pub(crate) kinds: &'static [KindName],
    /// Whether only the thing itself may have it, and not its defaults or groups.
    pub(crate) is_own: bool,
    /// What it means: a sentence.
    pub(crate) says: &'static str,
}

/// The keys of a table.
#[derive(Debug)]
pub(crate) struct Keys {
    /// What such a table is, such as `a node`.
    pub(crate) title: &'static str,
    pub(crate) list: &'static [Key],
    /// Whether it takes the words of impairments as keys, too.
    pub(crate) impairs: bool,
    /// Whether it is what a thing gets from defaults or a group.
    pub(crate) is_layer: bool,
}

impl Keys {
    /// Returns the keys that such a table may have, without the words of impairments.
    pub(crate) fn allowed(&self) -> impl Iterator<Item = &'static Key> {
        let is_layer = self.is_layer;
        self.list.iter().filter(move |key| !(is_layer && key.is_own))
    }
}

/// The words of impairments, in the order in which a plan has them.
pub(crate) const IMPAIRMENTS: &[(&str, &str)] = &[
    ("delay", "How long each frame is held back, such as \"20ms\"."),
    ("jitter", "How much the delay varies to both sides, such as \"5ms\"."),
    ("distribution", "How the jitter is distributed: uniform, normal, pareto or paretonormal."),
    ("loss", "How many frames are lost, such as \"1%\"."),
    ("loss-state", "Loss by a Markov chain of four states: p13 p31 p32 p23 p14."),
    ("gemodel", "Loss by the model of Gilbert and Elliott: p r 1-h 1-k."),
    ("corrupt", "How many frames get one wrong bit, such as \"0.1%\"."),
    ("duplicate", "How many frames come twice, such as \"1%\"."),
    ("reorder", "How many frames overtake the delayed ones, such as \"25%\"."),
    ("gap", "With reorder: every how many frames one may overtake."),
    ("rate", "The most that passes, such as \"10mbit\"."),
    ("overhead", "The bytes that rate counts beside each frame."),
    ("limit", "How many frames wait at most."),
    ("seed", "What chance begins with: the same seed and traffic give the same decisions."),
    ("flap", "How long it is up and down in turn, such as \"10s/2s\"."),
    ("partition", "Whether nothing passes: on or off."),
];

use KindName::{Bus, Host, Memif, Pcap, Process, Rump, Run, Vm};

const COMMANDS: &[KindName] = &[Run, Memif, Vm, Rump, Process];
const ADDRESSED: &[KindName] = &[Run, Host, Memif, Vm, Rump, Process];

const TEXTS: Form = Form::Some(&Form::Text);
const SCALARS: Form = Form::Map(&Form::Scalar);

/// A key that every kind has.
const fn key(name: &'static str, form: Form, says: &'static str) -> Key {
    Key { name, form, kinds: &[], is_own: false, says }
}

/// A key of some kinds of nodes.
const fn of(kinds: &'static [KindName], name: &'static str, form: Form, says: &'static str) -> Key {
    Key { name, form, kinds, is_own: false, says }
}

/// A key that defaults and groups do not have.
const fn own(name: &'static str, form: Form, says: &'static str) -> Key {
    Key { name, form, kinds: &[], is_own: true, says }
}

/// A table that is none of the special ones.
const fn table(title: &'static str, keys: &'static [Key]) -> Keys {
    Keys { title, list: keys, impairs: false, is_layer: false }
}

/// The whole file.
pub(crate) static FILE: Keys = table(
    "a lab file",
    &[
        key("name", Form::Text, "The name of the lab; otherwise that of the file."),
        key("vars", SCALARS, "Values for templates, as vars.NAME."),
        key(
            "host",
            Form::Map(&Form::Table(&MACHINE)),
            "The machines that run a part each, by name.",
        ),
        key("defaults", Form::Table(&DEFAULTS), "Keys for all LANs, links, and nodes of a kind."),
        key("lan", Form::Map(&Form::Table(&LAN)), "The LANs, by name."),
        key("link", Form::Map(&Form::Table(&LINK)), "The links between two interfaces, by name."),
        key("group", Form::Map(&Form::Table(&NODE_LAYER)), "Keys for the nodes of a group."),
        key("node", Form::Map(&Form::Table(&NODE)), "The nodes, by name."),
        key(
            "check",
            Form::List(&Form::Table(&CHECK)),
            "What must hold once all nodes are ready, in this order.",
        ),
    ],
);

static DEFAULTS: Keys = table(
    "the defaults",
    &[
        key("lan", Form::Table(&LAN_LAYER), "Keys for all LANs."),
        key("link", Form::Table(&LINK_LAYER), "Keys for all links."),
        key("run", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind run."),
        key("host", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind host."),
        key("memif", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind memif."),
        key("vm", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind vm."),
        key("internet", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind internet."),
        key("rump", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind rump."),
        key("process", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind process."),
        key("bus", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind bus."),
        key("pcap", Form::Table(&NODE_LAYER), "Keys for all nodes of the kind pcap."),
    ],
);

static MACHINE: Keys = table(
    "a host",
    &[
        key("address", Form::Text, "Its address for the others, as 192.0.2.1 or 192.0.2.1:4789."),
        key("connect", TEXTS, "Zenoh's endpoints that it connects to, as tcp/192.0.2.1:7447."),
        key("listen", TEXTS, "Zenoh's endpoints that it is a router at, as tcp/192.0.2.1:7447."),
        key("config", Form::Text, "A file of Zenoh's own configuration."),
    ],
);

const VIA: Form = Form::Word(&["vxlan", "trunk"]);

const LAN_KEYS: &[Key] = &[
    own("count", Form::Integer, "How many there are; their names end in a number from 1."),
    key("prefix", Form::Text, "The network that automatic addresses come from, as 10.1.0.0/24."),
    key("prefixes", Form::List(&Form::Text), "Several networks, such as one of each family."),
    key("size", Form::Scalar, "The size of the bus, such as \"16M\"."),
    key("shmif", Form::Bool, "Whether rump kernels can share the bus."),
    key("mtu", Form::Integer, "The longest packet in bytes, for all its interfaces."),
    key("capture", Form::Text, "A file for all frames; relative: in the lab's scratch folder."),
    key("filter", Form::Text, "The frames for 'capture', as tcpdump has it: \"tcp port 80\"."),
    key("via", VIA, "What joins its parts where its nodes are on several hosts."),
];

const LINK_KEYS: &[Key] = &[
    own("count", Form::Integer, "How many there are; their names end in a number from 1."),
    own(
        "ends",
        Form::List(&Form::Text),
        "The two nodes that get an interface on it, as NODE or NODE:INTERFACE.",
    ),
    key("prefix", Form::Text, "The network that automatic addresses come from, as 10.1.0.0/30."),
    key("prefixes", Form::List(&Form::Text), "Several networks, such as one of each family."),
    key("size", Form::Scalar, "The size of the bus, such as \"16M\"."),
    key("shmif", Form::Bool, "Whether rump kernels can share the bus."),
    key("mtu", Form::Integer, "The longest packet in bytes, for both its interfaces."),
    key("capture", Form::Text, "A file for all frames; relative: in the lab's scratch folder."),
    key("filter", Form::Text, "The frames for 'capture', as tcpdump has it: \"tcp port 80\"."),
    key("via", VIA, "What joins its parts where its nodes are on several hosts."),
];

static LAN: Keys = Keys { title: "a LAN", list: LAN_KEYS, impairs: true, is_layer: false };
static LINK: Keys = Keys { title: "a link", list: LINK_KEYS, impairs: true, is_layer: false };
static LAN_LAYER: Keys =
    Keys { title: "the defaults of LANs", list: LAN_KEYS, impairs: true, is_layer: true };
static LINK_LAYER: Keys =
    Keys { title: "the defaults of links", list: LINK_KEYS, impairs: true, is_layer: true };

static NODE: Keys = Keys { title: "a node", list: NODE_KEYS, impairs: false, is_layer: false };
static NODE_LAYER: Keys =
    Keys { title: "keys for nodes", list: NODE_KEYS, impairs: false, is_layer: true };

/// The keys of nodes of all kinds.
pub(crate) static NODE_KEYS: &[Key] = &[
    own("kind", Form::Word(KIND_WORDS), "What it is; run, a namespace, by default."),
    own("count", Form::Integer, "How many there are; their names end in a number from 1."),
    own("group", TEXTS, "The group or groups whose keys it has."),
    own("groups", Form::List(&Form::Text), "The same as group."),
    key("lans", TEXTS, "The LANs and links that it has an interface on, in order."),
    key(
        "interface",
        Form::List(&Form::Table(&INTERFACE)),
        "Interfaces that need more than a LAN, after those of lans.",
    ),
    of(
        ADDRESSED,
        "address",
        Form::Text,
        "Its address on the first LAN, as 10.1.0.1/24; \"none\": no automatic ones.",
    ),
    of(
        ADDRESSED,
        "addresses",
        Form::List(&Form::Text),
        "An address for each LAN in turn, one of each family, or INTERFACE=ADDRESS.",
    ),
    key("on", Form::Text, "The host that runs it, where the file has hosts."),
    key("vars", SCALARS, "Values for its templates, as vars.NAME."),
    key("after", TEXTS, "The nodes or groups that are ready before it is started."),
    of(
        COMMANDS,
        "ready",
        Form::Some(&Form::TextOr(&READY)),
        "What must hold before it is ready: a command that succeeds, or a table.",
    ),
    key("ready-within", Form::Scalar, "How long it may take to be ready; \"30s\" by default."),
    of(COMMANDS, "env", SCALARS, "Variables in the environment of its commands."),
    of(
        COMMANDS,
        "files",
        Form::Map(&Form::TextOr(&FILES)),
        "Files in its scratch folder, by path: a text, which is a template, or a table.",
    ),
    of(COMMANDS, "exec", TEXTS, "Commands that run one after the other, before its services."),
    of(
        COMMANDS,
        "services",
        Form::Some(&Form::TextOr(&SERVICE)),
        "Commands that run as long as the lab.",
    ),
    of(&[Run, Host], "gateway", TEXTS, "Its default routers, one of each family."),
    of(&[Run], "route", TEXTS, "Its routes, as NETWORK=ROUTER."),
    of(&[Run], "dns", TEXTS, "Its name servers."),
    of(&[Run], "forward", Form::Bool, "Whether it forwards packets, as a router."),
    of(&[Run], "sysctl", SCALARS, "Kernel settings of its network, such as net.ipv4.ip_forward."),
    of(&[Host], "dhcp", Form::Bool, "Whether it gets an IPv4 address by DHCP."),
    of(&[Host], "slaac", Form::Bool, "Whether it gets IPv6 addresses from routers."),
    of(&[Host], "tcp-sink", Form::Integer, "A TCP port that takes whatever comes."),
    of(&[Memif], "role", Form::Word(&["server", "client"]), "What the lab's end is; server."),
    of(&[Memif], "socket", Form::Text, "The socket; relative: in its scratch folder."),
    of(&[Memif], "id", Form::Integer, "The id of the interface on the socket; 0 by default."),
    of(&[Memif], "keys", Form::Text, "Further keys of the port, such as \"rings=1\"."),
    of(&[Vm], "program", Form::Text, "The program; qemu-system-x86_64 by default."),
    of(&[Vm], "memory", Form::Scalar, "Its memory, such as \"256M\", or a number of MiB."),
    of(&[Vm], "kernel", Form::Text, "A kernel that is started directly."),
    of(&[Vm], "initrd", Form::Text, "The initial file system of that kernel."),
    of(&[Vm], "append", Form::Text, "The kernel's command line."),
    of(&[Vm], "disk", Form::Text, "A disk image, which is not written."),
    of(&[Vm], "arguments", Form::List(&Form::Text), "Further arguments of the program."),
    of(&[Bus], "path", Form::Text, "The bus that is joined to the LAN."),
    of(&[Pcap], "file", Form::Text, "The capture that is played onto the LAN."),
];

pub(crate) static INTERFACE: Keys = Keys {
    title: "an interface",
    list: &[
        key("lan", Form::Text, "The LAN or link."),
        key("name", Form::Text, "Its name in the node; eth0, eth1 and so on by default."),
        key("mac", Form::Text, "Its Ethernet address."),
        key("mtu", Form::Integer, "The longest packet in bytes."),
        key("address", Form::Text, "Its address; \"none\": no automatic one."),
        key("addresses", Form::List(&Form::Text), "Its addresses."),
        key("vlan", Form::Integer, "The VLAN it is in."),
        key("keys", Form::Text, "Further keys of its port, such as \"learn=on\"."),
    ],
    impairs: true,
    is_layer: false,
};

pub(crate) static FILES: Keys = table(
    "a file",
    &[
        key("text", Form::Text, "What is in it, a template."),
        key("template", Form::Text, "A file beside the lab file that is its template."),
        key("copy", Form::Text, "A text file beside the lab file that it is a copy of."),
        key("mode", Form::Text, "Its mode: \"644\", or \"755\" for one that can be run."),
    ],
);

pub(crate) static SERVICE: Keys = table(
    "a service",
    &[
        key("run", Form::Text, "The command."),
        key("name", Form::Text, "Its name; that of the program by default."),
        key(
            "restart",
            Form::Word(&["no", "on-failure", "always"]),
            "When it is started again; no by default.",
        ),
    ],
);

pub(crate) static READY: Keys = table(
    "a condition",
    &[
        key("exec", Form::Text, "A command that succeeds."),
        key("tcp", Form::Integer, "A TCP port that something listens on."),
        key("file", Form::Text, "A file that exists; relative: in the scratch folder."),
        key("log", Form::Text, "A text in a log of the node."),
        key("connected", Form::Bool, "Whether a memif peer must be connected."),
    ],
);

static CHECK: Keys = Keys {
    title: "a check",
    list: &[
        key("name", Form::Text, "Its name; what it does by default."),
        key("node", Form::Text, "The node that it runs in, or a group: a check for each node."),
        key("exec", Form::Text, "A command that must succeed."),
        key("output", Form::Text, "A text that the command must write."),
        key("fails", Form::Bool, "Whether it must fail instead."),
        key("ping", Form::Text, "An address, or a node, that must answer."),
        key("set", Form::Text, "A LAN, or NODE:INTERFACE, that gets new impairments."),
        key("within", Form::Scalar, "How long it may take in all; \"10s\" by default."),
    ],
    impairs: true,
    is_layer: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_words() {
        for (index, (word, kind)) in KindName::ALL.into_iter().enumerate() {
            assert_eq!(kind.word(), word);
            assert_eq!(KIND_WORDS[index], word);
            assert!(DEFAULTS.list.iter().any(|key| key.name == word), "{word}");
        }
    }

    #[test]
    fn every_key_says_what_it_means() {
        for key in
            FILE.list.iter().chain(MACHINE.list).chain(LAN_KEYS).chain(LINK_KEYS).chain(NODE_KEYS)
        {
            assert!(key.says.ends_with('.') || key.says.ends_with(';'), "{}", key.name);
        }
    }
}
