//! The data path of a memif interface: the link of the moment, and how a thread sleeps on it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::memif::{BurstLimit, Link, LinkError, QueueStats};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pyo3::{PyErr, PyResult};
use shmbus::FrameSink as _;

use super::connection::{Connection, Endpoint};
use super::mailbox::Change;
use crate::error::{LinkDownError, MemifError, system_error, value_error};
use crate::frames::Received;
use crate::source::Source;

/// The longest packet that is received or sent, in bytes: what an IP packet may have.
const MAX_PACKET: usize = 65_535;
/// What one call takes from a peer at most, beside the number of packets.
const TURN: BurstLimit = BurstLimit { packets: usize::MAX, descriptors: 1 << 12, bytes: 1 << 20 };
/// How long the first sleep after arming is: libmemif and DPDK may miss the request for an interrupt
/// when they publish just then.
const FIRST_SLEEP: Duration = Duration::from_millis(10);
/// How long a sleep is after that.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// An interface, with its link while it has one.
pub(super) struct Linked {
    connection: Connection,
    link: Option<Link>,
    /// Polls the mailbox and the receive queues.
    epoll: Epoll,
    descriptor: Arc<OwnedFd>,
    /// The receive queue whose turn it is.
    first_queue: usize,
    /// The receive queues ask for interrupts.
    is_armed: bool,
    /// They have done so for a whole sleep.
    has_slept: bool,
    counts: Counts,
}

/// What earlier links have counted, and what queues do not count.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) rx: QueueStats,
    pub(super) tx: QueueStats,
    /// Links so far.
    pub(super) links: u64,
    /// Received packets that were dropped because they are too long.
    pub(super) rx_too_long: u64,
}

impl Linked {
    pub(super) fn new(endpoint: Endpoint) -> PyResult<Self> {
        let start = || -> std::io::Result<Self> {
            let connection = Connection::serve(endpoint)?;
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            epoll.add(connection.mailbox(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
            let descriptor = Arc::new(epoll.0.try_clone()?);
            Ok(Self {
                connection,
                link: None,
                epoll,
                descriptor,
                first_queue: 0,
                is_armed: false,
                has_slept: false,
                counts: Counts::default(),
            })
        };
        start().map_err(|error| system_error(&error, format!("cannot serve the socket: {error}")))
    }

    /// Takes over a new link, or the end of the one before.
    fn service(&mut self) -> PyResult<()> {
        if let Some(change) = self.connection.mailbox().take() {
            self.drop_link();
            if let Change::Up(link) = change {
                self.counts.links += 1;
                for queue in &link.rx {
                    let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
                    self.epoll.add(queue, event).map_err(|errno| {
                        let text = format!("cannot wait for the peer: {}", errno.desc());
                        system_error(&errno.into(), text)
                    })?;
                }
                self.link = Some(link);
            }
        }
        match self.connection.mailbox().failure() {
            Some(failure) if self.link.is_none() => Err(MemifError::new_err(failure)),
            _ => Ok(()),
        }
    }

    fn drop_link(&mut self) {
        (self.is_armed, self.has_slept, self.first_queue) = (false, false, 0);
        let Some(link) = self.link.take() else { return };
        for queue in &link.rx {
            // The peer has the same descriptor, so closing it here ends nothing.
            let _ = self.epoll.delete(queue.as_fd());
            self.counts.rx += queue.stats();
        }
        for queue in &link.tx {
            self.counts.tx += queue.stats();
        }
    }

    /// Whether there is a peer.
    pub(super) fn is_up(&mut self) -> PyResult<bool> {
        self.service()?;
        Ok(self.link.is_some())
    }

    /// The names of the peer's interface and program.
    pub(super) fn peer(&mut self) -> PyResult<Option<::memif::Peer>> {
        self.service()?;
        Ok(self.link.as_ref().map(|link| link.peer.clone()))
    }

    /// Why there is no peer; `None` while there is one.
    pub(super) fn why_down(&self) -> Option<String> {
        self.connection.mailbox().why_down()
    }

    /// The counts of all links so far.
    pub(super) fn counts(&mut self) -> PyResult<Counts> {
        self.service()?;
        let mut counts = self.counts;
        if let Some(link) = &self.link {
            link.rx.iter().for_each(|queue| counts.rx += queue.stats());
            link.tx.iter().for_each(|queue| counts.tx += queue.stats());
        }
        Ok(counts)
    }

    /// Sends as many of `frames` as the peer has room for now; returns how many.
    pub(super) fn send(&mut self, frames: &[&[u8]]) -> PyResult<usize> {
        self.service()?;
        let Some(queue) = self.link.as_mut().and_then(|link| link.tx.first_mut()) else {
            return Err(self.link_down());
        };
        let sent = (|| {
            let mut burst = queue.burst()?;
            let pushed = frames.iter().take_while(|frame| burst.push(frame)).count();
            if burst.publish() < pushed {
                return Err(LinkError::Down);
            }
            let is_stuck = pushed == 0 && queue.free_slots()? == queue.ring_size();
            Ok((pushed, is_stuck))
        })();
        match (sent, frames.first()) {
            (Ok((_, true)), Some(frame)) => Err(value_error(format!(
                "a frame of {} bytes is longer than all buffers of the peer's ring",
                frame.len()
            ))),
            (Ok((pushed, _)), _) => Ok(pushed),
            (Err(_), _) => Err(self.link_down()),
        }
    }

    fn link_down(&mut self) -> PyErr {
        // A queue may notice the end before the thread does.
        let why = self.why_down().unwrap_or_else(|| "the link is down".to_owned());
        LinkDownError::new_err(format!("there is no peer: {why}"))
    }

    /// Receives from all queues in turn.
    fn receive_from(
        link: &mut Link,
        first: usize,
        received: &mut Received,
        max: usize,
    ) -> Result<u64, LinkError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (queues, mut too_long) = (link.rx.len(), 0);
        for nth in 0..queues {
            let left = max - received.len();
            if left == 0 {
                break;
            }
            let limit = BurstLimit { packets: left, ..TURN };
            let burst = link.rx[(first + nth) % queues].burst_within(limit)?;
            for packet in &burst {
                let len = packet.len();
                if len > MAX_PACKET {
                    too_long += 1;
                    continue;
                }
                received.add(len, now, |room| packet.copy_to(room));
            }
            if let Err(lost) = burst.check() {
                received.discard();
                return Err(lost);
            }
            received.commit();
        }
        Ok(too_long)
    }
}

/// Checks the frames of a burst before any of them is sent.
pub(super) fn check(frames: &[&[u8]]) -> PyResult<()> {
    let wrong =
        frames.iter().enumerate().find(|(_, frame)| !(1..=MAX_PACKET).contains(&frame.len()));
    wrong.map_or(Ok(()), |(index, frame)| {
        Err(value_error(format!(
            "frame {index} of the burst is {} bytes long: memif carries 1 to {MAX_PACKET}",
            frame.len()
        )))
    })
}

impl Source for Linked {
    fn receive(&mut self, received: &mut Received, max: usize) -> PyResult<()> {
        self.service()?;
        let Some(link) = &mut self.link else { return Ok(()) };
        match Self::receive_from(link, self.first_queue, received, max) {
            Ok(too_long) => {
                self.counts.rx_too_long += too_long;
                self.first_queue = (self.first_queue + 1) % link.rx.len();
            }
            // The thread reports why.
            Err(_) => self.drop_link(),
        }
        if received.len() > 0 && self.is_armed {
            self.disarm_queues();
        }
        Ok(())
    }

    fn arm(&mut self) -> PyResult<bool> {
        self.service()?;
        let Some(link) = &mut self.link else { return Ok(false) };
        let mut is_ready = false;
        for queue in &mut link.rx {
            // A link that is down counts as ready: the next look finds the failure.
            is_ready |= queue.arm().unwrap_or(true);
        }
        self.is_armed = true;
        if is_ready {
            self.disarm_queues();
        }
        Ok(is_ready)
    }

    fn disarm(&mut self) {
        // Queues that were not woken stay armed, so that the next sleep may be longer.
        let mut events = [EpollEvent::empty()];
        let is_quiet = self.epoll.wait(&mut events, EpollTimeout::ZERO) == Ok(0);
        if is_quiet {
            self.has_slept = self.is_armed;
        } else {
            self.disarm_queues();
        }
    }

    fn sleep_limit(&self) -> Duration {
        if self.link.is_some() && !self.has_slept { FIRST_SLEEP } else { MAX_SLEEP }
    }

    fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }
}

impl Linked {
    /// Asks the peer for no more interrupts.
    fn disarm_queues(&mut self) {
        (self.is_armed, self.has_slept) = (false, false);
        for queue in self.link.iter_mut().flat_map(|link| &mut link.rx) {
            queue.disarm();
        }
    }
}
