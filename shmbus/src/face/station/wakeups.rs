//! The wake-ups a station sends to the others, and the one that is pending.
//!
//! A wake-up may be put off for the interval that its user allows, and so be merged with those of
//! the bursts that follow; or it may fail. It stays pending until it is sent: by whatever the
//! station does next once it is due, and at once before the station sleeps or leaves.

use std::io;
use std::time::{Duration, Instant};

use crate::face::bus::Bus;
use crate::system::wake::waking::Waking;

/// How long a receive call leaves a failed wake-up alone before it repeats it.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Wakeups {
    interval: Duration,
    /// When a wake-up was last sent or failed.
    last: Option<Instant>,
    /// How long a receive call leaves a pending one alone after that.
    pause: Duration,
    /// Frames were sent since the last wake-up.
    pending: bool,
    /// The doorbells of those that the frames are for.
    pub(super) doorbells: Vec<u32>,
    /// When frames were last sent, in milliseconds of the clock that stamps them.
    now: u64,
    sent: u64,
    failed: u64,
}

impl Wakeups {
    /// With at least `interval` from one to the next.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            pause: interval,
            pending: false,
            doorbells: Vec::new(),
            now: 0,
            sent: 0,
            failed: 0,
        }
    }

    /// How many were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether one was put off or has failed.
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// How many failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Frames were sent at the time `now`: wakes those that they are for, now or when the interval
    /// is over.
    #[inline]
    pub(super) fn request(&mut self, bus: &Bus, waking: &Waking, now: u64) {
        self.now = now;
        if !self.doorbells.is_empty() || waking.needs_write(&bus.file, now) {
            self.request_needed(bus, waking);
        }
    }

    // A system call costs more than this call; it need not make the senders' code larger.
    #[inline(never)]
    fn request_needed(&mut self, bus: &Bus, waking: &Waking) {
        if self.interval.is_zero() && !self.pending {
            match self.wake(bus, waking) {
                Ok(()) => self.sent += 1,
                Err(_) => self.note_failure(),
            }
            return;
        }
        self.pending = true;
        if self.last.is_none_or(|last| last.elapsed() >= self.interval) {
            self.retry(bus, waking);
        }
    }

    fn wake(&mut self, bus: &Bus, waking: &Waking) -> io::Result<()> {
        // Those that the frames are for first.
        waking.ring(&bus.file, &mut self.doorbells);
        waking.write(&bus.file, self.now)
    }

    /// Sends a pending wake-up whose time has come.
    #[inline]
    pub(super) fn retry_if_due(&mut self, bus: &Bus, waking: &Waking) {
        if self.pending {
            self.retry_if_over(bus, waking);
        }
    }

    // Out of the way of stations that put nothing off.
    #[cold]
    fn retry_if_over(&mut self, bus: &Bus, waking: &Waking) {
        if self.last.is_none_or(|last| last.elapsed() >= self.pause) {
            self.retry(bus, waking);
        }
    }

    /// Sends a pending wake-up. Should it fail, it stays pending and is counted.
    pub(super) fn retry(&mut self, bus: &Bus, waking: &Waking) {
        // The failure is counted, and the next call repeats it.
        let _ = self.flush(bus, waking);
    }

    /// Sends a pending wake-up, and reports whether it failed.
    pub(super) fn flush(&mut self, bus: &Bus, waking: &Waking) -> io::Result<()> {
        if !self.pending {
            return Ok(());
        }
        // What is left of a bus that was cut short meanwhile must not be written to.
        bus.check_size();
        if !bus.is_lost() {
            if let Err(error) = self.wake(bus, waking) {
                self.note_failure();
                return Err(error);
            }
            self.sent += 1;
        }
        self.pending = false;
        self.last = Some(Instant::now());
        self.pause = self.interval;
        Ok(())
    }

    #[cold]
    fn note_failure(&mut self) {
        self.pending = true;
        self.failed += 1;
        self.last = Some(Instant::now());
        self.pause = self.interval.max(RETRY_PAUSE);
    }
}
