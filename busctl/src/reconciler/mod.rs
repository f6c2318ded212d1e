//! Runs the memif and tap interfaces of a registry on a node, and follows the registry while it changes.
//!
//! Every such interface is claimed, so that whoever changes it knows whom to wait for; those that are up and plugged in have
//! their port in the node. What goes wrong with one is reported as its trouble and tried again, and the others go on.

mod managed;
mod registry_watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use self::managed::{Managed, Shared};
use self::registry_watch::RegistryWatch;
use crate::node::{Node, Threads};
use crate::output;
use crate::port::memif::Sockets;
use crate::registry::runner::News;
use crate::registry::{InterfaceName, Kind, Registry, RegistryError};

/// How often everything is looked at, although nobody said that it has changed.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Reconciler {
    floor: Shared,
    watch: RegistryWatch,
    /// The interfaces this process runs.
    seats: BTreeMap<InterfaceName, Managed>,
    looked: Option<Instant>,
    /// What was last complained about, by what it was about.
    complaints: HashMap<String, String>,
}

impl Reconciler {
    /// Starts a node for the interfaces of `registry`, which is made if need be; none of them is run yet.
    ///
    /// # Errors
    /// When the registry cannot be used, or no thread or descriptor is to be had.
    pub(crate) fn start(registry: Registry, threads: &Threads) -> anyhow::Result<Self> {
        // Makes the folders that are to be watched.
        drop(registry.edit()?);
        let floor = Shared { node: Node::start(threads)?, sockets: Sockets::start()?, registry };
        let watch = RegistryWatch::new(floor.registry.watched_folders());
        Ok(Self { floor, watch, seats: BTreeMap::new(), looked: None, complaints: HashMap::new() })
    }

    /// What to sleep on until the next [`pass`](Self::pass): a tenth of a second at most, for the sake of counters.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        use std::os::fd::AsFd as _;
        self.watch.descriptor().into_iter().chain([self.floor.node.as_fd()])
    }

    /// Does what is due.
    pub(crate) fn pass(&mut self) {
        let now = Instant::now();
        let late = self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK);
        if self.watch.has_changed() || late {
            if late {
                self.looked = Some(now);
                self.watch.renew();
            }
            self.look(late);
        }
        while let Some((key, why)) = self.floor.node.ended() {
            if let Some(seat) = self.seats.values_mut().find(|seat| seat.has(key)) {
                seat.ended(&why);
            }
        }
        for seat in self.seats.values_mut() {
            seat.report(now);
        }
    }

    /// Compares the registry with what is run here.
    fn look(&mut self, thoroughly: bool) {
        let names = match self.floor.registry.names() {
            Ok(names) => names,
            Err(error) => return self.complain("registry", Some(error.to_string())),
        };
        self.complain("registry", None);
        let ports: BTreeSet<_> = names.into_iter().filter(|name| name.kind() != Kind::Shmif).collect();
        for (name, seat) in self.seats.extract_if(.., |name, _| !ports.contains(name)).collect::<Vec<_>>() {
            tracing::info!(%name, "destroyed");
            seat.give_up(&mut self.floor);
        }
        for name in ports {
            let complaint = self.look_at(name, thoroughly).err().map(|error| error.to_string());
            self.complain(&name.to_string(), complaint);
        }
    }

    /// Runs an interface as its record says.
    ///
    /// # Errors
    /// When its record cannot be read, or somebody else runs it.
    fn look_at(&mut self, name: InterfaceName, thoroughly: bool) -> Result<(), RegistryError> {
        if let Some(seat) = self.seats.get_mut(&name) {
            if seat.follow(&mut self.floor, thoroughly) == News::Destroyed
                && let Some(seat) = self.seats.remove(&name)
            {
                tracing::info!(%name, "destroyed");
                seat.give_up(&mut self.floor);
            }
            return Ok(());
        }
        // Asked first: to claim in vain takes some time.
        if let Some(runner) = self.floor.registry.runner(name)? {
            return Err(RegistryError::Running { name, runner });
        }
        match Managed::take(&mut self.floor, name) {
            Ok(seat) => drop(self.seats.insert(name, seat)),
            // Destroyed since its name was read.
            Err(RegistryError::NoSuchInterface { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Says what is wrong, once.
    fn complain(&mut self, about: &str, what: Option<String>) {
        match what {
            None => drop(self.complaints.remove(about)),
            Some(what) if self.complaints.get(about) == Some(&what) => {}
            Some(what) => {
                output::warn(&what);
                self.complaints.insert(about.to_owned(), what);
            }
        }
    }

    /// How many rounds each thread of the node has gone: all go on at least twice a second.
    pub(crate) fn beats(&self) -> Vec<u64> {
        self.floor.node.beats()
    }

    /// Tells all peers that the program ends, closes all ports and gives the interfaces back.
    pub(crate) fn close(mut self) {
        self.floor.sockets.farewell();
        for seat in self.seats.values_mut() {
            seat.close(&mut self.floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{PortSettings, Record, Settings};

    /// It looks at the names and then at the records: an interface may go in between.
    #[test]
    fn an_interface_that_goes_while_it_is_looked_at_is_nothing_to_be_said() {
        const NAME: InterfaceName = InterfaceName::Tap(0);
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(folder.path().join("state"));
        let mut keeper = Reconciler::start(registry.clone(), &Threads::default()).unwrap();
        keeper.look_at(NAME, true).unwrap();
        assert!(keeper.seats.is_empty());

        registry.edit().unwrap().create(Record::new(NAME, Settings::Port(PortSettings::default()))).unwrap();
        keeper.look_at(NAME, true).unwrap();
        assert!(registry.runner(NAME).unwrap().is_some());
        registry.edit().unwrap().destroy(NAME).unwrap();
        keeper.look_at(NAME, true).unwrap();
        assert!(keeper.seats.is_empty());
        assert_eq!(registry.runner(NAME).unwrap(), None);
        keeper.close();
    }
}
