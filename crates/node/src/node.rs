//! The node, as its owner sees it: ports come and go, events tell how they are.
//!
//! Some threads share the ports between them; ports come and go while the others are served. What is not about moving frames
//! (connections, records of interfaces) is done elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use port::{LOCK_TIMEOUT, Port, WakeFd};
use shmbus::{Bus, MacAddr6, OpenError, Station, StationOptions};

use crate::attached_port::{AttachedPort, CloseReason, PortId};
use crate::counters::Counters;
use crate::cpu_affinity;
use crate::options::NodeOptions;
use crate::port_stats::PortStats;
use crate::worker::{Command, Ended, Reports, Worker};

/// Joins `bus` with a station for a port: it hears every frame, whatever its destination. It has the address `mac`, or a
/// random one.
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

/// What became of a port.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// It has a peer.
    Up(PortId),
    /// Its peer has gone.
    Down(PortId),
    /// It is closed and removed: its bus, or what it is a port of, cannot be used any more.
    Closed {
        /// The port.
        port: PortId,
        /// Why.
        reason: CloseReason,
    },
}

/// Threads that move frames, and the ports they serve.
///
/// Its descriptor polls readable while there may be an [event](Self::next_event). Dropping it closes all ports.
#[derive(Debug)]
pub struct Node {
    threads: Vec<Thread>,
    ports: BTreeMap<PortId, Entry>,
    reports: Reports,
    ended: Receiver<Ended>,
    last: u64,
}

/// A port, as its node remembers it.
#[derive(Debug)]
struct Entry {
    thread: usize,
    stats: Arc<PortStats>,
    /// What the latest event said.
    was_up: bool,
}

/// A thread of the node, as seen from outside.
#[derive(Debug)]
struct Thread {
    commands: Sender<Command>,
    wake_fd: Arc<WakeFd>,
    beats: Arc<AtomicU64>,
    handle: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts the threads; there is nothing for them to do yet.
    ///
    /// # Errors
    /// What the system says when no thread or descriptor is available.
    pub fn start(options: NodeOptions) -> io::Result<Self> {
        let (sender, ended) = channel();
        let wake_fd = Arc::new(WakeFd::new()?);
        let reports = Reports { ended: sender, wake_fd, reporter: options.reporter.clone() };
        let start = |index| Thread::start(&options, index, reports.clone());
        let threads = (0..options.count()).map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads, ports: BTreeMap::new(), reports, ended, last: 0 })
    }

    /// Joins `bus` for a port and serves it from now on, until it is removed or cannot continue.
    ///
    /// # Errors
    /// [`OpenError`] when the bus cannot be joined.
    pub fn attach(&mut self, port: impl Port + 'static, bus: Bus) -> Result<PortId, OpenError> {
        let station = station(bus, port.name(), None)?;
        Ok(self.add(port, station).0)
    }

    /// Serves a port that has a [`station`] already. Returns its id, and its state, which can be read although the port was
    /// closed since.
    pub fn add(&mut self, port: impl Port + 'static, station: Station) -> (PortId, Arc<PortStats>) {
        self.last += 1;
        let (id, stats) = (PortId(self.last), Arc::<PortStats>::default());
        let (thread, _) = (0..self.threads.len())
            .map(|thread| (thread, self.ports.values().filter(|entry| entry.thread == thread).count()))
            .min_by_key(|(_, ports)| *ports)
            .unwrap_or_default();
        let Reports { wake_fd, reporter, .. } = self.reports.clone();
        let attached = AttachedPort::new(id, Box::new(port), station, Arc::clone(&stats), wake_fd, reporter);
        self.ports.insert(id, Entry { thread, stats: Arc::clone(&stats), was_up: false });
        self.threads[thread].command(Command::Add(Box::new(attached)));
        (id, stats)
    }

    /// Closes a port. When this returns nothing moves there any more, and its peer knows. Does nothing when there is none.
    pub fn remove(&mut self, id: PortId) {
        let Some(entry) = self.ports.remove(&id) else { return };
        // Closed here and not by the thread, which has others to serve.
        drop(self.threads[entry.thread].take(id));
    }

    /// Takes a port's station off its bus. The port keeps its peer; what comes from there is dropped.
    pub fn unplug(&mut self, id: PortId) {
        self.change(id, AttachedPort::unplug);
    }

    /// Gives a port another [`station`], perhaps on another bus.
    pub fn plug(&mut self, id: PortId, station: Station) {
        self.change(id, |port| port.plug(station));
    }

    /// Returns whether a port has a peer, and what went through since it was added.
    #[must_use]
    pub fn stats(&self, id: PortId) -> Option<&PortStats> {
        self.ports.get(&id).map(|entry| &*entry.stats)
    }

    /// Returns what went through a port since it was added, as the peer's side sees it.
    #[must_use]
    pub fn counters(&self, id: PortId) -> Option<Counters> {
        self.stats(id).map(PortStats::counters)
    }

    /// Changes a port while no thread is busy with it.
    fn change(&self, id: PortId, change: impl FnOnce(&mut AttachedPort)) {
        let Some(entry) = self.ports.get(&id) else { return };
        let thread = &self.threads[entry.thread];
        // None: it has just ended, which an event reports.
        if let Some(mut port) = thread.take(id) {
            change(&mut port);
            thread.command(Command::Add(port));
        }
    }

    /// Returns the next event, if there is one, without waiting. A port that goes up and down between two calls may be
    /// reported once or not at all: the latest state counts.
    pub fn next_event(&mut self) -> Option<Event> {
        self.reports.wake_fd.drain();
        let event = self.closed().or_else(|| self.changed());
        if event.is_some() {
            // There may be more.
            self.reports.wake_fd.ring();
        }
        event
    }

    fn closed(&mut self) -> Option<Event> {
        while let Ok(Ended { port, why }) = self.ended.try_recv() {
            // A port that was removed meanwhile is not reported.
            if self.ports.remove(&port.id).is_some() {
                return Some(Event::Closed { port: port.id, reason: why });
            }
        }
        None
    }

    fn changed(&mut self) -> Option<Event> {
        self.ports.iter_mut().find_map(|(id, entry)| {
            let up = entry.stats.is_up();
            let changed = std::mem::replace(&mut entry.was_up, up) != up;
            changed.then_some(if up { Event::Up(*id) } else { Event::Down(*id) })
        })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// What the system says when it refuses the wait.
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

    /// Returns how many rounds each thread has gone. Every thread that is alive goes at least two a second.
    #[must_use]
    pub fn beats(&self) -> Vec<u64> {
        // Relaxed: only that the number changes matters.
        self.threads.iter().map(|thread| thread.beats.load(Ordering::Relaxed)).collect()
    }
}

/// Readable when there may be an [event](Node::next_event).
impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.wake_fd.as_fd()
    }
}

impl Thread {
    fn start(options: &NodeOptions, index: usize, reports: Reports) -> io::Result<Self> {
        let (commands, received) = channel();
        let wake_fd = Arc::new(WakeFd::new()?);
        let beats = Arc::<AtomicU64>::default();
        let reporter = reports.reporter.clone();
        let worker = Worker::new(Arc::clone(&wake_fd), received, reports, Arc::clone(&beats))?;
        let cpus = options.cpus.clone();
        let handle = std::thread::Builder::new().name(format!("node {index}")).spawn(move || {
            cpu_affinity::pin(index, &cpus, &reporter);
            worker.run();
        })?;
        Ok(Self { commands, wake_fd, beats, handle: Some(handle) })
    }

    fn command(&self, command: Command) {
        // A thread that is gone has reported why, and its ports are gone with it.
        let _ = self.commands.send(command);
        self.wake_fd.ring();
    }

    /// Takes a port out of the thread; `None` when it has ended.
    fn take(&self, id: PortId) -> Option<Box<AttachedPort>> {
        let (answer, port) = channel();
        self.command(Command::Remove(id, answer));
        // No answer: the thread is gone, and its ports too.
        port.recv().ok().flatten()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for thread in &self.threads {
            thread.command(Command::End);
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // A panic there has been reported as such.
                let _ = handle.join();
            }
        }
    }
}
