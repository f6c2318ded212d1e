//! The node: moves frames between ports and buses.
//!
//! Every port has a station of its own on its bus, which hears everything but what it sent itself. So what one peer sends
//! reaches every other peer and every other station, and nothing comes back to where it came from.
//!
//! Some threads share the members between them; ports come and go while the others are served. What is not about moving
//! frames (connections, the registry) is done elsewhere.

mod attached_port;
mod cpu_affinity;
mod mac_table;
mod port_stats;
mod worker;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use shmbus::{Bus, MacAddr6, OpenError, Station, StationOptions};

use self::attached_port::AttachedPort;
pub(crate) use self::attached_port::{Gone, Key};
pub use self::cpu_affinity::{Cpus, Threads};
use self::mac_table::MacTable;
pub(crate) use self::port_stats::PortStats;
use self::worker::{Command, Ended, Reports, Worker};
use crate::port::{LOCK_TIMEOUT, Port};
use crate::process::wake_fd::WakeFd;

/// A port's station on its bus: it hears everything, whomever it is for, or with `learn` only what the peer needs.
///
/// # Errors
/// When the bus cannot be joined.
pub(crate) fn station(
    bus: Bus,
    name: &str,
    mac: Option<MacAddr6>,
    learn: bool,
) -> Result<Station, OpenError> {
    let mut options = StationOptions::new().name(name).promiscuous(true).lock_timeout(LOCK_TIMEOUT);
    if let Some(mac) = mac {
        options = options.mac(mac);
    }
    let mut station = Station::join(bus, options)?;
    if learn {
        station.set_receive_filter(Some(Box::new(MacTable::new())));
    }
    Ok(station)
}

/// Threads that move frames, and the ports they serve.
pub(crate) struct Node {
    threads: Vec<Thread>,
    ended: Receiver<Ended>,
    bell: Arc<WakeFd>,
    last: Key,
}

/// A thread of the node, as seen from outside.
struct Thread {
    commands: Sender<Command>,
    bell: Arc<WakeFd>,
    beats: Arc<AtomicU64>,
    handle: Option<JoinHandle<()>>,
    members: Vec<Key>,
}

impl Node {
    /// Starts the threads; there is nothing for them to do yet.
    ///
    /// # Errors
    /// When no thread or descriptor is to be had.
    pub(crate) fn start(threads: &Threads) -> anyhow::Result<Self> {
        let (sender, ended) = channel();
        let bell = Arc::new(WakeFd::new().context("cannot start a node")?);
        let reports = Reports { ended: sender, bell: Arc::clone(&bell) };
        let start = |index| Thread::start(threads.clone(), index, reports.clone());
        let threads = (0..threads.count())
            .map(start)
            .collect::<Result<_, _>>()
            .context("cannot start a thread of the node")?;
        Ok(Self { threads, ended, bell, last: 0 })
    }

    /// Serves a port from now on, until it is removed or cannot go on. Returns its key, and where to see how it is.
    pub(crate) fn add(&mut self, port: Box<dyn Port>, station: Station) -> (Key, Arc<PortStats>) {
        self.last += 1;
        let (key, gauge) = (self.last, Arc::<PortStats>::default());
        let member = Box::new(AttachedPort::new(key, port, station, Arc::clone(&gauge)));
        if let Some(thread) = self.threads.iter_mut().min_by_key(|thread| thread.members.len()) {
            thread.members.push(key);
            thread.tell(Command::Add(member));
        }
        (key, gauge)
    }

    /// Closes a port. When this returns nothing moves there any more, and its peer was told.
    pub(crate) fn remove(&mut self, key: Key) {
        let Some(thread) = self.forget(key) else { return };
        let (answer, member) = channel();
        thread.tell(Command::Remove(key, answer));
        // Closed here and not by the thread, which has others to serve. No answer: the thread is gone, and its members too.
        drop(member.recv());
    }

    /// Takes a port's station off its bus. The port keeps its peer; what comes from there is dropped.
    pub(crate) fn unplug(&self, key: Key) {
        self.change(key, AttachedPort::unplug);
    }

    /// Gives a port another station.
    pub(crate) fn plug(&self, key: Key, station: Station) {
        self.change(key, |member| member.plug(station));
    }

    /// Changes a member while no thread is busy with it.
    fn change(&self, key: Key, change: impl FnOnce(&mut AttachedPort)) {
        let Some(thread) = self.threads.iter().find(|thread| thread.members.contains(&key)) else { return };
        let (answer, member) = channel();
        thread.tell(Command::Remove(key, answer));
        // None: it has just ended, which is told elsewhere.
        if let Ok(Some(mut member)) = member.recv() {
            change(&mut member);
            thread.tell(Command::Add(member));
        }
    }

    fn forget(&mut self, key: Key) -> Option<&Thread> {
        let thread = self.threads.iter_mut().find(|thread| thread.members.contains(&key))?;
        thread.members.retain(|member| *member != key);
        Some(thread)
    }

    /// A port that was closed because it or its bus is gone, if there is one.
    pub(crate) fn ended(&mut self) -> Option<(Key, Gone)> {
        self.bell.drain();
        let Ended { member, why } = self.ended.try_recv().ok()?;
        // There may be more.
        self.bell.ring();
        let key = member.key;
        self.forget(key);
        Some((key, why))
    }

    /// How many rounds each thread has gone. All of them go on at least twice a second.
    pub(crate) fn beats(&self) -> Vec<u64> {
        self.threads.iter().map(|thread| thread.beats.load(Ordering::Relaxed)).collect()
    }
}

/// Readable when a port has [ended](Node::ended).
impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Thread {
    fn start(threads: Threads, index: usize, reports: Reports) -> std::io::Result<Self> {
        let (commands, orders) = channel();
        let bell = Arc::new(WakeFd::new()?);
        let beats = Arc::<AtomicU64>::default();
        let worker = Worker::new(Arc::clone(&bell), orders, reports, Arc::clone(&beats))?;
        let handle = std::thread::Builder::new().name(format!("node {index}")).spawn(move || {
            threads.settle(index);
            worker.run();
        })?;
        Ok(Self { commands, bell, beats, handle: Some(handle), members: Vec::new() })
    }

    fn tell(&self, command: Command) {
        // A thread that is gone has said why, and its members are gone with it.
        let _ = self.commands.send(command);
        self.bell.ring();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for thread in &self.threads {
            thread.tell(Command::End);
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // A panic there has been reported as such.
                let _ = handle.join();
            }
        }
    }
}
