//! What `show` says of vxlan and trunk interfaces: their ends, and what passed to each of the other
//! machines.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use node::RemoteReport;
use serde::Serialize;
use shmbus::MacAddr6;
use shmbus::offload::Capabilities;

use super::KindView;
use crate::port_view::{OnBus, write_remote};
use crate::registry::Record;

/// What only such an interface has.
#[derive(Debug, Serialize)]
pub(super) struct TunnelView {
    #[serde(flatten)]
    ends: Ends,
    /// The machines that it has frames from, and those that are named. None while no process runs it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remotes: Vec<RemoteReport>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Ends {
    /// Where it receives, and the other ends; none until `local` and others are set.
    Vxlan { local: Option<SocketAddr>, peers: Vec<SocketAddr>, group: Option<IpAddr> },
    /// The trunk, and the routers.
    Trunk { trunk: String, connect: Vec<String>, listen: Vec<String> },
}

impl TunnelView {
    /// Describes the interface of `record`, which the process `runner` runs.
    pub(super) fn of(
        record: &Record,
        runner: Option<u32>,
    ) -> (KindView, Option<MacAddr6>, Capabilities) {
        let (ends, mac) = if let Some(spec) = record.trunk() {
            let ends = Ends::Trunk { trunk: spec.name, connect: spec.connect, listen: spec.listen };
            (ends, spec.mac)
        } else {
            // Without other ends it cannot be opened, which is its trouble then.
            let spec = record.vxlan().ok().flatten();
            let mac = spec.as_ref().and_then(|spec| spec.mac);
            let local = spec.as_ref().map(|spec| spec.local);
            let group = spec.as_ref().and_then(|spec| spec.group);
            let peers = spec.map(|spec| spec.peers).unwrap_or_default();
            (Ends::Vxlan { local, peers, group }, mac)
        };
        let remotes = remotes(record, runner).unwrap_or_default();
        (KindView::Tunnel(Self { ends, remotes }), mac, Capabilities::NONE)
    }

    pub(super) fn write_remotes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remotes.iter().try_for_each(|remote| write_remote(remote, "\t", f))
    }
}

/// Returns what the process that runs an interface reports of the other machines.
fn remotes(record: &Record, runner: Option<u32>) -> Option<Vec<RemoteReport>> {
    let (pid, bus) = (runner?, record.linkstr.as_ref()?);
    let name = record.name.to_string();
    let mut ports = OnBus::of(bus).ports.into_iter();
    Some(ports.find(|port| port.pid == pid && port.name == name)?.remotes)
}

/// Writes the ends, such as `192.0.2.1:4789 to 192.0.2.2:4789`.
impl fmt::Display for TunnelView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ends {
            Ends::Vxlan { local: None, .. } => {
                f.write_str("none yet: set local= and peers= or group=")
            }
            Ends::Vxlan { local: Some(local), peers, group } => {
                write!(f, "{local} to")?;
                peers.iter().try_for_each(|peer| write!(f, " {peer}"))?;
                group.iter().try_for_each(|group| write!(f, " {group}"))
            }
            Ends::Trunk { trunk, connect, listen } => {
                write!(f, "trunk {trunk}")?;
                connect.iter().try_for_each(|router| write!(f, ", by {router}"))?;
                listen.iter().try_for_each(|place| write!(f, ", a router at {place}"))
            }
        }
    }
}
