//! What clients and the supervisor of a lab say to each other on its control socket.
//!
//! A client sends a [`Request`]; the supervisor answers with one [`Reply`], and after
//! [`Request::Follow`] with one for each change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::{Check, Plan};

/// What a client asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How the lab is: [`Reply::State`].
    Show,
    /// As `Show`, now and after each change, until the client is gone.
    Follow,
    /// To enter a node: [`Reply::Entry`].
    Enter { node: String },
    /// To run a command in a node: [`Reply::Output`].
    Exec { node: String, command: String, within: Duration },
    /// To do a check once, until it holds or its time is over: [`Reply::Checked`].
    Check(Check),
    /// To change what a LAN, or `NODE:INTERFACE`, does to frames: [`Reply::Done`].
    Set { link: String, impair: String },
    /// To start a node again: [`Reply::Done`] when its commands have been ended.
    Restart { node: String },
    /// To kill the processes of a node, as by a crash: [`Reply::Done`].
    Kill { node: String },
    /// To become the lab of another plan, of which only what differs is started again:
    /// [`Reply::Done`].
    Apply(Plan),
    /// To end: [`Reply::Done`] when all is down, and only the lab's folder is left.
    Down,
}

/// What the supervisor answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    State(LabState),
    /// The namespaces of the node are beside the message, in the order of `namespaces`.
    Entry(Entry),
    Output(Output),
    Checked(Checked),
    Done,
    /// It cannot be done, in words for a user.
    Refused(String),
}

/// How to enter a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Which namespaces there are, in the order to enter them.
    pub(crate) namespaces: Vec<Namespace>,
    /// The working folder of commands.
    pub(crate) folder: PathBuf,
    /// Variables for the environment of commands.
    pub(crate) env: BTreeMap<String, String>,
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Namespace {
    User,
    Pid,
    Net,
    Uts,
    Mount,
}

/// What a command has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The exit code, or 128 and the number of the signal that killed it; `None`: it was ended
    /// because its time was over.
    pub code: Option<u8>,
    /// What it has printed on stdout: the first MiB.
    pub stdout: String,
    /// What it has printed on stderr: the first MiB.
    pub stderr: String,
}

impl Output {
    /// Returns whether the command ended with exit code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

/// What has come of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The name of the check.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// How long it took.
    pub took: Duration,
    /// How often it was tried.
    pub tries: u32,
    /// What the last try left: the output of a command, or why there was none.
    pub detail: String,
}

/// How a lab is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    /// Its name.
    pub name: String,
    /// Whether all its nodes are ready.
    pub ready: bool,
    /// Why the start of the lab has failed, if it has.
    pub failed: Option<String>,
    /// Its LANs, in the order of the plan.
    pub lans: Vec<LanState>,
    /// Its nodes, in the order of the plan: those that this machine runs.
    pub nodes: Vec<NodeState>,
    /// The machine that this is, where the lab has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The nodes that other machines run, in the order of the plan. How they are is not known here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<NodeElsewhere>,
}

/// A node that another machine runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeElsewhere {
    /// Its name.
    pub name: String,
    /// Its kind, in the words of a lab file.
    pub kind: String,
    /// The machine.
    pub host: String,
    /// The LAN of each of its interfaces, with the addresses there.
    pub interfaces: Vec<(String, Vec<String>)>,
}

/// How a LAN is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanState {
    /// Its name.
    pub name: String,
    /// The path of its bus.
    pub bus: PathBuf,
    /// What it does to frames; empty: nothing.
    pub impair: String,
    /// How it reaches its parts on other machines, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<TrunkState>,
}

/// How a LAN reaches its parts on other machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkState {
    /// The name of its port on the bus.
    pub port: String,
    /// The number of its VXLAN.
    pub vni: u32,
    /// Why the port is closed, if it is.
    pub closed: Option<String>,
    /// The machines that it leads to.
    pub remotes: Vec<RemoteState>,
}

/// A machine that a LAN leads to. What passed to it is in what `busctl show` prints of the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteState {
    /// Its name, as the lab calls it.
    pub host: String,
    /// Its address; empty when that is not known.
    pub address: String,
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// Its kind, in the words of a lab file.
    pub kind: String,
    /// What it is doing.
    pub phase: Phase,
    /// Why it has failed, or what it waits for.
    pub detail: String,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceState>,
    /// How many processes it has started that run.
    pub processes: usize,
    /// How often its services were started again.
    pub restarts: u32,
}

/// How an interface is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceState {
    /// Its name in the node.
    pub name: String,
    /// The name of its LAN.
    pub lan: String,
    /// Its addresses, with prefix lengths.
    pub addresses: Vec<String>,
    /// What it does to frames; empty: nothing.
    pub impair: String,
    /// Whether it has a peer: a memif peer, a virtual machine, the kernel.
    pub up: bool,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It waits for the nodes before it.
    #[default]
    Waiting,
    /// Its commands run that are to end before its services start.
    Starting,
    /// Its services run, and what makes it ready does not hold yet.
    Running,
    /// It can be used.
    Ready,
    /// It cannot be used.
    Failed,
}
