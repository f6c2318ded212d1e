//! Ports on one bus: that of a path, or that of an interface whose record is followed.
//!
//! While the interface is down or its cable is pulled (`media=none`), the ports keep their peers.
//! Frames from the peers are dropped, and none comes from the bus. Afterwards the ports join the
//! bus again, which may be another one by then.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use node::{
    self, CloseReason, Counters, Event, Node, NodeOptions, PortId, PortStats, Report, Reports,
};
use port::{self, LinkState, Port, PortSpec};
use shmbus::{BusOptions, MAX_FRAME, MacAddr6, Station};

use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::misuse::trouble;
use crate::output;
use crate::port_view::Totals;
use crate::registry::file_stamp::FileStamp;
use crate::registry::runner::{Destroyed, RecordChange, RunningInterface};
use crate::registry::{Media, Record};

/// See the module.
pub(crate) struct Lan {
    node: Node,
    ports: Vec<Attached>,
    /// What the ports were opened by, for the search for loops; empty for ports without.
    specs: Vec<PortSpec>,
    options: BusOptions,
    /// The longest frame that the bus carried when it was joined first, in bytes.
    max_frame: usize,
    /// The counters of ports that are closed.
    past: Counters,
    interface: Option<RunningInterface>,
    /// Whether BUS is an interface. It may have been destroyed since.
    is_interface: bool,
    /// None while the ports are on no bus.
    binding: Option<BusBinding>,
    /// The bus's file, as it was joined.
    bus: Option<FileStamp>,
    reports: Reports,
}

/// A port to be joined to the bus.
pub(crate) struct NewPort {
    /// The port itself.
    pub(crate) port: Box<dyn Port>,
    /// The address its station should have; `None`: a random one.
    pub(crate) mac: Option<MacAddr6>,
    /// Whether its counters are printed at its end, if frames have passed.
    pub(crate) says_counters: bool,
}

/// A port in the node.
struct Attached {
    id: PortId,
    stats: Arc<PortStats>,
    name: String,
    mac: Option<MacAddr6>,
    /// Whether it is the first port, which has the address of the interface.
    first: bool,
    says_counters: bool,
}

/// The bus the ports are on, and the address there. When this changes, the ports get new stations.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BusBinding {
    bus: PathBuf,
    /// The address of the interface, if there is one; the first port has it.
    mac: Option<MacAddr6>,
}

impl Lan {
    /// Opens ports with `open`, which is given the path of the bus, and joins them to the bus. An
    /// interface is claimed.
    ///
    /// # Errors
    /// When a port cannot be opened or the bus cannot be joined; when the interface cannot be used.
    pub(crate) fn open(
        bus: &BusArgument,
        new_bus: BusOptions,
        node: NodeOptions,
        context: &Context,
        open: impl FnOnce(&Path) -> anyhow::Result<Vec<NewPort>>,
    ) -> anyhow::Result<Self> {
        let (bus, interface) = match bus {
            BusArgument::Path(path) => (path.clone(), None),
            BusArgument::Interface(name) => {
                let interface = RunningInterface::claim_station(
                    &context.registry()?,
                    *name,
                    output::reporter(),
                )?;
                (interface.record().bus()?.to_owned(), Some(interface))
            }
        };
        let binding = match &interface {
            Some(interface) => BusBinding::of(interface.record()),
            None => Some(BusBinding { bus: bus.clone(), mac: None }),
        };
        // The ports come first: when a socket is in the way, no bus is made.
        let ports = open(&bus)?;
        let mut lan = Self {
            node: Node::start(node).context("cannot start a node")?,
            ports: Vec::new(),
            specs: Vec::new(),
            options: new_bus,
            max_frame: MAX_FRAME,
            past: Counters::default(),
            is_interface: interface.is_some(),
            interface,
            binding,
            bus: None,
            reports: Reports::begin(),
        };
        for (index, NewPort { port, mac, says_counters }) in ports.into_iter().enumerate() {
            let (name, first) = (port.name().to_owned(), index == 0);
            let here = lan.binding.clone().unwrap_or(BusBinding { bus: bus.clone(), mac: None });
            let station = lan.station(&here, mac, first, &name)?;
            lan.max_frame = station.bus().max_frame();
            let (id, stats) = lan.node.add(port, station);
            lan.ports.push(Attached { id, stats, name, mac, first, says_counters });
        }
        lan.bus = FileStamp::of(&bus);
        if lan.binding.is_none() {
            lan.unplug();
        }
        Ok(lan)
    }

    /// Looks for loops through these ports whenever they move to another bus.
    #[must_use]
    pub(crate) fn check_loops_of(mut self, specs: &[PortSpec]) -> Self {
        specs.clone_into(&mut self.specs);
        self
    }

    /// Returns the longest frame that the bus carried when it was joined first, in bytes.
    #[must_use]
    pub(crate) fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Makes a station for a port.
    fn station(
        &self,
        binding: &BusBinding,
        mac: Option<MacAddr6>,
        first: bool,
        name: &str,
    ) -> anyhow::Result<Station> {
        let mac = mac.or(binding.mac.filter(|_| first));
        let bus = self.options.open_or_create(&binding.bus)?;
        Ok(node::station(bus, name, mac)?)
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When the bus is gone, the interface was destroyed, or the last port is closed.
    pub(crate) fn pass(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.node.next_event() {
            if let Event::Closed { port, reason } = event {
                self.closed(port, &reason)?;
            }
        }
        self.publish();
        self.follow()
    }

    /// Returns whether a port has a peer and still finds out whether it closes a loop.
    pub(crate) fn is_listening(&self) -> bool {
        self.ports.iter().any(|port| port.stats.link_state() == LinkState::Listening)
    }

    /// Returns a number for each thread that serves the ports; it grows while the thread works.
    pub(crate) fn beats(&self) -> Vec<u64> {
        self.node.beats()
    }

    /// Publishes the counters of the ports, for `show`.
    fn publish(&mut self) {
        let Some(bus) = &self.bus else { return };
        let reports =
            self.ports.iter().map(|port| Report::of_port(&port.name, bus.identity(), &port.stats));
        self.reports.publish(reports);
    }

    fn closed(&mut self, id: PortId, why: &CloseReason) -> anyhow::Result<()> {
        let Some(index) = self.ports.iter().position(|port| port.id == id) else { return Ok(()) };
        let port = self.ports.remove(index);
        if !self.is_interface {
            port.say_counters();
        }
        self.past = self.past.plus(port.stats.counters());
        match why {
            CloseReason::Bus(_) => Err(why.clone().into()),
            CloseReason::Port(_) if self.ports.is_empty() => Err(anyhow!("{}: {why}", port.name)),
            _ => {
                output::note(&format!("{}: {why}; the others continue without it", port.name));
                Ok(())
            }
        }
    }

    /// Does what the record of the interface says, if BUS is one.
    fn follow(&mut self) -> anyhow::Result<()> {
        let counters = self.counters();
        let Some(interface) = &mut self.interface else { return Ok(()) };
        match interface.poll(counters) {
            RecordChange::Unchanged => {}
            RecordChange::Destroyed => {
                let destroyed = Destroyed(interface.record().name);
                self.interface.take().into_iter().for_each(RunningInterface::discard);
                return Err(destroyed.into());
            }
            RecordChange::Changed => {
                let record = interface.record().clone();
                let done = self.apply_record(&record);
                if let Some(interface) = &mut self.interface {
                    interface.acknowledge(done.err().as_ref().map(trouble));
                }
            }
        }
        Ok(())
    }

    fn apply_record(&mut self, record: &Record) -> anyhow::Result<()> {
        let binding = BusBinding::of(record);
        if binding == self.binding {
            return Ok(());
        }
        if self.binding.is_some() {
            self.unplug();
        }
        if let Some(binding) = binding {
            port::check_loops(&self.specs, &binding.bus)?;
            let stations: Vec<_> = self
                .ports
                .iter()
                .map(|port| self.station(&binding, port.mac, port.first, &port.name))
                .collect::<Result<_, _>>()?;
            for (port, station) in self.ports.iter().zip(stations) {
                self.node.plug(port.id, station);
            }
            self.bus = FileStamp::of(&binding.bus);
            self.binding = Some(binding);
        }
        Ok(())
    }

    fn unplug(&mut self) {
        self.binding = None;
        self.ports.iter().for_each(|port| self.node.unplug(port.id));
    }

    /// Returns the counters as the interface sees them: it receives from the bus.
    fn counters(&self) -> Counters {
        let all = self.ports.iter().fold(self.past, |sum, port| sum.plus(port.stats.counters()));
        all.from_the_other_side()
    }
}

impl Attached {
    /// Prints what the port has counted, at its end, if frames have passed.
    fn say_counters(&self) {
        let counters = self.stats.counters();
        if self.says_counters && counters.rx_packets + counters.tx_packets > 0 {
            output::note(&format!("{}: {}", self.name, Totals(counters)));
        }
    }
}

/// Polls readable when there is something to [do](Lan::pass).
impl AsFd for Lan {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.as_fd()
    }
}

impl Drop for Lan {
    /// Closes the ports, and prints and publishes the last counters.
    fn drop(&mut self) {
        for port in &self.ports {
            self.node.remove(port.id);
            // The counters of an interface stay with its record.
            if !self.is_interface {
                port.say_counters();
            }
        }
        let counters = self.counters();
        if let Some(interface) = &mut self.interface {
            interface.count(counters);
        }
    }
}

impl BusBinding {
    /// Returns where the record puts the ports; none while the interface is down or has no link.
    fn of(record: &Record) -> Option<Self> {
        let shmif = record.shmif()?;
        let bus = record.linkstr.as_deref().filter(|_| record.up && shmif.media == Media::Auto)?;
        Some(Self { bus: Path::to_owned(bus), mac: Some(shmif.mac) })
    }
}
