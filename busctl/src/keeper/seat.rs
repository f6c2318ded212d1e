//! One interface of a registry that is run here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use shmbus::Bus;

use super::signature::Signature;
use crate::exit;
use crate::node::{self, Gauge, Gone, Key, Node};
use crate::output;
use crate::port::memif::{Sockets, View};
use crate::port::{Port, tap};
use crate::registry::{
    Claim, Counters, InterfaceName, Kind, MemifReport, PortSettings, Record, Registry, RegistryError, Socket,
};

/// The permissions of a bus that is made for want of one.
const MODE: u32 = 0o600;
/// How often a connection is described although nothing goes through it: it may have been refused, say.
const DESCRIBE: Duration = Duration::from_secs(1);

/// What all interfaces stand on.
pub(super) struct Floor {
    pub(super) node: Node,
    pub(super) sockets: Sockets,
    pub(super) registry: Registry,
}

/// See the module.
pub(super) struct Seat {
    claim: Claim,
    /// The record's file as it was last read.
    signature: Option<Signature>,
    running: Option<Running>,
    /// What earlier ports counted, since it was claimed.
    before: Counters,
    /// What earlier ports of it went through, and those of earlier runners.
    past: MemifReport,
    trouble: Option<String>,
    /// What others were last told, and when the connection was last described.
    told: (Counters, Option<bool>),
    described: Instant,
}

/// An interface's port in the node.
struct Running {
    key: Key,
    gauge: Arc<Gauge>,
    plan: Plan,
    /// The bus's file, as it was joined.
    bus: Option<Signature>,
    connection: Option<View>,
}

/// All that a port is made from: when it is another, the port has to be, too.
#[derive(Clone, PartialEq, Eq)]
struct Plan {
    bus: PathBuf,
    socket: Option<Socket>,
    settings: PortSettings,
}

impl Seat {
    /// Claims an interface, and begins to run it as its record says.
    pub(super) fn take(
        floor: &mut Floor,
        name: InterfaceName,
        signature: Option<Signature>,
    ) -> Result<Self, RegistryError> {
        let claim = floor.registry.claim(name)?;
        let past = floor.registry.report(name).memif.unwrap_or_default();
        let mut seat = Self {
            claim,
            signature,
            running: None,
            before: Counters::default(),
            past: past.without_peer(),
            trouble: None,
            told: Default::default(),
            described: Instant::now(),
        };
        tracing::info!(%name, "claimed");
        seat.obey(floor);
        Ok(seat)
    }

    /// Whether its port is this one.
    pub(super) fn has(&self, key: Key) -> bool {
        self.running.as_ref().is_some_and(|running| running.key == key)
    }

    /// Reads the record again if its file is another, and does what it says. `thoroughly`, what is in trouble is tried again.
    ///
    /// # Errors
    /// When the record cannot be read: the last one still stands.
    pub(super) fn follow(
        &mut self,
        floor: &mut Floor,
        signature: Option<Signature>,
        thoroughly: bool,
    ) -> Result<(), RegistryError> {
        let mut changed = false;
        if signature != self.signature {
            changed = self.claim.refresh()?.is_some();
            self.signature = signature;
        }
        if changed || (thoroughly && (self.trouble.is_some() || self.has_lost_its_bus())) {
            self.obey(floor);
        }
        Ok(())
    }

    /// Whether there is another bus in the place of the one it is on. One whose file was only removed goes on for those who
    /// have it.
    fn has_lost_its_bus(&self) -> bool {
        self.running.as_ref().is_some_and(|Running { bus, plan, .. }| {
            let there = Signature::of(&plan.bus);
            bus.as_ref().zip(there.as_ref()).is_some_and(|(ours, there)| !ours.is_same_file(there))
        })
    }

    /// Does what the record says, and says so.
    fn obey(&mut self, floor: &mut Floor) {
        let record = self.claim.record().clone();
        let trouble = self.run(floor, &record).err().map(|error| exit::sentence(&error));
        if let Some(trouble) = &trouble
            && self.trouble.as_ref() != Some(trouble)
        {
            output::note(&format!("{}: {trouble}", record.name));
        }
        self.trouble.clone_from(&trouble);
        self.describe();
        if let Err(error) = self.claim.acknowledge(trouble) {
            output::warn(error);
        }
    }

    fn run(&mut self, floor: &mut Floor, record: &Record) -> anyhow::Result<()> {
        let plan = Plan::of(&floor.registry, record);
        let same = matches!((&plan, &self.running), (Ok(Some(plan)), Some(running)) if running.plan == *plan);
        if same && !self.has_lost_its_bus() {
            return Ok(());
        }
        self.close(floor);
        if let Some(plan) = plan? {
            self.running = Some(open(floor, record, plan)?);
        }
        Ok(())
    }

    /// Closes the port, if it has one; its peer is told.
    pub(super) fn close(&mut self, floor: &mut Floor) {
        if let Some(running) = &self.running {
            self.past = self.memif();
            floor.node.remove(running.key);
        }
        self.left();
    }

    /// There is no port any more.
    fn left(&mut self) {
        if let Some(running) = self.running.take() {
            self.before = self.before.plus(running.gauge.counters());
            self.past = std::mem::take(&mut self.past).without_peer();
        }
        self.describe();
        self.count();
    }

    /// The node has closed the port, because its bus is gone.
    pub(super) fn ended(&mut self, why: &Gone) {
        self.left();
        let trouble = why.to_string();
        output::note(&format!("{}: {trouble}", self.claim.record().name));
        self.trouble = Some(trouble.clone());
        if let Err(error) = self.claim.acknowledge(Some(trouble)) {
            output::warn(error);
        }
    }

    /// Lets others see how it is.
    pub(super) fn report(&mut self, now: Instant) {
        let due = now.saturating_duration_since(self.described) >= DESCRIBE;
        if due || self.told != (self.counters(), self.link()) {
            self.describe();
        }
        self.count();
    }

    /// Whether the port has a peer, while there is a port.
    fn link(&self) -> Option<bool> {
        self.running.as_ref().map(|running| running.gauge.is_up())
    }

    fn describe(&mut self) {
        self.described = Instant::now();
        self.told = (self.counters(), self.link());
        let is_memif = self.claim.record().name.kind() == Kind::Memif;
        self.claim.describe(self.link(), is_memif.then(|| self.memif()));
    }

    /// How its connection is, with what went before.
    fn memif(&self) -> MemifReport {
        let details = self.running.as_ref().and_then(|running| running.connection.as_ref()?.details());
        details.as_ref().map(MemifReport::from).unwrap_or_default().after(&self.past)
    }

    fn count(&mut self) {
        if let Err(error) = self.claim.count(self.counters()) {
            output::warn(error);
        }
    }

    fn counters(&self) -> Counters {
        let here = self.running.as_ref().map(|running| running.gauge.counters()).unwrap_or_default();
        self.before.plus(here)
    }

    /// The interface was destroyed.
    pub(super) fn give_up(mut self, floor: &mut Floor) -> Result<(), RegistryError> {
        self.close(floor);
        self.claim.discard()
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
fn open(floor: &mut Floor, record: &Record, plan: Plan) -> anyhow::Result<Running> {
    let name = record.name.to_string();
    let (port, connection, mac, learn): (Box<dyn Port>, _, _, _) =
        match (record.memif(), &plan.socket, record.tap()) {
            (Some(spec), Some(socket), _) => {
                let spec = spec.at(socket.address()?);
                let port = floor.sockets.open(&spec, name.clone())?;
                let view = port.view();
                (Box::new(port), Some(view), spec.mac, spec.learn)
            }
            (_, _, Some(spec)) => (Box::new(tap::open(&spec)?), None, spec.mac, spec.learn),
            _ => bail!("{name} is of no kind that a node can run"),
        };
    let bus = Bus::open_or_create(&plan.bus, MODE)?;
    let file = Signature::of(&plan.bus);
    let station = node::station(bus, &name, mac, learn)?;
    let (key, gauge) = floor.node.add(port, station);
    tracing::info!(name, bus = %plan.bus.display(), "open");
    Ok(Running { key, gauge, plan, bus: file, connection })
}
