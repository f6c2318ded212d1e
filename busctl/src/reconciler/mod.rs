//! Runs the memif, tap and sock interfaces of a registry on a node, and follows the registry while it
//! changes.
//!
//! Every such interface is claimed, so that a process that changes it knows which process to wait
//! for. Those that are up and plugged in have their port in the node. A failure of one is reported
//! as its trouble and tried again; the others continue.

mod managed;
mod opened;
mod registry_watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use node::{Event, Node, NodeOptions, Reports};
use port::memif::Sockets;
use port::socket::SocketServers;

use self::managed::Managed;
use self::opened::Shared;
use self::registry_watch::RegistryWatch;
use crate::output;
use crate::registry::runner::RecordChange;
use crate::registry::{InterfaceName, Kind, Registry, RegistryError};

/// How often everything is reconciled without a reported change.
const FULL_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Reconciler {
    shared: Shared,
    watch: RegistryWatch,
    /// The interfaces this process runs.
    interfaces: BTreeMap<InterfaceName, Managed>,
    reconciled: Option<Instant>,
    /// Where `show` finds the ports by their bus.
    reports: Reports,
    /// What was reported, by its subject.
    reported: HashMap<String, String>,
}

impl Reconciler {
    /// Starts a node for the interfaces of `registry`, which is made when it is missing. None of
    /// them is run yet.
    ///
    /// # Errors
    /// When the registry cannot be used, or no thread or descriptor is available.
    pub(crate) fn start(registry: Registry, options: NodeOptions) -> anyhow::Result<Self> {
        // Makes the folders that are watched.
        drop(registry.edit()?);
        let shared = Shared {
            node: Node::start(options).context("cannot start a node")?,
            sockets: Sockets::start(crate::PROGRAM, &output::reporter())?,
            socket_servers: SocketServers::new(&output::reporter()),
            registry,
        };
        let reports = Reports::begin();
        let watch = RegistryWatch::new(shared.registry.watched_folders());
        Ok(Self {
            shared,
            watch,
            interfaces: BTreeMap::new(),
            reconciled: None,
            reports,
            reported: HashMap::new(),
        })
    }

    /// Returns what to wait for until the next [`pass`](Self::pass). Wait a tenth of a second at
    /// most, to keep counters fresh.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        use std::os::fd::AsFd as _;
        self.watch.descriptor().into_iter().chain([self.shared.node.as_fd()])
    }

    /// Does what is due.
    pub(crate) fn pass(&mut self) {
        let now = Instant::now();
        let late = self
            .reconciled
            .is_none_or(|reconciled| now.saturating_duration_since(reconciled) >= FULL_INTERVAL);
        if self.watch.has_changed() || late {
            if late {
                self.reconciled = Some(now);
                self.watch.renew();
            }
            self.reconcile(late);
        }
        while let Some(event) = self.shared.node.next_event() {
            let Event::Closed { port, reason } = event else { continue };
            if let Some(interface) =
                self.interfaces.values_mut().find(|interface| interface.has(port))
            {
                interface.port_closed(&mut self.shared, &reason);
            }
        }
        for interface in self.interfaces.values_mut() {
            interface.report(now);
        }
        self.reports.publish(self.interfaces.values().flat_map(Managed::port_reports));
    }

    /// Compares the registry with what runs here.
    fn reconcile(&mut self, thoroughly: bool) {
        let names = match self.shared.registry.names() {
            Ok(names) => names,
            Err(error) => return self.warn_once("registry", Some(error.to_string())),
        };
        self.warn_once("registry", None);
        let ports: BTreeSet<_> =
            names.into_iter().filter(|name| name.kind() != Kind::Shmif).collect();
        for (name, interface) in
            self.interfaces.extract_if(.., |name, _| !ports.contains(name)).collect::<Vec<_>>()
        {
            tracing::info!(%name, "destroyed");
            interface.discard(&mut self.shared);
        }
        for name in ports {
            let error = self.reconcile_one(name, thoroughly).err().map(|error| error.to_string());
            self.warn_once(&name.to_string(), error);
        }
    }

    /// Runs an interface as its record says.
    ///
    /// # Errors
    /// When its record cannot be read, or another process runs it.
    fn reconcile_one(
        &mut self,
        name: InterfaceName,
        thoroughly: bool,
    ) -> Result<(), RegistryError> {
        if let Some(interface) = self.interfaces.get_mut(&name) {
            if interface.follow(&mut self.shared, thoroughly) == RecordChange::Destroyed
                && let Some(interface) = self.interfaces.remove(&name)
            {
                tracing::info!(%name, "destroyed");
                interface.discard(&mut self.shared);
            }
            return Ok(());
        }
        // Asked first, because a claim that fails takes some time.
        if let Some(runner) = self.shared.registry.runner(name)? {
            return Err(RegistryError::Running { name, runner: runner.to_string() });
        }
        match Managed::claim(&mut self.shared, name) {
            Ok(interface) => drop(self.interfaces.insert(name, interface)),
            // Destroyed since its name was read.
            Err(RegistryError::NoSuchInterface { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Warns of a problem of `about` once, until there is none (`what` is none).
    fn warn_once(&mut self, about: &str, what: Option<String>) {
        let Some(what) = what else {
            self.reported.remove(about);
            return;
        };
        if self.reported.get(about) != Some(&what) {
            output::warn(&what);
            self.reported.insert(about.to_owned(), what);
        }
    }

    /// Returns the number of rounds of each thread of the node. Each grows at least twice a second.
    pub(crate) fn beats(&self) -> Vec<u64> {
        self.shared.node.beats()
    }

    /// Tells all peers that the program ends, closes all ports and releases the interfaces.
    pub(crate) fn close(mut self) {
        self.shared.sockets.announce_shutdown();
        for interface in self.interfaces.values_mut() {
            interface.close(&mut self.shared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{PortSettings, Record, Settings};

    /// The names are read before the records: an interface may be destroyed in between.
    #[test]
    fn an_interface_that_is_destroyed_meanwhile_is_no_error() {
        const NAME: InterfaceName = InterfaceName::Tap(0);
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(folder.path().join("state"));
        let mut reconciler = Reconciler::start(registry.clone(), NodeOptions::new()).unwrap();
        reconciler.reconcile_one(NAME, true).unwrap();
        assert!(reconciler.interfaces.is_empty());

        registry
            .edit()
            .unwrap()
            .create(Record::new(NAME, Settings::Port(PortSettings::default())))
            .unwrap();
        reconciler.reconcile_one(NAME, true).unwrap();
        assert!(registry.runner(NAME).unwrap().is_some());
        registry.edit().unwrap().destroy(NAME).unwrap();
        reconciler.reconcile_one(NAME, true).unwrap();
        assert!(reconciler.interfaces.is_empty());
        assert_eq!(registry.runner(NAME).unwrap(), None);
        reconciler.close();
    }
}
