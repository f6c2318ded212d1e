//! What stations and taps share: a place on the ring, a place to sleep, and counters.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::bus::Bus;
use crate::error::WaitError;
use crate::format::MIN_FRAME;
use crate::frame::{FrameSink, RingFrame};
use crate::memory::Mapping;
use crate::ring::Ring;
use crate::ring::cursor::{Cursor, Met, Outcome, Verdict};
use crate::ring::snapshot::NoSnapshot;
use crate::stats::Stats;
use crate::wake::busy_poll::{BusyPoll, WaitMode};
use crate::wake::shared_wait::{Place, Sleep};
use crate::wake::wait_set::{Bed, WaitSet};
use crate::wake::{Instance, MAX_SLEEP, NAP, process_lookout, warn_once};

/// Looks between two offers of the processor to others.
const LOOKS: u32 = 50;

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) cursor: Cursor,
    pub(crate) stats: Stats,
    /// Bytes of the shortest packet that is handed up.
    pub(crate) shortest: usize,
    busy_poll: BusyPoll,
    /// Where it waits, since it first did.
    place: Option<Place<Instance>>,
    /// Where it sleeps between `arm` and `disarm`.
    bed: Option<Bed>,
}

impl Reader {
    pub(crate) fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            stats: Stats::default(),
            shortest: MIN_FRAME,
            busy_poll: BusyPoll::default(),
            place: None,
            bed: None,
        }
    }

    pub(crate) fn set_wait_mode(&mut self, mode: WaitMode) {
        self.busy_poll = BusyPoll::new(mode);
    }

    /// Offers the frames that `wanted` says yes to to `sink`, at most `max`. Returns how many are whole and committed;
    /// `None` when that could not be told and the lock may have to be looked after.
    #[inline]
    pub(crate) fn read(
        &mut self,
        ring: &Ring<Mapping>,
        max: usize,
        sink: &mut impl FrameSink,
        mut wanted: impl FnMut(&RingFrame<'_>) -> bool,
    ) -> Option<usize> {
        let shortest = self.shortest;
        let (mut packets, mut bytes, mut filtered) = (0_usize, 0, 0);
        let outcome = self.cursor.read(ring, |met: Met| {
            // Rump kernels skip these too; the empty packet behind the end of the ring is one.
            if (met.header.len as usize) < shortest {
                return Verdict::Next;
            }
            if packets >= max {
                return Verdict::Stop;
            }
            let frame = RingFrame::new(ring, met);
            if !wanted(&frame) {
                filtered += 1;
            } else if sink.take(&frame) {
                packets += 1;
                bytes += frame.len() as u64;
            } else {
                return Verdict::Stop;
            }
            Verdict::Next
        });
        let lost = ring.memory().is_lost();
        match outcome {
            // Zeros that nobody wrote may be among what was taken, and nothing vouches for the rest.
            _ if lost => {
                sink.discard();
                Some(0)
            }
            Outcome::Whole | Outcome::Corrupt => {
                if packets > 0 {
                    sink.commit();
                }
                self.stats.rx_packets += packets as u64;
                self.stats.rx_bytes += bytes;
                self.stats.filtered += filtered;
                self.stats.corrupt += u64::from(outcome == Outcome::Corrupt);
                Some(packets)
            }
            Outcome::Overrun(missed) => {
                sink.discard();
                self.stats.overruns += 1;
                self.stats.overrun_bytes = self.stats.overrun_bytes.saturating_add(missed);
                Some(0)
            }
            Outcome::Astray => {
                sink.discard();
                self.stats.corrupt += 1;
                Some(0)
            }
            Outcome::Unsettled => {
                sink.discard();
                None
            }
        }
    }

    /// Forgets what is on the ring. While the ring is unsettled, what will be found on it is taken for new.
    pub(crate) fn discard_pending(&mut self, ring: &Ring<Mapping>) {
        if let Ok(extent) = ring.snapshot() {
            self.cursor = Cursor::at_end(&extent);
        }
    }

    /// Whether there is something to read, wanted or not.
    pub(crate) fn has_news(&mut self, bus: &Bus) -> Result<bool, NoSnapshot> {
        self.cursor.has_news(&bus.ring)
    }

    /// From now on it sleeps in `wait_set` when armed.
    pub(crate) fn join_wait_set(&mut self, bus: &Bus, wait_set: &WaitSet, token: usize) {
        self.bed = Some(Bed::shared(wait_set, bus, token));
    }

    /// The descriptor that becomes readable when somebody sends, while armed.
    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.bed.as_ref().and_then(Bed::poll_fd)
    }

    /// Prepares to sleep; `true` when there is something to read and no sleep is in order.
    pub(crate) fn arm(&mut self, bus: &Bus) -> Result<bool, WaitError> {
        let news = self.has_news(bus).unwrap_or(false);
        check(bus)?;
        if news {
            self.disarm();
            return Ok(true);
        }
        let bed = match self.bed.take() {
            Some(bed) => bed,
            None => Bed::own(bus).map_err(|source| watch_error(bus, source))?,
        };
        self.bed.insert(bed).arm(bus).map_err(|source| watch_error(bus, source))?;
        let looked = self.look(bus);
        if !matches!(looked, Ok(false)) {
            self.disarm();
        }
        looked
    }

    pub(crate) fn disarm(&mut self) {
        if let Some(bed) = &self.bed {
            bed.disarm();
        }
    }

    /// Waits until there is something to read or the time is over; `true` for the first.
    pub(crate) fn wait(&mut self, bus: &Bus, timeout: Option<Duration>) -> Result<bool, WaitError> {
        let begin = Instant::now();
        let news = self.has_news(bus).unwrap_or(false);
        check(bus)?;
        if news {
            return Ok(true);
        }
        let news = if self.poll(bus, begin, self.busy_poll.time().min(timeout.unwrap_or(Duration::MAX)))? {
            self.stats.polled += 1;
            true
        } else {
            self.sleep_long(bus, begin, timeout)?
        };
        self.busy_poll.learn(begin.elapsed());
        Ok(news)
    }

    /// Looks until there is something to read or the time is over; `true` for the first.
    fn poll(&mut self, bus: &Bus, begin: Instant, time: Duration) -> Result<bool, WaitError> {
        while !time.is_zero() {
            for _ in 0..LOOKS {
                if self.has_news(bus).unwrap_or(false) {
                    return Ok(true);
                }
                std::hint::spin_loop();
            }
            if begin.elapsed() >= time {
                break;
            }
            check(bus)?;
            // On a machine with few processors the sender may be waiting for this one.
            std::thread::yield_now();
        }
        Ok(false)
    }

    /// Sleeps until there is something to read or the time is over; `true` for the first.
    fn sleep_long(
        &mut self,
        bus: &Bus,
        begin: Instant,
        timeout: Option<Duration>,
    ) -> Result<bool, WaitError> {
        loop {
            let left = timeout.map_or(MAX_SLEEP, |timeout| timeout.saturating_sub(begin.elapsed()));
            if left.is_zero() {
                return self.look(bus);
            }
            if self.sleep(bus, left.min(MAX_SLEEP))? {
                return Ok(true);
            }
        }
    }

    /// Sleeps for a time at most; `true` when there is something to read.
    fn sleep(&mut self, bus: &Bus, time: Duration) -> Result<bool, WaitError> {
        let mut place = match self.place.take() {
            Some(place) => place,
            None => match process_lookout() {
                Ok(shared_wait) => Place::new(shared_wait, bus.id()),
                Err(error) => return self.doze(bus, time, &error),
            },
        };
        let mut looked = Ok(false);
        let slept = place.sleep(&bus.file, time, || {
            looked = self.look(bus);
            !matches!(looked, Ok(false))
        });
        self.place = Some(place);
        let slept = slept.map_err(|source| WaitError::Poll { path: bus.path().to_owned(), source })?;
        match slept {
            Sleep::None => return looked,
            Sleep::Unwatched(error) => return self.doze(bus, time, &error),
            Sleep::Woken | Sleep::Over => self.stats.sleeps += 1,
        }
        let news = self.has_news(bus).unwrap_or(false);
        self.stats.missed_wakeups += u64::from(news && matches!(slept, Sleep::Over));
        Ok(news)
    }

    /// Sleeps where nobody can wake it, in naps; `true` when there is something to read.
    fn doze(&mut self, bus: &Bus, time: Duration, why: &io::Error) -> Result<bool, WaitError> {
        warn_once(why);
        let begin = Instant::now();
        loop {
            let news = self.look(bus)?;
            let left = time.saturating_sub(begin.elapsed());
            if news || left.is_zero() {
                return Ok(news);
            }
            self.stats.sleeps += 1;
            std::thread::sleep(left.min(NAP));
        }
    }

    /// Whether there is something to read, on a bus that is still there.
    fn look(&mut self, bus: &Bus) -> Result<bool, WaitError> {
        bus.check_size();
        check(bus)?;
        Ok(self.has_news(bus).unwrap_or(false))
    }
}

fn check(bus: &Bus) -> Result<(), WaitError> {
    if bus.is_lost() { Err(WaitError::Lost { path: bus.path().to_owned() }) } else { Ok(()) }
}

fn watch_error(bus: &Bus, source: io::Error) -> WaitError {
    WaitError::Watch { path: bus.path().to_owned(), source }
}
