//! Many hosts that one thread serves, and their common sleep.
//!
//! A host that has been quiet is armed and falls asleep, each on its own. From then on it costs
//! next to nothing until a frame for its station, its own time or its own descriptor wakes it: a
//! wake-up of one host gives the others no turn, and costs a few loads for each in the wait set. The hosts on buses sleep in one [`WaitSet`], which names those
//! that are woken. The times at which sleeping hosts are due are kept in order, so that only the
//! first of them is looked at.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::ops::{Index, IndexMut};
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use shmbus::{WaitError, WaitSet};

use crate::nic::{Nic, SleepError};
use crate::stack::Stack;

/// How long awake hosts keep the thread busy before it checks whether others are to wake.
const CHECK_INTERVAL: Duration = Duration::from_micros(50);
/// Sleeping hosts that are due within this time wake together, so that one wake-up of the thread
/// serves many.
const DUE_SLACK: Duration = Duration::from_millis(2);

/// Any number of [`Stack`]s that one thread serves. It sleeps for all of them, and says which have
/// something to do.
///
/// They are known by their index, in the order of [`push`](Self::push). A loop
/// [`wait`](Self::wait)s, and gives a round to each host that it returns. The [crate's
/// documentation](crate#many-hosts-in-one-thread) has an example.
///
/// The work of a wake-up hardly grows with the hosts that it does not concern. Devices with
/// descriptors of their own ([`Nic::descriptors`]) are the exception: the kernel polls them all.
pub struct HostSet<N> {
    hosts: Vec<Host<N>>,
    wait_set: WaitSet,
    /// The hosts that are not armed, in no order.
    awake: Vec<usize>,
    /// When each sleeping host wakes without a frame.
    due: BTreeSet<(Instant, usize)>,
    /// The sleeping hosts whose devices have descriptors of their own.
    with_descriptors: BTreeSet<usize>,
    busy_poll: Duration,
    /// When the thread last checked which hosts are to wake.
    checked: Instant,
}

struct Host<N> {
    stack: Stack<N>,
    /// When it wakes without a frame; none while it is awake.
    asleep_until: Option<Instant>,
    /// Its device is armed. One that is woken by its time stays so until there is a frame for it:
    /// meanwhile it need not read what is for others.
    is_armed: bool,
}

impl<N: Nic> HostSet<N> {
    /// Makes a set without hosts.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hosts: Vec::new(),
            wait_set: WaitSet::new(),
            awake: Vec::new(),
            due: BTreeSet::new(),
            with_descriptors: BTreeSet::new(),
            busy_poll: Duration::ZERO,
            checked: Instant::now(),
        }
    }

    /// Sets how long a host is polled after it received a frame, before it falls asleep; it falls
    /// asleep at once unless this is called.
    #[must_use]
    pub fn busy_poll(mut self, time: Duration) -> Self {
        self.busy_poll = time;
        self
    }

    /// Adds a host and returns its index. The first [`wait`](Self::wait) returns it.
    pub fn push(&mut self, stack: Stack<N>) -> usize {
        let index = self.hosts.len();
        self.hosts.push(Host { stack, asleep_until: None, is_armed: false });
        self.awake.push(index);
        index
    }

    /// Returns the hosts, in the order of their indexes.
    pub fn iter(&self) -> impl Iterator<Item = &Stack<N>> {
        self.hosts.iter().map(|host| &host.stack)
    }

    /// Waits until at least one host has something to do, one of `others` polls readable, or `time`
    /// is over. Returns the indexes of the hosts to [`poll`](Stack::poll), in no order. Each has a
    /// frame to receive, or its time has come.
    ///
    /// # Errors
    /// When a host's bus is lost or the system refuses the wait.
    pub fn wait(
        &mut self,
        others: &[BorrowedFd<'_>],
        time: Duration,
    ) -> Result<Vec<usize>, SleepError> {
        let begin = Instant::now();
        let mut time = time;
        loop {
            let now = Instant::now();
            let Looked { concerned, busy } = self.look(now)?;
            let left = time.saturating_sub(now - begin);
            let must_check = self.awake.len() < self.hosts.len() && self.must_check(now);
            if !concerned.is_empty() || left.is_zero() {
                if must_check {
                    // Busy hosts do not keep the others asleep: the next call finds them awake.
                    self.sleep(&[], Duration::ZERO)?;
                }
                return Ok(concerned);
            }
            if busy && !must_check {
                // The peer that is to answer may be waiting for this CPU.
                thread::yield_now();
                continue;
            }
            if self.sleep(others, if busy { Duration::ZERO } else { left })? {
                // One more look, for the hosts that were woken at the same time.
                time = Duration::ZERO;
            }
        }
    }

    /// Looks at the awake hosts, and puts those to sleep that have been quiet.
    fn look(&mut self, now: Instant) -> Result<Looked, SleepError> {
        let due_by = if self.wake_due(now) { now + DUE_SLACK } else { now };
        let mut looked = Looked { concerned: Vec::new(), busy: false };
        let mut quiet = Vec::new();
        for &index in &self.awake {
            let host = &mut self.hosts[index];
            let stack = &mut host.stack;
            let due = stack.due();
            if due <= due_by {
                looked.concerned.push(index);
            } else if stack.poll_rx() {
                looked.concerned.push(index);
                host.disarm();
            } else if stack.heard_within(self.busy_poll) {
                looked.busy = true;
            } else {
                quiet.push((index, due));
            }
        }
        // To arm a host takes longer than to look at it, so those that have frames come first. But
        // while some always have frames, the others are not looked at all the time.
        if looked.concerned.is_empty() || self.must_check(now) {
            let slept = quiet.into_iter().try_for_each(|(index, due)| -> Result<(), WaitError> {
                looked.busy |= !self.put_to_sleep(index, due, now)?;
                Ok(())
            });
            self.awake.retain(|index| self.hosts[*index].asleep_until.is_none());
            slept?;
        }
        Ok(looked)
    }

    /// Returns whether the awake hosts have kept the thread busy for long.
    fn must_check(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.checked) >= CHECK_INTERVAL
    }

    /// Sleeps for `time` at most while no host is due, and wakes the hosts that are to wake;
    /// returns whether one of `others` polls readable.
    fn sleep(&mut self, others: &[BorrowedFd<'_>], time: Duration) -> io::Result<bool> {
        let first_due = self
            .due
            .first()
            .map_or(time, |(first, _)| first.saturating_duration_since(Instant::now()));
        let time = time.min(first_due).min(self.wait_set.timeout());
        let with_descriptors: Vec<_> = self
            .with_descriptors
            .iter()
            .flat_map(|&index| {
                self.hosts[index].stack.nic().descriptors().map(move |fd| (index, fd))
            })
            .collect();
        let descriptors = with_descriptors.iter().map(|(_, descriptor)| *descriptor);
        let mut fds: Vec<_> = (others.iter().copied().chain(descriptors))
            .chain(self.wait_set.poll_fd())
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        match ppoll(&mut fds, Some(time.into()), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.checked = Instant::now();
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let (others, fds) = fds.split_at(others.len());
        let is_other = others.iter().any(is_ready);
        let (own, wait_set) = fds.split_at(with_descriptors.len());
        let is_wait_set = wait_set.iter().any(is_ready);
        let woken: Vec<_> = (own.iter().zip(&with_descriptors))
            .filter(|(fd, _)| is_ready(fd))
            .map(|(_, (index, _))| *index)
            .collect();
        for index in woken {
            self.wake(index);
            self.hosts[index].disarm();
            // The readable descriptor may be one that only a service reads.
            self.hosts[index].stack.hasten_service();
        }
        // When its timeout is over, the wait set wakes all its members.
        if is_wait_set || self.wait_set.timeout().is_zero() {
            for index in self.wait_set.ready() {
                self.wake(index);
                // The wait set has disarmed it.
                self.hosts[index].is_armed = false;
            }
        }
        Ok(is_other)
    }

    /// Puts a host to sleep until it is due; the caller takes it out of `awake`. Returns `false`
    /// when something has come meanwhile, which may be for others.
    fn put_to_sleep(
        &mut self,
        index: usize,
        due: Instant,
        now: Instant,
    ) -> Result<bool, WaitError> {
        let host = &mut self.hosts[index];
        let longest = host.stack.nic_mut().arm(&self.wait_set, index)?;
        host.is_armed = !longest.is_zero();
        if !host.is_armed {
            return Ok(false);
        }
        let until = due.min(now + longest);
        host.asleep_until = Some(until);
        self.due.insert((until, index));
        if host.stack.nic().descriptors().next().is_some() {
            self.with_descriptors.insert(index);
        }
        Ok(true)
    }

    /// Wakes the hosts that are due; returns whether there are any.
    fn wake_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.first().is_some_and(|(first, _)| *first <= now);
        while is_due
            && let Some(&(first, index)) = self.due.first()
            && first <= now + DUE_SLACK
        {
            self.wake(index);
        }
        is_due
    }

    /// Counts a host among those that are awake, if it sleeps.
    fn wake(&mut self, index: usize) {
        let Some(until) = self.hosts[index].asleep_until.take() else { return };
        self.due.remove(&(until, index));
        self.with_descriptors.remove(&index);
        self.awake.push(index);
    }
}

impl<N: Nic> Host<N> {
    fn disarm(&mut self) {
        if mem::take(&mut self.is_armed) {
            self.stack.nic_mut().disarm();
        }
    }
}

/// What a look at the awake hosts found.
struct Looked {
    /// Hosts that have something to do.
    concerned: Vec<usize>,
    /// A host has nothing to do at the moment, but is looked at again before it falls asleep.
    busy: bool,
}

impl<N: Nic> Default for HostSet<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N: Nic> Index<usize> for HostSet<N> {
    type Output = Stack<N>;

    fn index(&self, index: usize) -> &Stack<N> {
        &self.hosts[index].stack
    }
}

impl<N: Nic> IndexMut<usize> for HostSet<N> {
    /// Returns a host to use it, and wakes it: the next wait finds out what it has to do then.
    fn index_mut(&mut self, index: usize) -> &mut Stack<N> {
        self.wake(index);
        &mut self.hosts[index].stack
    }
}
