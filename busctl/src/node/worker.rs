//! One thread of a node: serves its members in turn, a burst at a time in each direction.
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
use shmbus::WaitSet;

use super::attached_port::{AttachedPort, Gone, Key};
use crate::output;
use crate::process::wake_fd::WakeFd;
use crate::removal::{self, Removal};

/// How long to poll those who are awake before looking around.
const LOOK: Duration = Duration::from_micros(50);
/// How often the connections of those who are awake are looked after.
const TEND: Duration = Duration::from_millis(1);
/// Sleepers whose time has nearly come are looked at together: one wake-up of the thread serves many.
const TOGETHER: Duration = Duration::from_millis(2);
/// The longest sleep of the thread: whoever watches over it sees that it lives.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// The bell's place among the members' keys, and that of the stations' wait_set.
const BELL: Key = 0;
const SLEEPER: Key = Key::MAX;

/// What a thread is told to do.
pub(super) enum Command {
    /// Serve it from now on.
    Add(Box<AttachedPort>),
    /// Give it back, if it is there.
    Remove(Key, Sender<Option<Box<AttachedPort>>>),
    /// End.
    End,
}

/// A member that cannot go on.
pub(super) struct Ended {
    pub(super) member: Box<AttachedPort>,
    pub(super) why: Gone,
}

/// How a thread reports members that have ended.
#[derive(Clone)]
pub(super) struct Reports {
    pub(super) ended: Sender<Ended>,
    pub(super) bell: Arc<WakeFd>,
}

/// See the module.
pub(super) struct Worker {
    epoll: Epoll,
    /// Where the members' stations sleep.
    wait_set: WaitSet,
    bell: Arc<WakeFd>,
    commands: Receiver<Command>,
    reports: Reports,
    /// Counts rounds, to show that it lives.
    beats: Arc<AtomicU64>,
    #[expect(clippy::vec_box, reason = "they move between here and `asleep` all the time")]
    awake: Vec<Box<AttachedPort>>,
    asleep: HashMap<Key, Box<AttachedPort>>,
    tended: Instant,
    removal: Removal,
    stopped: bool,
}

impl Worker {
    pub(super) fn new(
        bell: Arc<WakeFd>,
        commands: Receiver<Command>,
        reports: Reports,
        beats: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        let wait_set = WaitSet::new();
        if let Some(descriptor) = wait_set.poll_fd() {
            epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, SLEEPER))?;
        }
        Ok(Self {
            epoll,
            wait_set,
            bell,
            commands,
            reports,
            beats,
            awake: Vec::new(),
            asleep: HashMap::new(),
            tended: Instant::now(),
            removal: Removal::new(),
            stopped: false,
        })
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let mut idle = false;
        while !self.stopped {
            // Relaxed: whoever reads it only wants to see it change.
            self.beats.fetch_add(1, Ordering::Relaxed);
            let timeout = self.timeout();
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return output::note(&format!("a thread of the node cannot wait: {error}")),
            };
            if idle && count == 0 {
                // On a machine with few processors the peer may be waiting for this one.
                std::thread::yield_now();
            }
            // When its bound is over, it wakes everybody.
            let mut woken = self.wait_set.timeout().is_zero();
            for event in &events[..count] {
                match event.data() {
                    BELL => self.handle_commands(),
                    SLEEPER => woken = true,
                    key => self.rouse(key),
                }
            }
            if woken {
                for token in self.wait_set.ready() {
                    self.rouse(token as Key);
                }
            }
            self.look_after_sleepers();
            idle = self.serve();
        }
    }

    /// How long to sleep: not at all while somebody is awake, else until the first is to be looked at.
    fn timeout(&self) -> EpollTimeout {
        if !self.awake.is_empty() {
            return EpollTimeout::ZERO;
        }
        let first = self.asleep.values().map(|member| member.look_at()).min();
        let sleep = first.map_or(LONGEST_SLEEP, |first| {
            first.saturating_duration_since(Instant::now()).min(self.wait_set.timeout()).min(LONGEST_SLEEP)
        });
        // Rounded up: a sleep of 0 ms would be none.
        let millis = sleep.as_micros().div_ceil(1_000);
        EpollTimeout::try_from(Duration::from_millis(millis.try_into().unwrap_or(u64::MAX)))
            .unwrap_or(EpollTimeout::ZERO)
    }

    fn handle_commands(&mut self) {
        self.bell.drain();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Add(mut member) => {
                    member.move_in(&self.epoll, &self.wait_set);
                    self.awaken(member);
                }
                Command::Remove(key, answer) => {
                    let mut member = self.take(key);
                    if let Some(member) = &mut member {
                        member.leave(&self.epoll);
                    }
                    // Who does not wait for it has no use for it.
                    let _ = answer.send(member);
                }
                Command::End => self.stopped = true,
            }
        }
    }

    fn take(&mut self, key: Key) -> Option<Box<AttachedPort>> {
        self.asleep.remove(&key).or_else(|| {
            let index = self.awake.iter().position(|member| member.key == key)?;
            Some(self.awake.swap_remove(index))
        })
    }

    /// One of its descriptors has something to say. Who is awake finds out by itself.
    fn rouse(&mut self, key: Key) {
        if let Some(mut member) = self.asleep.remove(&key) {
            // First what it was woken for: to disarm takes some system calls.
            member.turn(Instant::now());
            self.awaken(member);
        }
    }

    fn awaken(&mut self, mut member: Box<AttachedPort>) {
        member.wake(Instant::now());
        match member.service(&self.epoll) {
            Ok(()) => self.awake.push(member),
            Err(why) => self.end(member, why),
        }
    }

    /// Wakes those who sleep but have something to do.
    fn look_after_sleepers(&mut self) {
        let now = Instant::now();
        if self.removal.is_due(now) {
            self.awake.iter().chain(self.asleep.values()).for_each(|member| removal::tell(member.bus()));
        }
        let due = now + TOGETHER;
        let woken: Vec<_> = self
            .asleep
            .extract_if(|_, member| member.look_at() <= due && member.look(now))
            .map(|(_, member)| member)
            .collect();
        for member in woken {
            self.awaken(member);
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
                    let member = self.awake.swap_remove(index);
                    self.put_to_sleep(member, now);
                }
            }
            now = Instant::now();
            if now - self.tended >= TEND {
                self.tended = now;
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

    fn put_to_sleep(&mut self, mut member: Box<AttachedPort>, now: Instant) {
        match member.fall_asleep(now) {
            Ok(true) => self.awake.push(member),
            Ok(false) => drop(self.asleep.insert(member.key, member)),
            Err(why) => self.end(member, why),
        }
    }

    fn service(&mut self) {
        for index in (0..self.awake.len()).rev() {
            if let Err(why) = self.awake[index].service(&self.epoll) {
                let member = self.awake.swap_remove(index);
                self.end(member, why);
            }
        }
    }

    fn end(&mut self, mut member: Box<AttachedPort>, why: Gone) {
        member.leave(&self.epoll);
        // Nobody listens when the node itself is ending.
        let _ = self.reports.ended.send(Ended { member, why });
        self.reports.bell.ring();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for member in self.awake.iter_mut().chain(self.asleep.values_mut()) {
            member.leave(&self.epoll);
        }
    }
}
