//! Receives all frames without taking part.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::error::{OpenError, WaitError};
use crate::face::burst::Burst;
use crate::face::bus::Bus;
use crate::face::reader::{All, Reader};
use crate::face::stats::Stats;
use crate::mechanism::frame::FrameSink;
use crate::mechanism::ring::cursor::Cursor;
use crate::mechanism::ring::position::Extent;
use crate::mechanism::ring::snapshot::NoSnapshot;
use crate::system::wake::busy_poll::WaitMode;
use crate::system::wake::wait_set::WaitSet;

/// How long the ring may be unsettled before its lock counts as abandoned.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(100);

/// Sees every frame on a bus, and changes nothing: it needs only permission to read, takes no lock,
/// and costs the stations nothing while it does not sleep.
///
/// It also reads a bus whose lock a dead process left; the newest packet may then be half written.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// use shmbus::{Burst, Bus, Station, StationOptions, Tap};
///
/// let mut station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
/// station.send(&[0xff; 60])?;
///
/// let mut tap = Tap::oldest(Bus::open_read_only(&path)?)?;
/// let mut burst = Burst::new(64);
/// assert_eq!(tap.recv_burst(&mut burst), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tap {
    bus: Bus,
    reader: Reader,
    /// Since when every read was unsettled.
    unsettled: Option<Instant>,
}

impl Tap {
    /// Makes a tap that sees what is sent from now on.
    ///
    /// # Errors
    /// When the bus is so damaged that its packets cannot be found.
    pub fn new(bus: Bus) -> Result<Self, OpenError> {
        Self::begin(bus, Cursor::at_end)
    }

    /// Makes a tap that begins with the oldest frame still on the bus.
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
                Err(NoSnapshot::Corrupt) => {
                    return Err(bus.corrupt());
                }
                Err(NoSnapshot::Unsettled) if begin.elapsed() < SETTLE_TIMEOUT => {
                    std::thread::yield_now();
                }
                Err(NoSnapshot::Unsettled) => abandoned = Some(bus.ring.lock_word()),
            }
        }
    }

    /// Returns the bus.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Returns the counters since the tap was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.reader.stats
    }

    /// Also shows packets shorter than an Ethernet header, from one byte on. Stations ignore them,
    /// and those of this kind send none.
    #[must_use]
    pub fn with_runts(mut self) -> Self {
        self.reader.shortest = 1;
        self
    }

    /// Sets what the tap does while it [waits](Self::wait), instead of [`WaitMode::Sleep`].
    #[must_use]
    pub fn with_wait_mode(mut self, mode: WaitMode) -> Self {
        self.reader.set_wait_mode(mode);
        self
    }

    /// Fills `burst` with the frames on the bus, without waiting; returns how many.
    pub fn recv_burst(&mut self, burst: &mut Burst) -> usize {
        burst.clear();
        self.recv_into(burst, usize::MAX)
    }

    /// Offers the frames on the bus to `sink`, at most `max`, without waiting; returns how many
    /// were committed.
    pub fn recv_into(&mut self, sink: &mut impl FrameSink, max: usize) -> usize {
        if let Some(received) = self.reader.read(&self.bus.ring, max, sink, All) {
            self.unsettled = None;
            return received;
        }
        // The lock is held. A tap cannot free it; if it stays held, the tap reads in spite of it.
        if self.unsettled.get_or_insert_with(Instant::now).elapsed() >= SETTLE_TIMEOUT {
            self.unsettled = None;
            self.reader.cursor.ignore(self.bus.ring.lock_word());
        }
        0
    }

    /// Waits until there is something to read, at most for `timeout` (`None`: without limit).
    /// Returns `false` when the time is over.
    ///
    /// All taps that wait in a process, on whatever buses, share a few inotify instances. Where
    /// none is available (128 for each user is a usual limit), they look every millisecond instead;
    /// this is logged once.
    ///
    /// # Errors
    /// When the bus is gone, or the system refuses to wait.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, WaitError> {
        self.reader.wait(&self.bus, timeout, |_| true)
    }

    /// Makes the tap sleep in `wait_set` from now on when [armed](Self::arm), under the name
    /// `token`. For processes that serve many taps with one poll loop.
    pub fn join_wait_set(&mut self, wait_set: &WaitSet, token: usize) {
        self.reader.join_wait_set(&self.bus, wait_set, token);
    }

    /// Returns the descriptor to poll for reading after [`arm`](Self::arm). There is none before
    /// the first time; then it stays the same for the life of the tap. It is one of its own, or
    /// that of its [`WaitSet`].
    #[must_use]
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.reader.poll_fd()
    }

    /// Prepares for a sleep on [`poll_fd`](Self::poll_fd). Returns `true` when there is something
    /// to read already: do not sleep then; the tap is not armed. Otherwise sleep at most
    /// [`MAX_SLEEP`](crate::MAX_SLEEP), and call [`disarm`](Self::disarm) after it. In a
    /// [`WaitSet`], its timeout and its tokens say when to look.
    ///
    /// # Errors
    /// When the bus is gone. Outside of a [`WaitSet`] also when no inotify instance or watch is
    /// available.
    pub fn arm(&mut self) -> Result<bool, WaitError> {
        self.reader.arm(&self.bus, |_| true)
    }

    /// Ends a sleep: the tap no longer watches the bus. A tap whose token a [`WaitSet`] returned is
    /// disarmed already.
    pub fn disarm(&mut self) {
        self.reader.disarm(&self.bus);
    }
}
