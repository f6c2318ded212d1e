//! What stations and taps share: a place on the ring, a watch to sleep with, and counters.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::libc;

use crate::bus::Bus;
use crate::error::WaitError;
use crate::format::MIN_FRAME;
use crate::frame::{FrameSink, RingFrame};
use crate::memory::Mapping;
use crate::ring::Ring;
use crate::ring::cursor::{Cursor, Met, Outcome, Verdict};
use crate::ring::snapshot::NoSnapshot;
use crate::stats::Stats;
use crate::wake::{SLEEP_BOUND, Watch};

/// The pause between two looks of a sleeper that cannot be woken.
const NAP: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) cursor: Cursor,
    pub(crate) stats: Stats,
    /// Bytes of the shortest packet that is handed up.
    pub(crate) shortest: usize,
    watch: Option<Watch>,
}

impl Reader {
    pub(crate) fn new(cursor: Cursor) -> Self {
        Self { cursor, stats: Stats::default(), shortest: MIN_FRAME, watch: None }
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
            Outcome::Unsettled => {
                sink.discard();
                None
            }
        }
    }

    /// Forgets what is on the ring. While the ring is unsettled, what will be found on it is taken for new.
    pub(crate) fn skip_to_present(&mut self, ring: &Ring<Mapping>) {
        if let Ok(extent) = ring.snapshot() {
            self.cursor = Cursor::at_end(&extent);
        }
    }

    /// Whether there is something to read, wanted or not.
    pub(crate) fn has_news(&mut self, bus: &Bus) -> Result<bool, NoSnapshot> {
        self.cursor.has_news(&bus.ring)
    }

    /// The descriptor that becomes readable when somebody sends, while armed.
    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(Watch::as_fd)
    }

    /// Prepares to sleep; `true` when there is something to read and no sleep is in order.
    pub(crate) fn arm(&mut self, bus: &Bus) -> Result<bool, WaitError> {
        bus.check_size();
        check(bus)?;
        self.watch(bus)?.arm(&bus.file).map_err(|source| watch_error(bus, source))?;
        Ok(self.has_news(bus).unwrap_or(false))
    }

    pub(crate) fn disarm(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.disarm();
        }
    }

    /// Sleeps until there is something to read or the time is over; `true` for the first.
    pub(crate) fn wait(&mut self, bus: &Bus, timeout: Option<Duration>) -> Result<bool, WaitError> {
        let begin = Instant::now();
        let news = self.has_news(bus).unwrap_or(false);
        check(bus)?;
        if news {
            return Ok(true);
        }
        let news = self.sleep(bus, begin, timeout);
        self.disarm();
        news
    }

    fn sleep(&mut self, bus: &Bus, begin: Instant, timeout: Option<Duration>) -> Result<bool, WaitError> {
        loop {
            let watched = match self.arm(bus) {
                Ok(true) => return Ok(true),
                Ok(false) => true,
                Err(WaitError::Watch { source, .. }) if is_exhausted(&source) => {
                    warn_once(&source);
                    false
                }
                Err(error) => return Err(error),
            };
            let left = timeout.map_or(SLEEP_BOUND, |timeout| timeout.saturating_sub(begin.elapsed()));
            if left.is_zero() {
                return Ok(false);
            }
            self.stats.sleeps += 1;
            if watched {
                let watch = self.watch(bus)?;
                let woken = watch
                    .sleep(left.min(SLEEP_BOUND))
                    .map_err(|source| WaitError::Poll { path: bus.path().to_owned(), source })?;
                watch.drain();
                if !woken && self.has_news(bus).unwrap_or(false) {
                    self.stats.unwoken += 1;
                    return Ok(true);
                }
            } else {
                std::thread::sleep(left.min(NAP));
                if self.has_news(bus).unwrap_or(false) {
                    return Ok(true);
                }
            }
        }
    }

    fn watch(&mut self, bus: &Bus) -> Result<&mut Watch, WaitError> {
        let watch = match self.watch.take() {
            Some(watch) => watch,
            None => Watch::new().map_err(|source| watch_error(bus, source))?,
        };
        Ok(self.watch.insert(watch))
    }
}

/// Whether there are too many files, inotify instances or watches: another way has to do.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::ENOMEM))
}

fn warn_once(error: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(%error, "no inotify watch is to be had: sleeping stations look every millisecond instead");
    });
}

fn check(bus: &Bus) -> Result<(), WaitError> {
    if bus.is_lost() { Err(WaitError::Lost { path: bus.path().to_owned() }) } else { Ok(()) }
}

fn watch_error(bus: &Bus, source: io::Error) -> WaitError {
    WaitError::Watch { path: bus.path().to_owned(), source }
}
