//! The buses of a lab, and the ports on them, which a node serves.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use node::{Event, Node, NodeOptions, PortId, PortStats};
use port::{Port, PortOptions, PortSpec, Reporter};
use shmbus::{Bus, BusOptions, MacAddr6};
use tapdev::{Form, TapDevice};

use crate::error::{LabError, at};
use crate::folder::Folder;
use crate::plan::{Interface, Lan};

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
}

struct OpenLan {
    max_frame: usize,
    /// The port that writes its capture.
    capture: Option<PortId>,
}

/// A port of a node of the lab.
#[derive(Clone, Debug)]
pub(super) struct LabPort {
    pub(super) id: PortId,
    pub(super) stats: Arc<PortStats>,
}

impl Lans {
    /// Starts without LANs.
    pub(super) fn start(folder: Folder, reporter: Reporter) -> io::Result<Self> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let options = NodeOptions::new().threads(cpus.min(MAX_THREADS)).reporter(reporter.clone());
        Ok(Self { folder, by_name: BTreeMap::new(), node: Node::start(options)?, reporter })
    }

    /// Makes the bus of a LAN, and begins its capture.
    pub(super) fn add(&mut self, lan: &Lan) -> Result<(), LabError> {
        let path = self.folder.bus(&lan.name);
        let options = BusOptions::new().mode(MODE).size(lan.size).shmif(lan.is_shmif);
        let bus = options.open_or_create(&path).map_err(|error| {
            LabError::Refused(format!("the bus of {} cannot be made: {error}", lan.name))
        })?;
        let mut open = OpenLan { max_frame: bus.max_frame(), capture: None };
        if let Some(file) = &lan.capture {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder).map_err(at("make", folder))?;
            }
            let text = format!("pcap:out={}", file.display());
            open.capture = self.open(&text, &lan.name, None)?.first().map(|port| port.id);
        }
        self.by_name.insert(lan.name.clone(), open);
        Ok(())
    }

    /// Ends the capture of a LAN and removes its bus, which no node uses.
    pub(super) fn remove(&mut self, lan: &str) {
        if let Some(open) = self.by_name.remove(lan) {
            if let Some(port) = open.capture {
                self.node.remove(port);
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
        self.join(Box::new(port), &interface.lan, Some(interface.mac))
    }

    /// Opens the ports that `text` describes, and joins them to a LAN.
    pub(super) fn open(
        &mut self,
        text: &str,
        lan: &str,
        mac: Option<[u8; 6]>,
    ) -> Result<Vec<LabPort>, LabError> {
        let refused = |why: String| LabError::Refused(format!("the port {text}: {why}"));
        let spec: PortSpec =
            text.parse().map_err(|error: port::ParsePortError| refused(error.to_string()))?;
        let options = PortOptions::new().program("busctl lab").reporter(self.reporter.clone());
        let ports = port::open(&[spec], &self.folder.bus(lan), &options)
            .map_err(|error| refused(error.to_string()))?;
        ports.into_iter().map(|port| self.join(port, lan, mac)).collect()
    }

    fn join(
        &mut self,
        port: Box<dyn Port>,
        lan: &str,
        mac: Option<[u8; 6]>,
    ) -> Result<LabPort, LabError> {
        let station = node::station(self.bus(lan)?, port.name(), mac.map(MacAddr6::from))
            .map_err(|error| LabError::Refused(format!("cannot join {lan}: {error}")))?;
        let (id, stats) = self.node.add(port, station);
        Ok(LabPort { id, stats })
    }

    /// Closes a port.
    pub(super) fn close(&mut self, port: &LabPort) {
        self.node.remove(port.id);
    }

    /// Returns the next port that was closed because it cannot be used any more, and why.
    pub(super) fn next_closed(&mut self) -> Option<(PortId, String)> {
        while let Some(event) = self.node.next_event() {
            if let Event::Closed { port, reason } = event {
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
