//! The node as a user meets it: ports are added and removed, and events report how they are.
//!
//! The threads share the ports between them. A port is added or removed while the others are
//! served.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use port::{Impairments, LOCK_TIMEOUT, Port, WakeFd};
use shmbus::{Bus, MacAddr6, OpenError, Station, StationOptions};

use crate::attached_port::{AttachedPort, CloseReason, PortId};
use crate::options::NodeOptions;
use crate::port_stats::{Counters, PortStats};
use crate::thread::Thread;
use crate::worker::{Ended, Reports};

/// Joins `bus` with a station for a port. The station receives frames to any destination. It has
/// the address `mac`, or a random one.
///
/// # Errors
/// [`OpenError`] when the bus cannot be joined.
pub fn station(bus: Bus, name: &str, mac: Option<MacAddr6>) -> Result<Station, OpenError> {
    let mut options = StationOptions::new().name(name).promiscuous(true).lock_timeout(LOCK_TIMEOUT);
    if let Some(mac) = mac {
        options = options.mac(mac);
    }
    Station::join(bus, options)
}

/// A change of a port in a node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The port has a peer.
    Up(PortId),
    /// The peer of the port has gone.
    Down(PortId),
    /// The node has closed and removed the port, because its bus or its other side cannot be used
    /// any more.
    Closed {
        /// The port.
        port: PortId,
        /// Why the node has closed it.
        reason: CloseReason,
    },
}

/// Threads that move frames between ports and buses.
///
/// Its descriptor polls readable while there may be an [event](Self::next_event). Dropping it
/// closes all ports, and waits for the threads. The [crate's page](crate) has an example.
#[derive(Debug)]
pub struct Node {
    threads: Vec<Thread>,
    ports: BTreeMap<PortId, Entry>,
    reports: Reports,
    ended: Receiver<Ended>,
    /// Ports that have ended, taken from the channel before their events were asked for.
    closed: VecDeque<Ended>,
    /// The latest id.
    last_id: u64,
}

/// What the node knows of a port.
#[derive(Debug)]
struct Entry {
    thread: usize,
    stats: Arc<PortStats>,
    /// Whether the latest event was [`Event::Up`].
    was_up: bool,
}

impl Node {
    /// Starts the threads of a node without ports.
    ///
    /// # Errors
    /// The system's error when no thread or descriptor is available.
    pub fn start(options: NodeOptions) -> io::Result<Self> {
        let cpus: Vec<_> = (0..options.thread_count()).map(|index| options.cpu_of(index)).collect();
        let (sender, ended) = channel();
        let wake_fd = Arc::new(WakeFd::new()?);
        let reports = Reports { ended: sender, wake_fd, reporter: options.reporter };
        let start = |(index, cpu)| Thread::start(index, cpu, reports.clone());
        let threads = cpus.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Self {
            threads,
            ports: BTreeMap::new(),
            reports,
            ended,
            closed: VecDeque::new(),
            last_id: 0,
        })
    }

    /// Joins `bus` for a port, and serves the port until it is removed or cannot continue. Returns
    /// its id.
    ///
    /// # Errors
    /// [`OpenError`] when the bus cannot be joined.
    pub fn attach(&mut self, port: impl Port + 'static, bus: Bus) -> Result<PortId, OpenError> {
        let station = station(bus, port.name(), None)?;
        Ok(self.add(port, station).0)
    }

    /// Serves a port that has a [`station`] already. Returns its id, and its statistics, which stay
    /// readable when the port is closed.
    ///
    /// The port goes to the thread with the fewest ports.
    pub fn add(&mut self, port: impl Port + 'static, station: Station) -> (PortId, Arc<PortStats>) {
        let thread = self.freest_thread(&[]);
        self.add_to(thread, port, station)
    }

    /// Serves the queues of one peer, each by a thread of its own while there are as many;
    /// otherwise as [`add`](Self::add).
    pub fn add_queues<P: Port + 'static>(
        &mut self,
        queues: impl IntoIterator<Item = (P, Station)>,
    ) -> Vec<(PortId, Arc<PortStats>)> {
        let mut taken = Vec::new();
        let add = |(port, station)| {
            let thread = self.freest_thread(&taken);
            taken.push(thread);
            self.add_to(thread, port, station)
        };
        queues.into_iter().map(add).collect()
    }

    /// Returns the thread with the fewest ports, among those that are not `taken` if there are any.
    fn freest_thread(&self, taken: &[usize]) -> usize {
        let load = |thread: &usize| {
            let ports = self.ports.values().filter(|entry| entry.thread == *thread).count();
            (taken.contains(thread), ports)
        };
        (0..self.threads.len()).min_by_key(load).unwrap_or_default()
    }

    fn add_to(
        &mut self,
        thread: usize,
        port: impl Port + 'static,
        station: Station,
    ) -> (PortId, Arc<PortStats>) {
        self.last_id += 1;
        let (id, stats) = (PortId(self.last_id), Arc::new(PortStats::of(&port)));
        let Reports { wake_fd, reporter, .. } = self.reports.clone();
        let attached =
            AttachedPort::new(id, Box::new(port), station, Arc::clone(&stats), wake_fd, reporter);
        self.ports.insert(id, Entry { thread, stats: Arc::clone(&stats), was_up: false });
        self.threads[thread].add(Box::new(attached));
        (id, stats)
    }

    /// Closes a port. When this returns, no frames move there any more, and the peer is
    /// disconnected. Does nothing when the port is closed already.
    pub fn remove(&mut self, id: PortId) {
        let Some(entry) = self.ports.remove(&id) else { return };
        // Closed here and not by the thread, which has other ports to serve.
        if let Some(mut port) = self.threads[entry.thread].take(id) {
            port.close();
        } else {
            // It has just ended. It is dropped here, and the events of the others are kept.
            let others = self.ended.try_iter().filter(|ended| ended.port.id != id);
            self.closed.extend(others);
            self.closed.retain(|ended| ended.port.id != id);
        }
    }

    /// Takes the link of a port's station down. The port keeps its peer; frames from there are
    /// dropped.
    pub fn unplug(&mut self, id: PortId) {
        self.change(id, AttachedPort::unplug);
    }

    /// Gives a port another [`station`], perhaps on another bus. Frames that wait for the peer are
    /// dropped.
    pub fn plug(&mut self, id: PortId, station: Station) {
        self.change(id, |port| port.plug(station));
    }

    /// Returns the state and the counters of a port, or `None` when it is closed.
    #[must_use]
    pub fn stats(&self, id: PortId) -> Option<&PortStats> {
        self.ports.get(&id).map(|entry| &*entry.stats)
    }

    /// Returns the counters of a port since it was added, or `None` when it is closed. Received is
    /// what came from the peer.
    #[must_use]
    pub fn counters(&self, id: PortId) -> Option<Counters> {
        self.stats(id).map(PortStats::counters)
    }

    /// Sets the impairments of a port that runs, in place of all earlier ones; its thread adopts them
    /// with the next burst. Returns whether the port can have any.
    #[must_use]
    pub fn impair(&self, id: PortId, impairments: Impairments) -> bool {
        let handle = self.stats(id).and_then(PortStats::impair_handle);
        handle.map(|handle| handle.set(impairments)).is_some()
    }

    /// Changes a port while no thread serves it.
    fn change(&self, id: PortId, change: impl FnOnce(&mut AttachedPort)) {
        let Some(entry) = self.ports.get(&id) else { return };
        let thread = &self.threads[entry.thread];
        // `None`: it has just ended, which an event reports.
        if let Some(mut port) = thread.take(id) {
            change(&mut port);
            thread.add(port);
        }
    }

    /// Returns the next event, or `None`, without waiting.
    ///
    /// The latest state counts: a port that goes up and down between two calls may be reported once
    /// or not at all.
    pub fn next_event(&mut self) -> Option<Event> {
        self.reports.wake_fd.drain();
        let event = self.next_closed().or_else(|| self.next_change());
        if event.is_some() {
            // The descriptor stays readable, because there may be more.
            self.reports.wake_fd.wake();
        }
        event
    }

    fn next_closed(&mut self) -> Option<Event> {
        while let Some(Ended { port, reason }) =
            self.closed.pop_front().or_else(|| self.ended.try_recv().ok())
        {
            // A port that was removed meanwhile is not reported.
            if self.ports.remove(&port.id).is_some() {
                return Some(Event::Closed { port: port.id, reason });
            }
        }
        None
    }

    fn next_change(&mut self) -> Option<Event> {
        self.ports.iter_mut().find_map(|(id, entry)| {
            let up = entry.stats.is_up();
            let changed = std::mem::replace(&mut entry.was_up, up) != up;
            changed.then_some(if up { Event::Up(*id) } else { Event::Down(*id) })
        })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// The system's error when it cannot wait.
    pub fn wait_event(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.next_event() {
                return Ok(event);
            }
            let mut descriptor = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            match poll(&mut descriptor, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the number of threads.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// Returns how many rounds each thread has run. A thread that works runs at least two a second,
    /// so a watchdog sees one that hangs.
    #[must_use]
    pub fn beats(&self) -> Vec<u64> {
        self.threads.iter().map(Thread::beats).collect()
    }
}

/// Readable while there may be an [event](Node::next_event).
impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.wake_fd.as_fd()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // All end at once; each is then waited for as it is dropped.
        self.threads.iter().for_each(Thread::stop);
    }
}
