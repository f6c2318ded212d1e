//! One interface of the registry that the reconciler runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node::{self, CloseReason, Counters, PortId, PortStats, Report};
use port::memif::View;
use port::{ImpairHandle, Learning, LinkState, LoopGuard, Port, Ruled};
use shmbus::Bus;

use super::opened::{Opened, Shared};
use crate::misuse::trouble;
use crate::output;
use crate::registry::file_stamp::FileStamp;
use crate::registry::runner::{RecordChange, RunningInterface};
use crate::registry::{
    InterfaceName, Kind, MemifReport, PortSettings, Record, Registry, RegistryError, Socket,
};

/// The permissions of a bus that is made because it is missing.
const MODE: u32 = 0o600;
/// How often a connection is described without traffic: an attempt may have been refused.
const DESCRIBE_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Managed {
    interface: RunningInterface,
    running: Option<Running>,
    /// The counters of earlier ports since the claim.
    before: Counters,
    /// The connections of earlier ports and earlier runners.
    past: MemifReport,
    /// What was last reported, and when the connection was last described.
    reported: (Counters, Option<LinkState>),
    described: Instant,
}

/// An interface's port in the node, or the ports of its queues.
struct Running {
    ports: Vec<(PortId, Arc<PortStats>)>,
    plan: Plan,
    /// The bus's file, as it was joined.
    bus: Option<FileStamp>,
    connection: Option<View>,
}

/// What a port is made from. When this changes, the port is made again.
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
    /// When its record cannot be read, or another process runs it.
    pub(super) fn claim(shared: &mut Shared, name: InterfaceName) -> Result<Self, RegistryError> {
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

    /// Returns whether its port is this one.
    pub(super) fn has(&self, id: PortId) -> bool {
        self.running.as_ref().is_some_and(|running| running.ports.iter().any(|port| port.0 == id))
    }

    /// Does what the record says if it has changed. With `thoroughly`, what failed is tried again.
    pub(super) fn follow(&mut self, shared: &mut Shared, thoroughly: bool) -> RecordChange {
        let change = self.interface.poll_record();
        let again = thoroughly && (self.interface.is_in_trouble() || self.has_another_bus());
        if change == RecordChange::Changed || change == RecordChange::Unchanged && again {
            self.apply_record(shared);
        }
        change
    }

    /// Returns whether another bus is in the place of the one the port is on. A bus whose file was
    /// only removed continues to work for the stations on it.
    fn has_another_bus(&self) -> bool {
        self.running.as_ref().is_some_and(|Running { bus, plan, .. }| {
            let there = FileStamp::of(&plan.bus);
            bus.as_ref().zip(there.as_ref()).is_some_and(|(ours, there)| !ours.is_same_file(there))
        })
    }

    /// Does what the record says, and acknowledges that.
    fn apply_record(&mut self, shared: &mut Shared) {
        let record = self.interface.record().clone();
        let done = self.run(shared, &record);
        self.describe();
        self.interface.acknowledge(done.err().as_ref().map(trouble));
    }

    fn run(&mut self, shared: &mut Shared, record: &Record) -> anyhow::Result<()> {
        let plan = Plan::of(&shared.registry, record);
        let same = matches!((&plan, &self.running), (Ok(Some(plan)), Some(running)) if running.plan == *plan);
        if same && !self.has_another_bus() {
            let ports = self.running.iter().flat_map(|running| &running.ports);
            for handle in ports.filter_map(|(_, stats)| stats.impair_handle()) {
                handle.set(record.impairments());
            }
            return Ok(());
        }
        self.close(shared);
        if let Some(plan) = plan? {
            self.running = Some(open(shared, record, plan)?);
        }
        Ok(())
    }

    /// Closes the port, if there is one, and describes its connection.
    pub(super) fn close(&mut self, shared: &mut Shared) {
        if let Some(running) = &self.running {
            self.past = self.memif();
            running.ports.iter().for_each(|(id, _)| shared.node.remove(*id));
        }
        self.port_removed();
    }

    /// Keeps the counters and the history of a port that was removed.
    fn port_removed(&mut self) {
        if let Some(running) = self.running.take() {
            self.before = self.before.plus(running.counters());
            self.past = std::mem::take(&mut self.past).without_peer();
        }
        self.describe();
        self.count();
    }

    /// Notes that the node has closed the port: its bus is gone, or its device. So they are for its
    /// other queues.
    pub(super) fn port_closed(&mut self, shared: &mut Shared, why: &CloseReason) {
        for (id, _) in self.running.iter().flat_map(|running| &running.ports) {
            shared.node.remove(*id);
        }
        self.port_removed();
        self.interface.acknowledge(Some(trouble(&why.clone().into())));
    }

    /// Publishes counters and connection.
    pub(super) fn report(&mut self, now: Instant) {
        let due = now.saturating_duration_since(self.described) >= DESCRIBE_INTERVAL;
        if due || self.reported != (self.counters(), self.link()) {
            self.describe();
        }
        self.count();
    }

    /// Returns whether frames pass through the port; none without a port.
    fn link(&self) -> Option<LinkState> {
        self.running.as_ref()?.ports.first().map(|(_, stats)| stats.link_state())
    }

    /// Returns what `show` says of the port under the bus it is on, or of each queue; nothing
    /// without a port.
    pub(super) fn port_reports(&self) -> impl Iterator<Item = Report> {
        let name = self.interface.record().name;
        let bus = self.running.as_ref().and_then(|running| running.bus.as_ref());
        let ports = self.running.iter().flat_map(|running| &running.ports);
        (1..).zip(ports).filter_map(move |(number, (_, stats))| {
            Some(Report::of_port(&queue_name(name, number), bus?.identity(), stats))
        })
    }

    fn describe(&mut self) {
        self.described = Instant::now();
        self.reported = (self.counters(), self.link());
        let is_memif = self.interface.record().name.kind() == Kind::Memif;
        self.interface.describe(self.link(), is_memif.then(|| self.memif()));
    }

    /// Returns the state of its connection, with the history.
    fn memif(&self) -> MemifReport {
        let details =
            self.running.as_ref().and_then(|running| running.connection.as_ref()?.details());
        details.as_ref().map(MemifReport::from).unwrap_or_default().after(&self.past)
    }

    fn count(&mut self) {
        let counters = self.counters();
        self.interface.count(counters);
    }

    fn counters(&self) -> Counters {
        self.running.iter().fold(self.before, |sum, running| sum.plus(running.counters()))
    }

    /// Closes the port of an interface that was destroyed, and releases it.
    pub(super) fn discard(mut self, shared: &mut Shared) {
        self.close(shared);
        self.interface.discard();
    }
}

impl Running {
    /// Returns the sum of what its ports have counted.
    fn counters(&self) -> Counters {
        let add = |sum: Counters, (_, stats): &(_, Arc<PortStats>)| sum.plus(stats.counters());
        self.ports.iter().fold(Counters::default(), add)
    }
}

/// Returns the name of the port number `number` of an interface, from 1.
fn queue_name(name: InterfaceName, number: usize) -> String {
    if number == 1 { name.to_string() } else { format!("{name} queue {number}") }
}

impl Plan {
    /// Returns the plan of the record; none while the interface is down or unplugged.
    fn of(registry: &Registry, record: &Record) -> Result<Option<Self>, RegistryError> {
        let (Some(bus), Some(settings)) =
            (record.linkstr.clone().filter(|_| record.up), record.port())
        else {
            return Ok(None);
        };
        let socket = match record.name {
            InterfaceName::Memif { socket, .. } => Some(registry.socket(socket)?),
            InterfaceName::Shmif(_)
            | InterfaceName::Tap(_)
            | InterfaceName::Sock(_)
            | InterfaceName::Vxlan(_)
            | InterfaceName::Trunk(_) => None,
        };
        // The impairments of a port change while it runs.
        Ok(Some(Self { bus, socket, settings: settings.without_impairments() }))
    }
}

/// Opens the port, joins the bus, and adds both to the node. The port comes first: when that fails,
/// no bus is made.
fn open(shared: &mut Shared, record: &Record, plan: Plan) -> anyhow::Result<Running> {
    let impair = ImpairHandle::new(record.impairments());
    let joins = record.memif().is_none_or(|spec| spec.joins());
    let Opened { ports, connection, mac, learn, rules } =
        Opened::new(shared, record, plan.socket.as_ref(), &impair)?;
    let wrap = |port: Box<dyn Port>| -> Box<dyn Port> {
        let has_rules = !rules.is_empty();
        let port = if has_rules { Box::new(Ruled::new(port, rules.clone())) } else { port };
        let port = if learn { Box::new(Learning::new(port)) } else { port };
        if joins { Box::new(LoopGuard::new(port)) } else { port }
    };
    let join = |(number, port)| {
        let bus = Bus::open_or_create(&plan.bus, MODE)?;
        // Of several queues the first has the address.
        let mac = mac.filter(|_| number == 1);
        let station = node::station(bus, &queue_name(record.name, number), mac)?;
        Ok((wrap(port), station))
    };
    let queues = (1..).zip(ports).map(join).collect::<anyhow::Result<Vec<_>>>()?;
    let file = FileStamp::of(&plan.bus);
    let ports = shared.node.add_queues(queues);
    tracing::info!(name = %record.name, bus = %plan.bus.display(), "open");
    Ok(Running { ports, plan, bus: file, connection })
}
