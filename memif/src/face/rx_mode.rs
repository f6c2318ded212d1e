//! How the peer of a receive queue is asked for interrupts.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// How a receive queue starts: whether it asks the peer for interrupts.
///
/// [`RxQueue::set_mode`](crate::RxQueue::set_mode) changes it at any time, and
/// [`arm`](crate::RxQueue::arm) and [`disarm`](crate::RxQueue::disarm) override it for one sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RxMode {
    /// The peer does not write the eventfd.
    Polling,
    /// The peer writes the eventfd for each burst.
    Interrupt,
    /// The caller polls while there is traffic, and calls `arm` before it sleeps. Starts as
    /// `Polling`.
    #[default]
    Adaptive,
}

impl fmt::Display for RxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Polling => "polling",
            Self::Interrupt => "interrupt",
            Self::Adaptive => "adaptive",
        })
    }
}

/// The mode of a queue, which its endpoint can read while the queue is on another thread.
#[derive(Debug)]
pub(crate) struct ModeCell(AtomicU8);

impl ModeCell {
    pub(crate) fn new(mode: RxMode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    pub(crate) fn set(&self, mode: RxMode) {
        // Relaxed here and below: the mode is only displayed, and nothing depends on it.
        self.0.store(mode as u8, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> RxMode {
        let modes = [RxMode::Polling, RxMode::Interrupt, RxMode::Adaptive];
        let here = self.0.load(Ordering::Relaxed);
        modes.into_iter().find(|mode| *mode as u8 == here).unwrap_or_default()
    }
}
