//! Ports on one bus: that of a path, or that of an interface, which is followed.
//!
//! While an interface is down, or its cable is pulled (`media=none`), the ports keep their peers; what comes from those is
//! dropped, and nothing comes from the bus. On the way back the bus is joined anew, which may be another one by then.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use node::{self, CloseReason, Counters, Event, Node, PortId, PortStats};
use port::{self, PortOptions, PortSpec};
use shmbus::{BusOptions, MacAddr6, Station};

use super::Args;
use crate::bus_argument::BusArgument;
use crate::context::Context;
use crate::misuse::sentence;
use crate::output;
use crate::registry::runner::{Destroyed, RecordChange, RunningInterface};
use crate::registry::{Media, Record};

/// See the module.
pub(super) struct Lan<'a> {
    node: Node,
    ports: Vec<Attached>,
    specs: &'a [PortSpec],
    options: BusOptions,
    /// What ports counted that are gone.
    before: Counters,
    followed: Option<RunningInterface>,
    /// None: the ports take part in no bus.
    place: Option<Place>,
}

/// A port in the node.
struct Attached {
    id: PortId,
    stats: Arc<PortStats>,
    name: String,
    /// Its place on the command line.
    index: usize,
}

/// Where the ports are: when it is another, their stations have to be, too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    bus: PathBuf,
    /// The interface's address, if it is one: the first port is known by it.
    mac: Option<MacAddr6>,
}

impl<'a> Lan<'a> {
    /// Opens the ports and joins the bus. An interface is claimed.
    ///
    /// # Errors
    /// When a port cannot be opened or the bus cannot be joined; when the interface cannot be used.
    pub(super) fn open(args: &'a Args, context: &Context) -> anyhow::Result<Self> {
        let (bus, followed) = match &args.bus {
            BusArgument::Path(path) => (path.clone(), None),
            BusArgument::Interface(name) => {
                let followed =
                    RunningInterface::claim_station(&context.registry()?, *name, output::reporter())?;
                (followed.record().bus()?.to_owned(), Some(followed))
            }
        };
        let place = match &followed {
            Some(followed) => Place::of(followed.record()),
            None => Some(Place { bus: bus.clone(), mac: None }),
        };
        let options = args.new_bus.options();
        let port_options =
            PortOptions::new().bus(options.clone()).program(crate::PROGRAM).reporter(output::reporter());
        // The ports come first: when a socket is in the way, no bus is made.
        let ports = port::open(&args.ports, &bus, &port_options)?;
        let mut lan = Self {
            node: Node::start(args.threads.options()).context("cannot start a node")?,
            ports: Vec::new(),
            specs: &args.ports,
            options,
            before: Counters::default(),
            followed,
            place,
        };
        for (index, port) in ports.into_iter().enumerate() {
            let name = port.name().to_owned();
            let here = lan.place.clone().unwrap_or(Place { bus: bus.clone(), mac: None });
            let station = lan.station(&here, index, &name)?;
            let (id, stats) = lan.node.add(port, station);
            lan.ports.push(Attached { id, stats, name, index });
        }
        if lan.place.is_none() {
            lan.unplug();
        }
        Ok(lan)
    }

    /// A station for a port.
    fn station(&self, place: &Place, index: usize, name: &str) -> anyhow::Result<Station> {
        let spec = &self.specs[index];
        let mac = spec.mac().or(place.mac.filter(|_| index == 0));
        let bus = self.options.open_or_create(&place.bus)?;
        Ok(node::station(bus, name, mac)?)
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When it cannot go on: the bus is gone, the interface was destroyed, or the last port has gone.
    pub(super) fn pass(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.node.next_event() {
            if let Event::Closed { port, reason } = event {
                self.closed(port, &reason)?;
            }
        }
        self.follow()
    }

    fn closed(&mut self, id: PortId, why: &CloseReason) -> anyhow::Result<()> {
        let Some(index) = self.ports.iter().position(|port| port.id == id) else { return Ok(()) };
        let port = self.ports.remove(index);
        self.before = self.before.plus(port.stats.counters());
        match why {
            CloseReason::Bus(_) => Err(why.clone().into()),
            CloseReason::Port(_) if self.ports.is_empty() => Err(anyhow!("{}: {why}", port.name)),
            _ => {
                output::note(&format!("{}: {why}; the others go on without it", port.name));
                Ok(())
            }
        }
    }

    /// Does what the record of the interface says, if it is one.
    fn follow(&mut self) -> anyhow::Result<()> {
        let counters = self.counters();
        let Some(followed) = &mut self.followed else { return Ok(()) };
        match followed.poll(counters) {
            RecordChange::Unchanged => {}
            RecordChange::Destroyed => {
                let destroyed = Destroyed(followed.record().name);
                self.followed.take().into_iter().for_each(RunningInterface::discard);
                return Err(destroyed.into());
            }
            RecordChange::Changed => {
                let record = followed.record().clone();
                let done = self.apply_record(&record);
                if let Some(followed) = &mut self.followed {
                    followed.acknowledge(done.err().as_ref().map(sentence));
                }
            }
        }
        Ok(())
    }

    fn apply_record(&mut self, record: &Record) -> anyhow::Result<()> {
        let place = Place::of(record);
        if place == self.place {
            return Ok(());
        }
        if self.place.is_some() {
            self.unplug();
        }
        if let Some(place) = place {
            port::check_loops(self.specs, &place.bus)?;
            let stations: Vec<_> = self
                .ports
                .iter()
                .map(|port| self.station(&place, port.index, &port.name))
                .collect::<Result<_, _>>()?;
            for (port, station) in self.ports.iter().zip(stations) {
                self.node.plug(port.id, station);
            }
            self.place = Some(place);
        }
        Ok(())
    }

    fn unplug(&mut self) {
        self.place = None;
        self.ports.iter().for_each(|port| self.node.unplug(port.id));
    }

    /// What went through, as the interface sees it: it receives from the bus.
    fn counters(&self) -> Counters {
        let all = self.ports.iter().fold(self.before, |sum, port| sum.plus(port.stats.counters()));
        all.from_the_other_side()
    }

    /// Whether there is something to look at now and then.
    pub(super) fn is_followed(&self) -> bool {
        self.followed.is_some()
    }
}

/// Readable when there is something to [do](Lan::pass).
impl AsFd for Lan<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.as_fd()
    }
}

impl Drop for Lan<'_> {
    /// Closes the ports, and leaves the last counters.
    fn drop(&mut self) {
        for port in &self.ports {
            self.node.remove(port.id);
        }
        let counters = self.counters();
        if let Some(followed) = &mut self.followed {
            followed.count(counters);
        }
    }
}

impl Place {
    /// Where the ports of an interface are to be.
    fn of(record: &Record) -> Option<Self> {
        let shmif = record.shmif()?;
        let bus = record.linkstr.as_deref().filter(|_| record.up && shmif.media == Media::Auto)?;
        Some(Self { bus: Path::to_owned(bus), mac: Some(shmif.mac) })
    }
}
