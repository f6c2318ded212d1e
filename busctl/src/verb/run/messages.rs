//! What `run` and its processes say to each other.
//!
//! | `run` | setup | init |
//! |---|---|---|
//! | starts setup: [`Plan`] | | |
//! | | enters the namespaces: `Entered` | |
//! | writes the id maps: `Mapped` | | |
//! | | makes the interfaces: `Taps` | |
//! | joins the buses: `Configure` | | |
//! | | sets the interfaces up, starts init: `Init`; ends | |
//! | | | blocks signals: `Ready` |
//! | adopts init: `Go` | | runs CMD: `Running`; ends with its status |

use std::net::IpAddr;

use netif::IpNet;
use serde::{Deserialize, Serialize};

/// The namespaces, and what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) space: Space,
    /// One for each bus.
    pub(super) interfaces: Vec<InterfacePlan>,
    pub(super) routes: Vec<Route>,
    pub(super) dns: Vec<IpAddr>,
    pub(super) hostname: Option<String>,
    /// Whether CMD keeps the user's own id.
    pub(super) user: bool,
    /// Whether the namespace forwards packets.
    pub(super) forward: bool,
}

/// The network namespace that CMD runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Space {
    /// A new one, with a new user namespace.
    New,
    /// One that `ip netns add` has made, or that of a path.
    Named(String),
    /// That of a process.
    Process(u32),
}

/// What an interface has besides its name and its MTU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InterfacePlan {
    pub(super) mac: Option<[u8; 6]>,
    pub(super) addresses: Vec<IpNet>,
}

/// A route over one of the interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) network: IpNet,
    pub(super) via: IpAddr,
}

/// From `run` to setup, after the plan.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToSetup {
    /// The ids of the user namespace are mapped.
    Mapped,
    /// The MTU of each interface, in bytes.
    Configure(Vec<u32>),
}

/// From the processes inside to `run`. The first message of init may overtake the last of setup.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromInside {
    Entered,
    /// The names of the interfaces. Their descriptors are beside the message.
    Taps(Vec<String>),
    /// The pid of init.
    Init(i32),
    /// Init has blocked its signals.
    Ready,
    /// CMD runs.
    Running,
    Failed(Failure),
}

/// From `run` to init, and from init to the process that becomes CMD, with the stdin of CMD beside
/// it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Go;

/// To init, when CMD cannot be run. Otherwise that end of the channel closes when CMD runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NotRun;

/// What went wrong in setup.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) step: Step,
    /// What happened and why.
    pub(super) text: String,
    /// The system's error, if it was one.
    pub(super) errno: Option<i32>,
}

/// Where in setup something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// The namespaces were not made or entered.
    Namespaces,
    /// The TAP device is not available.
    Device,
    /// Any later step.
    Later,
}
