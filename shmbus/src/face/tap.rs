//! Listening without taking part.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::error::{OpenError, WaitError};
use crate::face::burst::Burst;
use crate::face::bus::Bus;
use crate::face::reader::Reader;
use crate::face::stats::Stats;
use crate::mechanism::frame::FrameSink;
use crate::mechanism::ring::cursor::Cursor;
use crate::mechanism::ring::position::Extent;
use crate::mechanism::ring::snapshot::NoSnapshot;
use crate::system::wake::busy_poll::WaitMode;
use crate::system::wake::wait_set::WaitSet;

/// How long the ring may be unsettled before the lock is taken for one that was left behind.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(100);

/// Sees every frame on a bus, and changes nothing: it needs only permission to read, takes no lock, and costs the
/// stations nothing.
///
/// A bus that died with its lock can be read as well; the newest packet may then be half written.
#[derive(Debug)]
pub struct Tap {
    bus: Bus,
    reader: Reader,
    /// Since when no read could be settled.
    unsettled: Option<Instant>,
}

impl Tap {
    /// A tap that sees what is sent from now on.
    ///
    /// # Errors
    /// When the bus is damaged beyond telling where its packets are.
    pub fn new(bus: Bus) -> Result<Self, OpenError> {
        Self::begin(bus, Cursor::at_end)
    }

    /// A tap that begins with the oldest frame still on the bus.
    ///
    /// # Errors
    /// As for [`Tap::new`].
    pub fn oldest(bus: Bus) -> Result<Self, OpenError> {
        Self::begin(bus, Cursor::at_first)
    }

    fn begin(bus: Bus, at: fn(&Extent) -> Cursor) -> Result<Self, OpenError> {
        let begin = Instant::now();
        let mut abandoned = None;
        loop {
            match bus.ring.snapshot_ignoring(abandoned) {
                Ok(extent) => {
                    let mut cursor = at(&extent);
                    if let Some(word) = abandoned {
                        cursor.ignore(word);
                    }
                    return Ok(Self { bus, reader: Reader::new(cursor), unsettled: None });
                }
                Err(NoSnapshot::Corrupt) => return Err(OpenError::Corrupt { path: bus.path().to_owned() }),
                Err(NoSnapshot::Unsettled) if begin.elapsed() < SETTLE_TIMEOUT => std::thread::yield_now(),
                Err(NoSnapshot::Unsettled) => abandoned = Some(bus.ring.lock_word()),
            }
        }
    }

    /// The bus.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Counters since the tap was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.reader.stats
    }

    /// Shows also what is shorter than an Ethernet header, from one byte on. No station takes that for a frame, and ours
    /// do not send it; it is there to be seen all the same.
    #[must_use]
    pub fn with_runts(mut self) -> Self {
        self.reader.shortest = 1;
        self
    }

    /// What the tap does while it [waits](Self::wait), instead of [`WaitMode::Sleep`].
    #[must_use]
    pub fn with_wait_mode(mut self, mode: WaitMode) -> Self {
        self.reader.set_wait_mode(mode);
        self
    }

    /// Fills `burst` with the frames that are there, without waiting; returns how many.
    pub fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        burst.clear();
        self.recv_into(burst, usize::MAX)
    }

    /// Offers the frames that are there to `sink`, at most `max`, without waiting; returns how many were committed.
    pub fn recv_into(&mut self, sink: &mut impl FrameSink, max: usize) -> usize {
        if let Some(received) = self.reader.read(&self.bus.ring, max, sink, |_| true) {
            self.unsettled = None;
            return received;
        }
        // Somebody holds the lock. A tap can do nothing about it; if it stays so, it looks past it.
        if self.unsettled.get_or_insert_with(Instant::now).elapsed() >= SETTLE_TIMEOUT {
            self.unsettled = None;
            self.reader.cursor.ignore(self.bus.ring.lock_word());
        }
        0
    }

    /// Waits until there is something to read, at most for `timeout` (`None`: for ever). `false` when the time is over.
    ///
    /// All that wait in a process, however many and on whatever buses, share one inotify instance. Where none is to be had
    /// (128 for each user is a usual limit), they look every millisecond instead; this is logged once.
    ///
    /// # Errors
    /// When the bus is gone, or the system refuses to wait.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, WaitError> {
        self.reader.wait(&self.bus, timeout)
    }

    /// Sleeps in `wait_set` from now on when [armed](Self::arm), and is called `token` there. For processes that serve many
    /// taps with one poll loop.
    pub fn join_wait_set(&mut self, wait_set: &WaitSet, token: usize) {
        self.reader.join_wait_set(&self.bus, wait_set, token);
    }

    /// The descriptor to poll for reading after [`arm`](Self::arm). There is none before the first time; then it stays the
    /// same for the life of the tap. It is an inotify instance of its own, or that of the [`WaitSet`] it sleeps in.
    #[must_use]
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.reader.poll_fd()
    }

    /// Prepares for a sleep on [`poll_fd`](Self::poll_fd). `true`: there is something to read already, do not sleep; it is
    /// not armed. Sleep at most [`MAX_SLEEP`](crate::MAX_SLEEP) at a time, and call [`disarm`](Self::disarm) after it.
    /// In a [`WaitSet`], go by that.
    ///
    /// # Errors
    /// When the bus is gone. Outside of a [`WaitSet`] also when no inotify instance or watch is to be had.
    pub fn arm(&mut self) -> Result<bool, WaitError> {
        self.reader.arm(&self.bus)
    }

    /// Ends a sleep: the bus is watched no longer. There is no need to when a [`WaitSet`] said who is woken.
    pub fn disarm(&mut self) {
        self.reader.disarm();
    }
}
