//! One thread of a node: serves its ports in turn, a burst at a time in each direction.
//!
//! Members that are awake are polled; those that have been quiet for a moment are armed and put to sleep, each by itself, so
//! that idle ones cost next to nothing beside a busy one. With all of them asleep the thread sleeps, too. While some are awake
//! it looks every [`LOOK`], and whenever nothing moves, whether others want to be woken.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use port::{BusRemoval, Reporter, WakeFd};
use shmbus::WaitSet;

use crate::attached_port::{AttachedPort, CloseReason, PortId};

/// How long to poll those who are awake before looking around.
const LOOK: Duration = Duration::from_micros(50);
/// How often the connections of those who are awake are looked after.
const SERVICE: Duration = Duration::from_millis(1);
/// Sleepers whose time has nearly come are looked at together: one wake-up of the thread serves many.
const TOGETHER: Duration = Duration::from_millis(2);
/// The longest sleep of the thread: whoever watches over it sees that it lives.
const MAX_SLEEP: Duration = Duration::from_millis(500);
/// The wake_fd's place among the ports' keys, and that of the stations' wait_set.
const WAKE_FD: u64 = 0;
const WAIT_SET: u64 = u64::MAX;

/// What a thread is told to do.
pub(crate) enum Command {
    /// Serve it from now on.
    Add(Box<AttachedPort>),
    /// Give it back, if it is there.
    Remove(PortId, Sender<Option<Box<AttachedPort>>>),
    /// End.
    End,
}

/// A port that cannot go on.
pub(crate) struct Ended {
    pub(crate) port: Box<AttachedPort>,
    pub(crate) why: CloseReason,
}

/// How a thread reports ports that have ended.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    pub(crate) ended: Sender<Ended>,
    pub(crate) reporter: Reporter,
    pub(crate) wake_fd: Arc<WakeFd>,
}

/// See the module.
pub(crate) struct Worker {
    epoll: Epoll,
    /// Where the ports' stations sleep.
    wait_set: WaitSet,
    wake_fd: Arc<WakeFd>,
    commands: Receiver<Command>,
    reports: Reports,
    /// Counts rounds, to show that it lives.
    beats: Arc<AtomicU64>,
    #[expect(clippy::vec_box, reason = "they move between here and `asleep` all the time")]
    awake: Vec<Box<AttachedPort>>,
    asleep: HashMap<PortId, Box<AttachedPort>>,
    serviced: Instant,
    removal: BusRemoval,
    stopped: bool,
}

impl Worker {
    pub(crate) fn new(
        wake_fd: Arc<WakeFd>,
        commands: Receiver<Command>,
        reports: Reports,
        beats: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake_fd, EpollEvent::new(EpollFlags::EPOLLIN, WAKE_FD))?;
        let wait_set = WaitSet::new();
        if let Some(descriptor) = wait_set.poll_fd() {
            epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, WAIT_SET))?;
        }
        Ok(Self {
            epoll,
            wait_set,
            wake_fd,
            commands,
            reports,
            beats,
            awake: Vec::new(),
            asleep: HashMap::new(),
            serviced: Instant::now(),
            removal: BusRemoval::new(),
            stopped: false,
        })
    }

    /// Serves until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let mut idle = false;
        while !self.stopped {
            // Relaxed: whoever reads it only wants to see it change.
            self.beats.fetch_add(1, Ordering::Relaxed);
            let timeout = self.timeout();
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    return self.reports.reporter.note(&format!("a thread of the node cannot wait: {error}"));
                }
            };
            if idle && count == 0 {
                // On a machine with few processors the peer may be waiting for this one.
                std::thread::yield_now();
            }
            // When its bound is over, it wakes everybody.
            let mut woken = self.wait_set.timeout().is_zero();
            for event in &events[..count] {
                match event.data() {
                    WAKE_FD => self.handle_commands(),
                    WAIT_SET => woken = true,
                    id => self.wake(PortId(id)),
                }
            }
            if woken {
                for token in self.wait_set.ready() {
                    self.wake(PortId(token as u64));
                }
            }
            self.poll_sleepers();
            idle = self.serve();
        }
    }

    /// How long to sleep: not at all while somebody is awake, else until the first is to be looked at.
    fn timeout(&self) -> EpollTimeout {
        if !self.awake.is_empty() {
            return EpollTimeout::ZERO;
        }
        let first = self.asleep.values().map(|port| port.poll_at()).min();
        let sleep = first.map_or(MAX_SLEEP, |first| {
            first.saturating_duration_since(Instant::now()).min(self.wait_set.timeout()).min(MAX_SLEEP)
        });
        // Rounded up: a sleep of 0 ms would be none.
        let millis = sleep.as_micros().div_ceil(1_000);
        EpollTimeout::try_from(Duration::from_millis(millis.try_into().unwrap_or(u64::MAX)))
            .unwrap_or(EpollTimeout::ZERO)
    }

    fn handle_commands(&mut self) {
        self.wake_fd.drain();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Add(mut port) => {
                    port.move_in(&self.epoll, &self.wait_set);
                    self.awaken(port);
                }
                Command::Remove(id, answer) => {
                    let mut port = self.take(id);
                    if let Some(port) = &mut port {
                        port.leave(&self.epoll);
                    }
                    // Who does not wait for it has no use for it.
                    let _ = answer.send(port);
                }
                Command::End => self.stopped = true,
            }
        }
    }

    fn take(&mut self, id: PortId) -> Option<Box<AttachedPort>> {
        self.asleep.remove(&id).or_else(|| {
            let index = self.awake.iter().position(|port| port.id == id)?;
            Some(self.awake.swap_remove(index))
        })
    }

    /// One of its descriptors has something to say. Who is awake finds out by itself.
    fn wake(&mut self, id: PortId) {
        if let Some(mut port) = self.asleep.remove(&id) {
            // First what it was woken for: to disarm takes some system calls.
            port.turn(Instant::now());
            self.awaken(port);
        }
    }

    fn awaken(&mut self, mut port: Box<AttachedPort>) {
        port.wake(Instant::now());
        match port.service(&self.epoll) {
            Ok(()) => self.awake.push(port),
            Err(why) => self.end(port, why),
        }
    }

    /// Wakes those who sleep but have something to do.
    fn poll_sleepers(&mut self) {
        let now = Instant::now();
        if self.removal.is_due(now) {
            for port in self.awake.iter().chain(self.asleep.values()) {
                if let Some(warning) = BusRemoval::report_once(port.bus()) {
                    self.reports.reporter.warn(&warning);
                }
            }
        }
        let due = now + TOGETHER;
        let woken: Vec<_> = self
            .asleep
            .extract_if(|_, port| port.poll_at() <= due && port.poll(now))
            .map(|(_, port)| port)
            .collect();
        for port in woken {
            self.awaken(port);
        }
    }

    /// Gives those who are awake their turns, until it is time to look around: after a while, or at once when nothing moves.
    /// What one has put on the bus is for others, who are told by their descriptors. `true`: nothing moved.
    fn serve(&mut self) -> bool {
        let begin = Instant::now();
        let mut now = begin;
        while !self.awake.is_empty() && now - begin < LOOK {
            let (mut moved, mut crowded) = (false, false);
            // Backwards, since those who fall asleep are taken out.
            for index in (0..self.awake.len()).rev() {
                let turned = self.awake[index].turn(now);
                crowded |= self.awake[index].awaits_room(now);
                if turned {
                    moved = true;
                } else if self.awake[index].may_sleep(now) {
                    let port = self.awake.swap_remove(index);
                    self.put_to_sleep(port, now);
                }
            }
            now = Instant::now();
            if now - self.serviced >= SERVICE {
                self.serviced = now;
                self.service();
            }
            if !moved {
                return true;
            }
            if crowded {
                // On a machine with few processors its peer may be waiting for this one, while what it has not read is lost.
                std::thread::yield_now();
            }
        }
        false
    }

    fn put_to_sleep(&mut self, mut port: Box<AttachedPort>, now: Instant) {
        match port.fall_asleep(now) {
            Ok(true) => self.awake.push(port),
            Ok(false) => drop(self.asleep.insert(port.id, port)),
            Err(why) => self.end(port, why),
        }
    }

    fn service(&mut self) {
        for index in (0..self.awake.len()).rev() {
            if let Err(why) = self.awake[index].service(&self.epoll) {
                let port = self.awake.swap_remove(index);
                self.end(port, why);
            }
        }
    }

    fn end(&mut self, mut port: Box<AttachedPort>, why: CloseReason) {
        port.leave(&self.epoll);
        // Nobody listens when the node itself is ending.
        let _ = self.reports.ended.send(Ended { port, why });
        self.reports.wake_fd.ring();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for port in self.awake.iter_mut().chain(self.asleep.values_mut()) {
            port.leave(&self.epoll);
        }
    }
}
