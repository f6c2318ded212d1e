//! The wake-ups a station sends to the others, and those it owes them.
//!
//! A wake-up may be put off for the interval that its user allows, and so be merged with those of the bursts that follow. It is
//! never forgotten: whatever the station does next pays it when the interval is over, and before it sleeps or leaves it is paid at
//! once.

use std::io;
use std::time::{Duration, Instant};

use crate::face::bus::Bus;
use crate::system::wake::wake;

#[derive(Debug)]
pub(super) struct Wakeups {
    interval: Duration,
    /// When the others were last woken.
    last: Option<Instant>,
    /// Something was sent since.
    owed: bool,
    /// How many were sent.
    sent: u64,
}

impl Wakeups {
    /// With at least `interval` from one to the next.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, last: None, owed: false, sent: 0 }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Something was sent: the others are to know.
    // A system call more or less; it need not make the senders' code larger.
    #[inline(never)]
    pub(super) fn owe(&mut self, bus: &Bus) -> io::Result<()> {
        if self.interval.is_zero() {
            self.sent += 1;
            return wake(&bus.file);
        }
        self.owed = true;
        self.pay_if_over(bus)
    }

    /// Wakes the others if they are owed it and the interval is over.
    #[inline]
    pub(super) fn pay_if_due(&mut self, bus: &Bus) -> io::Result<()> {
        if self.owed { self.pay_if_over(bus) } else { Ok(()) }
    }

    // Out of the way of those who put nothing off.
    #[cold]
    fn pay_if_over(&mut self, bus: &Bus) -> io::Result<()> {
        if self.last.is_none_or(|last| last.elapsed() >= self.interval) { self.pay(bus) } else { Ok(()) }
    }

    /// Wakes the others if they are owed it.
    pub(super) fn pay(&mut self, bus: &Bus) -> io::Result<()> {
        if !self.owed {
            return Ok(());
        }
        // What is left of a bus that was cut short meanwhile is not to be written to.
        bus.check_size();
        if !bus.is_lost() {
            wake(&bus.file)?;
            self.sent += 1;
        }
        self.owed = false;
        self.last = Some(Instant::now());
        Ok(())
    }
}
