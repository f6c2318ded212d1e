//! The loop of one thread of a node: it serves its ports in turn, a burst at a time in each
//! direction.
//!
//! Ports that are awake are polled. A port that has been quiet for a moment is armed and put to
//! sleep, each on its own, so an idle port costs next to nothing beside a busy one. When all ports
//! sleep, the thread sleeps, too. While some are awake, the thread checks every [`CHECK_INTERVAL`],
//! and whenever nothing moves, whether others should wake.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use port::{BusRemoval, Reporter, WakeFd};
use shmbus::WaitSet;

use crate::attached_port::{AttachedPort, CloseReason, PortId};

/// How long the awake ports are polled before the thread checks for events.
const CHECK_INTERVAL: Duration = Duration::from_micros(50);
/// The time between two services of the awake ports.
const SERVICE_INTERVAL: Duration = Duration::from_millis(1);
/// Sleeping ports that are due within this time are polled together, so that one wake-up of the
/// thread serves many.
const POLL_SLACK: Duration = Duration::from_millis(2);
/// The longest sleep of the thread, so that a watchdog sees two rounds a second.
const MAX_SLEEP: Duration = Duration::from_millis(500);
/// The epoll token of the wake descriptor. Ports have their ids, from 1 on.
const WAKE_TOKEN: u64 = 0;
/// The epoll token of the timer.
const TIMER_TOKEN: u64 = u64::MAX - 1;
/// The epoll token of the wait set.
const WAIT_SET_TOKEN: u64 = u64::MAX;

/// A request to the thread.
pub(crate) enum Command {
    /// Serves the port from now on.
    Add(Box<AttachedPort>),
    /// Hands the port back, if the thread has it.
    Remove(PortId, Sender<Option<Box<AttachedPort>>>),
    /// Ends the thread.
    Stop,
}

/// A port that cannot continue.
pub(crate) struct Ended {
    pub(crate) port: Box<AttachedPort>,
    pub(crate) reason: CloseReason,
}

impl fmt::Debug for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, reason } = self;
        formatter.debug_struct("Ended").field("port", &port.id).field("reason", reason).finish()
    }
}

/// Where a thread reports ports that have ended, and trouble.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    pub(crate) ended: Sender<Ended>,
    pub(crate) reporter: Reporter,
    pub(crate) wake_fd: Arc<WakeFd>,
}

/// The state of the thread.
pub(crate) struct Worker {
    epoll: Epoll,
    /// Wakes the ports whose buses have frames for them.
    wait_set: WaitSet,
    /// Readable when frames that wait in a port are due: the timeout of epoll has milliseconds.
    timer: TimerFd,
    wake_fd: Arc<WakeFd>,
    commands: Receiver<Command>,
    reports: Reports,
    /// Counts rounds, for a watchdog.
    beats: Arc<AtomicU64>,
    #[expect(clippy::vec_box, reason = "ports move between here and `asleep` all the time")]
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
        epoll.add(&*wake_fd, EpollEvent::new(EpollFlags::EPOLLIN, WAKE_TOKEN))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER_TOKEN))?;
        let wait_set = WaitSet::new();
        if let Some(descriptor) = wait_set.poll_fd() {
            epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, WAIT_SET_TOKEN))?;
        }
        Ok(Self {
            epoll,
            wait_set,
            timer,
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

    /// Runs the thread until it is stopped.
    pub(crate) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let mut idle = false;
        while !self.stopped {
            // Relaxed: for a reader, only that the number changes matters.
            self.beats.fetch_add(1, Ordering::Relaxed);
            let timeout = self.timeout();
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return self.fail(error),
            };
            if idle && count == 0 {
                // On a small machine the peer may be waiting for this CPU.
                std::thread::yield_now();
            }
            // When its timeout is over, the wait set wakes all its stations.
            let mut woken = self.wait_set.timeout().is_zero();
            for event in &events[..count] {
                match event.data() {
                    WAKE_TOKEN => self.handle_commands(),
                    WAIT_SET_TOKEN => woken = true,
                    // The ports that are due are polled in any case.
                    TIMER_TOKEN => drop(self.timer.unset()),
                    id => self.wake(PortId(id)),
                }
            }
            if woken {
                for token in self.wait_set.ready() {
                    self.wake(PortId(token as u64));
                }
            }
            self.poll_asleep();
            idle = self.serve();
        }
    }

    /// Closes all ports, because the thread cannot serve them.
    fn fail(mut self, error: Errno) {
        let reason = format!("a thread of the node cannot wait: {error}");
        self.reports.reporter.note(&reason);
        let awake = std::mem::take(&mut self.awake);
        let asleep = std::mem::take(&mut self.asleep);
        for port in awake.into_iter().chain(asleep.into_values()) {
            self.end(port, CloseReason::Port(reason.clone()));
        }
    }

    /// Returns how long to wait for events: not at all while a port is awake, else until the first
    /// port is polled.
    fn timeout(&self) -> EpollTimeout {
        if !self.awake.is_empty() {
            return EpollTimeout::ZERO;
        }
        let first = self.asleep.values().map(|port| port.poll_at()).min();
        let now = Instant::now();
        let sleep = first.map_or(MAX_SLEEP, |first| {
            first.saturating_duration_since(now).min(self.wait_set.timeout()).min(MAX_SLEEP)
        });
        if let Some(due) = self.asleep.values().filter_map(|port| port.due()).min() {
            let left = due.saturating_duration_since(now);
            if left.is_zero() {
                return EpollTimeout::ZERO;
            }
            if left <= sleep {
                let once = Expiration::OneShot(TimeSpec::from_duration(left));
                // When it fails, the frames are late by less than a millisecond.
                let _ = self.timer.set(once, TimerSetTimeFlags::empty());
            }
        }
        // Rounded up: a timeout of 0 ms would not wait at all.
        let millis = sleep.as_micros().div_ceil(1_000);
        EpollTimeout::try_from(Duration::from_millis(millis.try_into().unwrap_or(u64::MAX)))
            .unwrap_or(EpollTimeout::ZERO)
    }

    fn handle_commands(&mut self) {
        self.wake_fd.drain();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Add(mut port) => {
                    port.join(&self.epoll, &self.wait_set);
                    self.keep_awake(port);
                }
                Command::Remove(id, answer) => {
                    let mut port = self.take(id);
                    if let Some(port) = &mut port {
                        port.leave(&self.epoll);
                    }
                    // Without a receiver the node is being dropped, and the port is closed here.
                    let _ = answer.send(port);
                }
                Command::Stop => self.stopped = true,
            }
        }
    }

    fn take(&mut self, id: PortId) -> Option<Box<AttachedPort>> {
        self.asleep.remove(&id).or_else(|| {
            let index = self.awake.iter().position(|port| port.id == id)?;
            Some(self.awake.swap_remove(index))
        })
    }

    /// Wakes a port that sleeps. A port that is awake is polled anyway.
    fn wake(&mut self, id: PortId) {
        if let Some(mut port) = self.asleep.remove(&id) {
            // Frames first: to disarm takes some system calls.
            port.turn(Instant::now());
            self.keep_awake(port);
        }
    }

    fn keep_awake(&mut self, mut port: Box<AttachedPort>) {
        port.wake(Instant::now());
        match port.service(&self.epoll) {
            Ok(()) => self.awake.push(port),
            Err(reason) => self.end(port, reason),
        }
    }

    /// Polls the sleeping ports that are due, and wakes those that have something to do.
    fn poll_asleep(&mut self) {
        let now = Instant::now();
        if self.removal.is_due(now) {
            for port in self.awake.iter().chain(self.asleep.values()) {
                if let Some(warning) = BusRemoval::report_once(port.bus()) {
                    self.reports.reporter.warn(&warning);
                }
            }
        }
        let due = now + POLL_SLACK;
        let woken: Vec<_> = self
            .asleep
            .extract_if(|_, port| port.poll_at() <= due && port.poll(now))
            .map(|(_, port)| port)
            .collect();
        for port in woken {
            self.keep_awake(port);
        }
    }

    /// Gives the awake ports turns for [`CHECK_INTERVAL`], or until nothing moves. Frames that one
    /// port has put on the bus wake sleeping ones through their descriptors. Returns `true` when
    /// nothing moved.
    fn serve(&mut self) -> bool {
        let begin = Instant::now();
        let mut now = begin;
        while !self.awake.is_empty() && now - begin < CHECK_INTERVAL {
            let (mut moved, mut should_yield) = (false, false);
            // Backwards, because ports that fall asleep are taken out.
            for index in (0..self.awake.len()).rev() {
                let turn_moved = self.awake[index].turn(now);
                should_yield |= self.awake[index].should_yield(now);
                if turn_moved {
                    moved = true;
                } else if self.awake[index].may_sleep(now) {
                    let port = self.awake.swap_remove(index);
                    self.put_to_sleep(port, now);
                }
            }
            now = Instant::now();
            if now - self.serviced >= SERVICE_INTERVAL {
                self.serviced = now;
                self.service();
            }
            if !moved {
                return true;
            }
            if should_yield {
                // On a small machine the peer with the full ring may be waiting for this CPU, while
                // the bus overruns frames that it has not read.
                std::thread::yield_now();
            }
        }
        false
    }

    fn put_to_sleep(&mut self, mut port: Box<AttachedPort>, now: Instant) {
        match port.fall_asleep(now) {
            Ok(true) => self.awake.push(port),
            Ok(false) => drop(self.asleep.insert(port.id, port)),
            Err(reason) => self.end(port, reason),
        }
    }

    fn service(&mut self) {
        for index in (0..self.awake.len()).rev() {
            if let Err(reason) = self.awake[index].service(&self.epoll) {
                let port = self.awake.swap_remove(index);
                self.end(port, reason);
            }
        }
    }

    fn end(&mut self, mut port: Box<AttachedPort>, reason: CloseReason) {
        port.leave(&self.epoll);
        port.close();
        // The node itself may have been dropped.
        let _ = self.reports.ended.send(Ended { port, reason });
        self.reports.wake_fd.wake();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for port in self.awake.iter_mut().chain(self.asleep.values_mut()) {
            port.leave(&self.epoll);
            port.close();
        }
    }
}
