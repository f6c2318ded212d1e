//! Ports on one bus: that of a path, or that of an interface whose record is followed.
//!
//! While the interface is down or its cable is pulled (`media=none`), the ports keep their peers.
//! Frames from the peers are dropped, and none comes from the bus. Afterwards the ports join the
//! bus again, which may be another one by then.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use node::{self, CloseReason, Counters, Event, Node, PortId, PortStats};
use port::{self, LinkState, PortOptions, PortSpec};
use shmbus::{BusOptions, MacAddr6, Station};

use super::Args;
use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::misuse::trouble;
use crate::output;
use crate::port_reports::{PortReport, PortReports, Totals};
use crate::registry::file_stamp::FileStamp;
use crate::registry::runner::{Destroyed, RecordChange, RunningInterface};
use crate::registry::{Media, Record};

/// See the module.
pub(super) struct Lan {
    node: Node,
    ports: Vec<Attached>,
    /// A specification for each port.
    specs: Vec<PortSpec>,
    options: BusOptions,
    /// The counters of ports that are closed.
    past: Counters,
    interface: Option<RunningInterface>,
    /// Whether BUS is an interface. It may have been destroyed since.
    is_interface: bool,
    /// None while the ports are on no bus.
    binding: Option<BusBinding>,
    /// The bus's file, as it was joined.
    bus: Option<FileStamp>,
    port_reports: PortReports,
}

/// A port in the node.
struct Attached {
    id: PortId,
    stats: Arc<PortStats>,
    name: String,
    /// Its position on the command line.
    index: usize,
}

/// The bus the ports are on, and the address there. When this changes, the ports get new stations.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BusBinding {
    bus: PathBuf,
    /// The address of the interface, if there is one; the first port has it.
    mac: Option<MacAddr6>,
}

impl Lan {
    /// Opens the ports and joins the bus. An interface is claimed.
    ///
    /// # Errors
    /// When a port cannot be opened or the bus cannot be joined; when the interface cannot be used.
    pub(super) fn open(args: &Args, context: &Context) -> anyhow::Result<Self> {
        let (bus, interface) = match &args.bus {
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
        let options = args.new_bus.options();
        let port_options = PortOptions::new()
            .bus(options.clone())
            .program(crate::PROGRAM)
            .guard_loops(true)
            .reporter(output::reporter());
        // The ports come first: when a socket is in the way, no bus is made.
        let specs: Vec<PortSpec> = args.ports.iter().flat_map(PortSpec::each_client).collect();
        let ports = port::open(&specs, &bus, &port_options)?;
        let mut lan = Self {
            node: Node::start(args.threads.options()).context("cannot start a node")?,
            ports: Vec::new(),
            specs,
            options,
            past: Counters::default(),
            is_interface: interface.is_some(),
            interface,
            binding,
            bus: None,
            port_reports: PortReports::begin(),
        };
        for (index, port) in ports.into_iter().enumerate() {
            let name = port.name().to_owned();
            let here = lan.binding.clone().unwrap_or(BusBinding { bus: bus.clone(), mac: None });
            let station = lan.station(&here, index, &name)?;
            let (id, stats) = lan.node.add(port, station);
            lan.ports.push(Attached { id, stats, name, index });
        }
        lan.bus = FileStamp::of(&bus);
        if lan.binding.is_none() {
            lan.unplug();
        }
        Ok(lan)
    }

    /// Makes a station for a port.
    fn station(&self, binding: &BusBinding, index: usize, name: &str) -> anyhow::Result<Station> {
        let spec = &self.specs[index];
        let mac = spec.mac().or(binding.mac.filter(|_| index == 0));
        let bus = self.options.open_or_create(&binding.bus)?;
        Ok(node::station(bus, name, mac)?)
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When the bus is gone, the interface was destroyed, or the last port is closed.
    pub(super) fn pass(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.node.next_event() {
            if let Event::Closed { port, reason } = event {
                self.closed(port, &reason)?;
            }
        }
        self.publish();
        self.follow()
    }

    /// Returns whether a port has a peer and still finds out whether it closes a loop.
    pub(super) fn is_listening(&self) -> bool {
        self.ports.iter().any(|port| port.stats.link_state() == LinkState::Listening)
    }

    /// Publishes the counters of the ports, for `show`.
    fn publish(&mut self) {
        let Some(bus) = &self.bus else { return };
        let reports = self.ports.iter().map(|port| PortReport::new(&port.name, bus, &port.stats));
        self.port_reports.publish(reports);
    }

    fn closed(&mut self, id: PortId, why: &CloseReason) -> anyhow::Result<()> {
        let Some(index) = self.ports.iter().position(|port| port.id == id) else { return Ok(()) };
        let port = self.ports.remove(index);
        if !self.is_interface {
            port.say_counters(&self.specs);
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
                .map(|port| self.station(&binding, port.index, &port.name))
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
    /// Prints what the port has counted, at its end, if frames have passed. A capture is there to
    /// be looked at, so its port says nothing.
    fn say_counters(&self, specs: &[PortSpec]) {
        let counters = self.stats.counters();
        if specs[self.index].joins() && counters.rx_packets + counters.tx_packets > 0 {
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
                port.say_counters(&self.specs);
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
