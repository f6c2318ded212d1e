//! The port of an interface, opened as its record says.

use anyhow::bail;
use node::Node;
use port::memif::{Sockets, View};
use port::socket::SocketServers;
use port::trunk::TrunkSpec;
use port::vxlan::VxlanPort;
use port::{FrameRules, ImpairHandle, Impaired, Port, of_memif, tap};
use shmbus::MacAddr6;

use crate::registry::{Record, Registry, Socket};

/// What all interfaces share.
pub(super) struct Shared {
    pub(super) node: Node,
    pub(super) sockets: Sockets,
    pub(super) socket_servers: SocketServers,
    pub(super) registry: Registry,
}

/// A port, or the ports of its queues, and what holds for all of them.
pub(super) struct Opened {
    pub(super) ports: Vec<Box<dyn Port>>,
    /// The connection of a memif interface.
    pub(super) connection: Option<View>,
    pub(super) mac: Option<MacAddr6>,
    pub(super) learn: bool,
    pub(super) rules: FrameRules,
}

impl Opened {
    /// Opens the port of `record`. A memif interface is on `socket`.
    ///
    /// # Errors
    /// When it cannot be opened, or its settings are no whole.
    pub(super) fn new(
        shared: &mut Shared,
        record: &Record,
        socket: Option<&Socket>,
        impair: &ImpairHandle,
    ) -> anyhow::Result<Self> {
        let name = record.name.to_string();
        let of = |port: Box<dyn Port>, mac, learn, rules| Self {
            ports: vec![port],
            connection: None,
            mac,
            learn,
            rules,
        };
        if let (Some(spec), Some(socket)) = (record.memif(), socket) {
            let spec = spec.at(socket.address()?);
            let port = shared.sockets.open(&spec, name)?;
            let connection = Some(port.view());
            let port = of_memif(port, &spec, impair.clone());
            return Ok(Self { connection, ..of(port, spec.mac, spec.learn, spec.rules) });
        }
        if let Some(spec) = record.tap() {
            let queues = tap::open(&spec, shared.node.thread_count())?;
            // All queues are one link: what is set holds for each.
            let ports = queues.into_iter().map(|queue| impaired(queue, impair)).collect();
            let (mac, learn, rules) = (spec.mac, spec.learn, spec.rules);
            return Ok(Self { ports, connection: None, mac, learn, rules });
        }
        if let Some(spec) = record.socket()? {
            let port = impaired(shared.socket_servers.open(&spec, name)?, impair);
            return Ok(of(port, spec.mac, spec.learn, spec.rules));
        }
        if let Some(spec) = record.vxlan()? {
            let port = impaired(VxlanPort::open(&spec, name)?, impair);
            return Ok(of(port, spec.mac, spec.learn, spec.rules));
        }
        if let Some(spec) = record.trunk() {
            let port = impaired(open_trunk(&spec, name)?, impair);
            return Ok(of(port, spec.mac, spec.learn, spec.rules));
        }
        bail!("{name} is of no kind that a node can run");
    }
}

fn impaired(port: impl Port + 'static, impair: &ImpairHandle) -> Box<dyn Port> {
    Box::new(Impaired::new(port, impair.clone()))
}

#[cfg(feature = "trunk")]
fn open_trunk(spec: &TrunkSpec, name: String) -> anyhow::Result<Box<dyn Port>> {
    Ok(trunk::open(spec, name)?)
}

#[cfg(not(feature = "trunk"))]
fn open_trunk(_: &TrunkSpec, _: String) -> anyhow::Result<Box<dyn Port>> {
    Err(port::PortError::NoTrunks.into())
}
