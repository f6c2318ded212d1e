//! What `show` says of a vxlan interface: its ends, and what passed to each of the other machines.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use node::RemoteReport;
use serde::Serialize;
use shmbus::MacAddr6;
use shmbus::offload::Capabilities;

use super::KindView;
use crate::port_view::{OnBus, write_remote};
use crate::registry::Record;

/// What only a vxlan interface has.
#[derive(Debug, Serialize)]
pub(super) struct VxlanView {
    /// Where it receives; none until `local` and other ends are set.
    local: Option<SocketAddr>,
    peers: Vec<SocketAddr>,
    group: Option<IpAddr>,
    /// The machines that it has frames from, and those that are named. None while no process runs it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remotes: Vec<RemoteReport>,
}

impl VxlanView {
    /// Describes the interface of `record`, which the process `runner` runs.
    pub(super) fn of(
        record: &Record,
        runner: Option<u32>,
    ) -> (KindView, Option<MacAddr6>, Capabilities) {
        // Without other ends it cannot be opened, which is its trouble then.
        let spec = record.vxlan().ok().flatten();
        let mac = spec.as_ref().and_then(|spec| spec.mac);
        let name = record.name.to_string();
        let remotes = runner.zip(record.linkstr.as_ref()).and_then(|(pid, bus)| {
            let ports = OnBus::of(bus).ports.into_iter();
            ports
                .filter(|port| port.pid == pid && port.name == name)
                .map(|port| port.remotes)
                .next()
        });
        let view = Self {
            local: spec.as_ref().map(|spec| spec.local),
            group: spec.as_ref().and_then(|spec| spec.group),
            peers: spec.map(|spec| spec.peers).unwrap_or_default(),
            remotes: remotes.unwrap_or_default(),
        };
        (KindView::Vxlan(view), mac, Capabilities::NONE)
    }

    pub(super) fn write_remotes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remotes.iter().try_for_each(|remote| write_remote(remote, "\t", f))
    }
}

/// Writes the ends, such as `192.0.2.1:4789 to 192.0.2.2:4789`.
impl fmt::Display for VxlanView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(local) = self.local else {
            return f.write_str("none yet: set local= and peers= or group=");
        };
        let group = self.group.iter().map(ToString::to_string);
        let others: Vec<_> = self.peers.iter().map(ToString::to_string).chain(group).collect();
        write!(f, "{local} to {}", others.join(" "))
    }
}
