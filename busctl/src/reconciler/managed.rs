//! One interface of a registry that is run here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use node::{self, CloseReason, Counters, Node, PortId, PortStats};
use port::memif::{Sockets, View};
use port::{Learning, Port, tap};
use shmbus::Bus;

use crate::misuse::sentence;
use crate::output;
use crate::registry::file_stamp::FileStamp;
use crate::registry::runner::{RecordChange, RunningInterface};
use crate::registry::{
    InterfaceName, Kind, MemifReport, PortSettings, Record, Registry, RegistryError, Socket,
};

/// The permissions of a bus that is made for want of one.
const MODE: u32 = 0o600;
/// How often a connection is described although nothing goes through it: it may have been refused, say.
const DESCRIBE: Duration = Duration::from_secs(1);

/// What all interfaces stand on.
pub(super) struct Shared {
    pub(super) node: Node,
    pub(super) sockets: Sockets,
    pub(super) registry: Registry,
}

/// See the module.
pub(super) struct Managed {
    interface: RunningInterface,
    running: Option<Running>,
    /// What earlier ports counted, since it was claimed.
    before: Counters,
    /// What earlier ports of it went through, and those of earlier runners.
    past: MemifReport,
    /// What others were last reported, and when the connection was last described.
    reported: (Counters, Option<bool>),
    described: Instant,
}

/// An interface's port in the node.
struct Running {
    id: PortId,
    stats: Arc<PortStats>,
    plan: Plan,
    /// The bus's file, as it was joined.
    bus: Option<FileStamp>,
    connection: Option<View>,
}

/// All that a port is made from: when it is another, the port has to be, too.
#[derive(Clone, PartialEq, Eq)]
struct Plan {
    bus: PathBuf,
    socket: Option<Socket>,
    settings: PortSettings,
}

impl Managed {
    /// Claims an interface, and begins to run it as its record says.
    ///
    /// # Errors
    /// When its record cannot be read, or somebody else runs it.
    pub(super) fn take(shared: &mut Shared, name: InterfaceName) -> Result<Self, RegistryError> {
        let interface = RunningInterface::claim(&shared.registry, name, output::reporter())?;
        let past = shared.registry.report(name).memif.unwrap_or_default();
        let mut managed = Self {
            interface,
            running: None,
            before: Counters::default(),
            past: past.without_peer(),
            reported: Default::default(),
            described: Instant::now(),
        };
        tracing::info!(%name, "claimed");
        managed.apply_record(shared);
        Ok(managed)
    }

    /// Whether its port is this one.
    pub(super) fn has(&self, id: PortId) -> bool {
        self.running.as_ref().is_some_and(|running| running.id == id)
    }

    /// Does what the record says if it is another. `thoroughly`, what is in trouble is tried again.
    pub(super) fn follow(&mut self, shared: &mut Shared, thoroughly: bool) -> RecordChange {
        let change = self.interface.poll_record();
        let again = thoroughly && (self.interface.is_in_trouble() || self.has_another_bus());
        if change == RecordChange::Changed || change == RecordChange::Unchanged && again {
            self.apply_record(shared);
        }
        change
    }

    /// Whether there is another bus in the place of the one it is on. One whose file was only removed goes on for those who
    /// have it.
    fn has_another_bus(&self) -> bool {
        self.running.as_ref().is_some_and(|Running { bus, plan, .. }| {
            let there = FileStamp::of(&plan.bus);
            bus.as_ref().zip(there.as_ref()).is_some_and(|(ours, there)| !ours.is_same_file(there))
        })
    }

    /// Does what the record says, and says so.
    fn apply_record(&mut self, shared: &mut Shared) {
        let record = self.interface.record().clone();
        let done = self.run(shared, &record);
        self.describe();
        self.interface.acknowledge(done.err().as_ref().map(sentence));
    }

    fn run(&mut self, shared: &mut Shared, record: &Record) -> anyhow::Result<()> {
        let plan = Plan::of(&shared.registry, record);
        let same = matches!((&plan, &self.running), (Ok(Some(plan)), Some(running)) if running.plan == *plan);
        if same && !self.has_another_bus() {
            return Ok(());
        }
        self.close(shared);
        if let Some(plan) = plan? {
            self.running = Some(open(shared, record, plan)?);
        }
        Ok(())
    }

    /// Closes the port, if it has one; its peer is reported.
    pub(super) fn close(&mut self, shared: &mut Shared) {
        if let Some(running) = &self.running {
            self.past = self.memif();
            shared.node.remove(running.id);
        }
        self.port_removed();
    }

    /// There is no port any more.
    fn port_removed(&mut self) {
        if let Some(running) = self.running.take() {
            self.before = self.before.plus(running.stats.counters());
            self.past = std::mem::take(&mut self.past).without_peer();
        }
        self.describe();
        self.count();
    }

    /// The node has closed the port: its bus is gone, or what it is a port of.
    pub(super) fn port_closed(&mut self, why: &CloseReason) {
        self.port_removed();
        self.interface.acknowledge(Some(sentence(&why.clone().into())));
    }

    /// Lets others see how it is.
    pub(super) fn report(&mut self, now: Instant) {
        let due = now.saturating_duration_since(self.described) >= DESCRIBE;
        if due || self.reported != (self.counters(), self.link()) {
            self.describe();
        }
        self.count();
    }

    /// Whether the port has a peer, while there is a port.
    fn link(&self) -> Option<bool> {
        self.running.as_ref().map(|running| running.stats.is_up())
    }

    fn describe(&mut self) {
        self.described = Instant::now();
        self.reported = (self.counters(), self.link());
        let is_memif = self.interface.record().name.kind() == Kind::Memif;
        self.interface.describe(self.link(), is_memif.then(|| self.memif()));
    }

    /// How its connection is, with what went before.
    fn memif(&self) -> MemifReport {
        let details = self.running.as_ref().and_then(|running| running.connection.as_ref()?.details());
        details.as_ref().map(MemifReport::from).unwrap_or_default().after(&self.past)
    }

    fn count(&mut self) {
        let counters = self.counters();
        self.interface.count(counters);
    }

    fn counters(&self) -> Counters {
        let here = self.running.as_ref().map(|running| running.stats.counters()).unwrap_or_default();
        self.before.plus(here)
    }

    /// The interface was destroyed.
    pub(super) fn give_up(mut self, shared: &mut Shared) {
        self.close(shared);
        self.interface.discard();
    }
}

impl Plan {
    /// What the record asks for: nothing while the interface is down or unplugged.
    fn of(registry: &Registry, record: &Record) -> Result<Option<Self>, RegistryError> {
        let (Some(bus), Some(settings)) = (record.linkstr.clone().filter(|_| record.up), record.port())
        else {
            return Ok(None);
        };
        let socket = match record.name {
            InterfaceName::Memif { socket, .. } => Some(registry.socket(socket)?),
            InterfaceName::Shmif(_) | InterfaceName::Tap(_) => None,
        };
        Ok(Some(Self { bus, socket, settings: settings.clone() }))
    }
}

/// Opens the port, joins the bus, and lets the node serve both. The port comes first: when a socket is in the way, no bus is
/// made.
fn open(shared: &mut Shared, record: &Record, plan: Plan) -> anyhow::Result<Running> {
    let name = record.name.to_string();
    let (port, connection, mac, learn): (Box<dyn Port>, _, _, _) =
        match (record.memif(), &plan.socket, record.tap()) {
            (Some(spec), Some(socket), _) => {
                let spec = spec.at(socket.address()?);
                let port = shared.sockets.open(&spec, name.clone())?;
                let view = port.view();
                (Box::new(port), Some(view), spec.mac, spec.learn)
            }
            (_, _, Some(spec)) => (Box::new(tap::open(&spec)?), None, spec.mac, spec.learn),
            _ => bail!("{name} is of no kind that a node can run"),
        };
    let port = if learn { Box::new(Learning::new(port)) } else { port };
    let bus = Bus::open_or_create(&plan.bus, MODE)?;
    let file = FileStamp::of(&plan.bus);
    let station = node::station(bus, &name, mac)?;
    let (id, stats) = shared.node.add(port, station);
    tracing::info!(name, bus = %plan.bus.display(), "open");
    Ok(Running { id, stats, plan, bus: file, connection })
}
