//! The buses of a lab, and the ports on them, which a node serves.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use node::{Event, Node, NodeOptions, PortId, PortStats};
use port::trunk::OpenTrunk;
use port::{Impaired, Impairments, Port, PortError, PortOptions, PortSpec, Reporter};
use shmbus::{Bus, BusOptions, MacAddr6};
use tapdev::{Form, TapDevice};

use super::impairing::{self, InterfaceImpairments};
use super::port_reports::PortReports;
use crate::error::{LabError, at};
use crate::folder::Folder;
use crate::plan::{Interface, Lan, Plan, Trunk};
use crate::protocol::{RemoteState, TrunkState};

/// The permissions of a bus: it is the user's own.
const MODE: u32 = 0o600;
/// The length of an Ethernet header, which an MTU does not count.
const ETHERNET_HEADER: usize = 14;
/// More threads do not make a small machine faster.
const MAX_THREADS: usize = 4;

/// See the module.
pub(super) struct Lans {
    folder: Folder,
    by_name: BTreeMap<String, OpenLan>,
    node: Node,
    reporter: Reporter,
    /// How trunk ports are opened, in programs that have them.
    trunks: Option<OpenTrunk>,
    reports: PortReports,
}

struct OpenLan {
    impairments: Impairments,
    /// How many of its interfaces can be impaired, if it is a link.
    impairable: Option<usize>,
    max_frame: usize,
    /// The port that writes its capture.
    capture: Option<PortId>,
    trunk: Option<OpenTrunkPort>,
}

/// The port that joins a LAN to its parts on other machines.
struct OpenTrunkPort {
    id: PortId,
    name: String,
    stats: Arc<PortStats>,
    /// Why it is closed, if it is.
    closed: Option<String>,
}

/// A port of a node of the lab.
#[derive(Clone, Debug)]
pub(super) struct LabPort {
    pub(super) id: PortId,
    pub(super) stats: Arc<PortStats>,
    pub(super) impairments: InterfaceImpairments,
}

impl Lans {
    /// Starts without LANs.
    pub(super) fn start(
        folder: Folder,
        reporter: Reporter,
        trunks: Option<OpenTrunk>,
    ) -> io::Result<Self> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let options = NodeOptions::new().threads(cpus.min(MAX_THREADS)).reporter(reporter.clone());
        let (node, reports) = (Node::start(options)?, PortReports::start()?);
        Ok(Self { folder, by_name: BTreeMap::new(), node, reporter, trunks, reports })
    }

    /// Makes the bus of a LAN, and begins its capture. Its parts on other machines are not joined yet.
    ///
    /// `impairable` is on how many of its interfaces frames can be impaired.
    pub(super) fn add(&mut self, lan: &Lan, impairable: usize) -> Result<(), LabError> {
        let path = self.folder.bus(&lan.name);
        let options = BusOptions::new().mode(MODE).size(lan.size).shmif(lan.is_shmif);
        let bus = options.open_or_create(&path).map_err(|error| {
            LabError::Refused(format!("the bus of {} cannot be made: {error}", lan.name))
        })?;
        let mut open = OpenLan {
            impairments: impairing::parse(&lan.impair)?,
            impairable: lan.is_link.then_some(impairable),
            max_frame: bus.max_frame(),
            capture: None,
            trunk: None,
        };
        if let Some(file) = &lan.capture {
            let file = self.folder.path().join(file);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder).map_err(at("make", folder))?;
            }
            let filter = match lan.filter.as_str() {
                "" => String::new(),
                filter => format!(",filter={filter}"),
            };
            let text = format!("pcap:out={}{filter}", file.display());
            let ports = self.open_ports(&text, &lan.name)?;
            for port in ports {
                let name = port.name().to_owned();
                open.capture = Some(self.join(port, name, &lan.name, None)?.0);
            }
        }
        self.by_name.insert(lan.name.clone(), open);
        Ok(())
    }

    /// Joins a LAN to its parts on other machines, if it has any.
    pub(super) fn join_parts(&mut self, plan: &Plan, lan: &Lan) -> Result<(), LabError> {
        let (Some(trunk), Some(port)) = (&lan.trunk, plan.trunk_port(lan)) else { return Ok(()) };
        let Trunk { name, machines, .. } = trunk;
        let failed = |why: String| {
            let machines = machines.join(", ");
            LabError::Refused(format!("cannot join '{}' on {machines}: {why}", lan.name))
        };
        let text = port.map_err(failed)?;
        let spec: PortSpec =
            text.parse().map_err(|error: port::ParsePortError| failed(error.to_string()))?;
        let ports = self.open_specs(&[spec], &lan.name).map_err(|error| match error {
            PortError::NoTrunks => failed(format!(
                "they are joined by VXLAN where each has an 'address', else by Zenoh: {error}"
            )),
            error => failed(error.to_string()),
        })?;
        let (kind, _) = text.split_once(':').unwrap_or_default();
        let name = format!("{kind} {name}");
        for port in ports {
            let (id, stats) = self.join(port, name.clone(), &lan.name, None)?;
            let trunk = OpenTrunkPort { id, name: name.clone(), stats, closed: None };
            if let Some(open) = self.by_name.get_mut(&lan.name) {
                open.trunk = Some(trunk);
            }
        }
        Ok(())
    }

    /// Closes the port that joins a LAN to its parts on other machines.
    pub(super) fn part(&mut self, lan: &str) {
        let trunk = self.by_name.get_mut(lan).and_then(|open| open.trunk.take());
        if let Some(trunk) = trunk {
            self.node.remove(trunk.id);
            self.reports.remove(trunk.id);
        }
    }

    /// Returns how a LAN reaches its parts on other machines; `None` when it has none.
    pub(super) fn trunk_state(&self, lan: &Lan) -> Option<TrunkState> {
        let trunk = lan.trunk.as_ref()?;
        let open = self.by_name.get(&lan.name)?.trunk.as_ref()?;
        let remotes = open.stats.remotes().into_iter().map(|remote| RemoteState {
            host: remote.host.as_deref().unwrap_or_default().to_owned(),
            address: remote.address.map(|ip| ip.to_string()).unwrap_or_default(),
        });
        Some(TrunkState {
            port: open.name.clone(),
            vni: trunk.vni,
            closed: open.closed.clone(),
            remotes: remotes.collect(),
        })
    }

    /// Takes note that a port was closed. Returns the name of the LAN when the port joined its parts.
    pub(super) fn trunk_closed(&mut self, id: PortId, why: &str) -> Option<String> {
        let (name, trunk) = self.by_name.iter_mut().find_map(|(name, open)| {
            Some((name, open.trunk.as_mut().filter(|trunk| trunk.id == id)?))
        })?;
        trunk.closed = Some(why.to_owned());
        Some(name.clone())
    }

    /// Ends the capture of a LAN and removes its bus, which no node uses.
    pub(super) fn remove(&mut self, lan: &str) {
        self.part(lan);
        if let Some(open) = self.by_name.remove(lan) {
            if let Some(port) = open.capture {
                self.node.remove(port);
                self.reports.remove(port);
            }
            // At the latest, it is removed with the lab.
            let _ = std::fs::remove_file(self.folder.bus(lan));
        }
    }

    /// Returns the longest packet of an interface, in bytes.
    pub(super) fn mtu(&self, interface: &Interface) -> u32 {
        let most = self.by_name.get(&interface.lan).map_or(0, |lan| lan.max_frame);
        let most = u32::try_from(most.saturating_sub(ETHERNET_HEADER)).unwrap_or(u32::MAX);
        interface.mtu.map_or(most, |mtu| mtu.min(most))
    }

    /// Opens the bus of a LAN.
    pub(super) fn bus(&self, lan: &str) -> Result<Bus, LabError> {
        let path = self.folder.bus(lan);
        Bus::open(&path).map_err(|error| {
            LabError::Refused(format!("the bus of {lan} cannot be opened: {error}"))
        })
    }

    /// Joins a TAP of `node` to the LAN of its interface.
    pub(super) fn join_tap(
        &mut self,
        tap: OwnedFd,
        node: &str,
        interface: &Interface,
    ) -> Result<LabPort, LabError> {
        let name = format!("tap {} of {node}", interface.name);
        let device = TapDevice::from_fd(tap, interface.name.clone());
        let port = port::tap::serve(device, name, Form::Virtio)
            .map_err(|error| LabError::Refused(error.to_string()))?;
        let impairments = self.impairments_of(interface)?;
        let port = Box::new(Impaired::new(port, impairments.handle.clone()));
        let name = port.name().to_owned();
        let (id, stats) = self.join(port, name, &interface.lan, Some(interface.mac))?;
        Ok(LabPort { id, stats, impairments })
    }

    /// Opens the ports that `text` describes, and joins them to a LAN.
    pub(super) fn open(
        &mut self,
        text: &str,
        interface: &Interface,
    ) -> Result<Vec<LabPort>, LabError> {
        let mut ports = Vec::new();
        for port in self.open_ports(text, &interface.lan)? {
            let mut impairments = self.impairments_of(interface)?;
            if let Some(handle) = port.impair_handle() {
                impairments.hand_over(handle);
            }
            let name = port.name().to_owned();
            let (id, stats) = self.join(port, name, &interface.lan, None)?;
            ports.push(LabPort { id, stats, impairments });
        }
        Ok(ports)
    }

    /// Returns what an interface does to frames.
    pub(super) fn impairments_of(
        &self,
        interface: &Interface,
    ) -> Result<InterfaceImpairments, LabError> {
        let none = Impairments::new();
        let lan = self.by_name.get(&interface.lan);
        let is_alone = lan.is_some_and(|lan| lan.impairable == Some(1));
        let of_lan = lan.map_or(&none, |lan| &lan.impairments);
        InterfaceImpairments::new(interface.impair.as_deref(), of_lan, is_alone, interface.mac)
    }

    /// Returns what a LAN does to frames, as text.
    pub(super) fn impairments(&self, lan: &str) -> String {
        self.by_name.get(lan).map(|lan| lan.impairments.to_string()).unwrap_or_default()
    }

    /// Changes what a LAN does to frames, and returns it. The ports are to follow.
    pub(super) fn change(&mut self, lan: &str, impair: &str) -> Result<Impairments, LabError> {
        let Some(lan) = self.by_name.get_mut(lan) else {
            return Err(LabError::Refused(format!("there is no LAN {lan}")));
        };
        impairing::set(&mut lan.impairments, impair)?;
        Ok(lan.impairments.clone())
    }

    /// Does to frames on a LAN what `impair` says and nothing else, and returns it. The ports are to
    /// follow.
    pub(super) fn replace(&mut self, lan: &str, impair: &str) -> Result<Impairments, LabError> {
        let Some(lan) = self.by_name.get_mut(lan) else {
            return Err(LabError::Refused(format!("there is no LAN {lan}")));
        };
        lan.impairments = impairing::parse(impair)?;
        Ok(lan.impairments.clone())
    }

    /// Returns what a LAN does to frames.
    pub(super) fn of(&self, lan: &str) -> Impairments {
        self.by_name.get(lan).map(|lan| lan.impairments.clone()).unwrap_or_default()
    }

    fn open_ports(&self, text: &str, lan: &str) -> Result<Vec<Box<dyn Port>>, LabError> {
        let refused = |why: String| LabError::Refused(format!("the port {text}: {why}"));
        let spec: PortSpec =
            text.parse().map_err(|error: port::ParsePortError| refused(error.to_string()))?;
        self.open_specs(&[spec], lan).map_err(|error| refused(error.to_string()))
    }

    fn open_specs(&self, specs: &[PortSpec], lan: &str) -> Result<Vec<Box<dyn Port>>, PortError> {
        let options = PortOptions::new().program("busctl lab").reporter(self.reporter.clone());
        let options = match self.trunks {
            Some(open) => options.trunks(open),
            None => options,
        };
        port::open(specs, &self.folder.bus(lan), &options)
    }

    fn join(
        &mut self,
        port: Box<dyn Port>,
        name: String,
        lan: &str,
        mac: Option<[u8; 6]>,
    ) -> Result<(PortId, Arc<PortStats>), LabError> {
        let station = node::station(self.bus(lan)?, &name, mac.map(MacAddr6::from))
            .map_err(|error| LabError::Refused(format!("cannot join {lan}: {error}")))?;
        let (id, stats) = self.node.add(port, station);
        self.reports.add(id, &self.folder.bus(lan), name, Arc::clone(&stats));
        Ok((id, stats))
    }

    /// Closes a port.
    pub(super) fn close(&mut self, port: &LabPort) {
        self.node.remove(port.id);
        self.reports.remove(port.id);
    }

    /// Returns the next port that was closed because it cannot be used any more, and why.
    pub(super) fn next_closed(&mut self) -> Option<(PortId, String)> {
        while let Some(event) = self.node.next_event() {
            if let Event::Closed { port, reason } = event {
                self.reports.remove(port);
                return Some((port, reason.to_string()));
            }
        }
        None
    }
}

/// Polls readable when ports have gone up or down, or were closed.
impl AsFd for Lans {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.as_fd()
    }
}
