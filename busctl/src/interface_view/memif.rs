//! What only a memif interface has: its socket, its peer and its rings.

use std::fmt;

use serde::Serialize;
use shmbus::MacAddr6;
use shmbus::offload::Capabilities;

use super::KindView;
use crate::registry::{InterfaceName, MemifReport, Record, Registry, Remote, RingReport};

/// The fields are keys of `show --json`.
#[derive(Debug, Serialize)]
pub(super) struct MemifView {
    socket_id: u32,
    /// Its address; none when its record is missing or damaged.
    socket: Option<String>,
    id: u32,
    role: String,
    mode: String,
    /// Descriptors in a ring: of the present rings, else as set.
    ring_size: usize,
    /// Bytes in a buffer, as set. A client's setting decides for both sides.
    buffer_size: u32,
    rx_mode: String,
    /// Whether a secret is set.
    secret: bool,
    connected: bool,
    remote: Option<Remote>,
    /// How many connections there were.
    connections: u64,
    last_disconnect: Option<String>,
    last_refusal: Option<String>,
    /// The last disconnect reasons: sent to a peer, and received from one.
    last_told: Option<String>,
    last_heard: Option<String>,
    rings: Vec<RingReport>,
}

impl MemifView {
    /// Combines the record with the report of the runner. Without a runner, only the history of the
    /// report is used.
    pub(super) fn of(
        registry: &Registry,
        record: &Record,
        running: bool,
        report: Option<&MemifReport>,
    ) -> (KindView, Option<MacAddr6>, Capabilities) {
        let (socket_id, id) = match record.name {
            InterfaceName::Memif { socket, id } => (socket, id),
            InterfaceName::Shmif(_)
            | InterfaceName::Tap(_)
            | InterfaceName::Sock(_)
            | InterfaceName::Vxlan(_)
            | InterfaceName::Trunk(_) => (0, 0),
        };
        let report = report.cloned().unwrap_or_default();
        let (remote, rings) =
            if running { (report.remote, report.rings) } else { (None, Vec::new()) };
        let spec = record.memif();
        let set_size = spec.as_ref().map_or(0, |spec| 1 << spec.log2_ring_size);
        let view = Self {
            socket_id,
            socket: registry.socket(socket_id).ok().map(|socket| socket.path),
            id,
            role: spec.as_ref().map(|spec| spec.role.to_string()).unwrap_or_default(),
            mode: spec.as_ref().map(|spec| spec.mode.to_string()).unwrap_or_default(),
            ring_size: rings.first().map_or(set_size, |ring| ring.size),
            buffer_size: spec.as_ref().map_or(0, |spec| spec.buffer_size),
            rx_mode: spec.as_ref().map(|spec| spec.rx_mode.to_string()).unwrap_or_default(),
            secret: spec.as_ref().is_some_and(|spec| spec.has_secret),
            connected: remote.is_some(),
            remote,
            connections: report.connections,
            last_disconnect: report.last_disconnect,
            last_refusal: report.last_refusal,
            last_told: report.last_told,
            last_heard: report.last_heard,
            rings,
        };
        (KindView::Memif(Box::new(view)), spec.and_then(|spec| spec.mac), Capabilities::NONE)
    }
}

/// Prints the lines that only memif interfaces have.
impl fmt::Display for MemifView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.as_deref().unwrap_or("missing");
        let Self { socket_id, id, role, mode, ring_size, buffer_size, rx_mode, .. } = self;
        writeln!(f, "\tsocket-id {socket_id} ({socket}) id {id} role {role} mode {mode}")?;
        let secret = if self.secret { ", with a secret" } else { "" };
        writeln!(f, "\tring-size {ring_size} buffer-size {buffer_size} rx-mode {rx_mode}{secret}")?;
        match &self.remote {
            Some(Remote { name, interface }) => {
                writeln!(f, "\tremote-name {name:?} remote-interface {interface:?}")?;
            }
            None => writeln!(f, "\tremote: none")?,
        }
        for ring in &self.rings {
            writeln!(
                f,
                "\t{} ring {} ({}): size {} head {} tail {} flags {:#06x} interrupts {}, {} packets, {} bytes{}",
                ring.direction,
                ring.index,
                ring.ring,
                ring.size,
                ring.head,
                ring.tail,
                ring.flags,
                ring.interrupts,
                ring.packets,
                ring.bytes,
                if ring.ring_full.0 > 0 {
                    format!(", {} times full", ring.ring_full.0)
                } else {
                    String::new()
                }
            )?;
        }
        for (what, reason) in [
            ("last disconnect", &self.last_disconnect),
            ("last refusal", &self.last_refusal),
            ("last told to a peer", &self.last_told),
            ("last told by a peer", &self.last_heard),
        ] {
            if let Some(reason) = reason {
                writeln!(f, "\t{what}: {reason}")?;
            }
        }
        Ok(())
    }
}
