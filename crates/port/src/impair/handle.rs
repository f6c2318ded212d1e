//! The impairments of a port that runs, as another thread sets them, and what they have done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::impairments::Impairments;

/// Changes the impairments of a port that runs, from any thread, and counts what they do.
///
/// A port looks for changes with one relaxed load for each burst. Impairments that are set hold
/// from the next burst on. Frames that wait stay, and arrive when they would have.
///
/// ```
/// use port::ImpairHandle;
///
/// let handle = ImpairHandle::new("delay=20ms".parse()?);
/// handle.set("delay=20ms,loss=1%".parse()?);
/// assert_eq!(handle.get().to_string(), "delay=20ms,loss=1%");
/// # Ok::<(), port::ParsePortError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ImpairHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Grows with each change.
    revision: AtomicU64,
    wanted: Mutex<Impairments>,
    ingress: Tally,
    egress: Tally,
}

/// What the impairments of a port have done to frames, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImpairCounters {
    /// From the peer to the bus.
    pub ingress: OneWayCounters,
    /// From the bus to the peer.
    pub egress: OneWayCounters,
}

/// What the impairments of one direction have done to frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneWayCounters {
    /// Frames that were lost, also because the link was cut.
    pub lost: u64,
    /// Frames of which a bit was flipped.
    pub corrupted: u64,
    /// Frames that were doubled.
    pub duplicated: u64,
    /// Frames that were sent past delayed ones.
    pub reordered: u64,
    /// Frames that were dropped because too many waited.
    pub queue_drops: u64,
}

/// The same, while it is counted. One thread counts, others read.
// Relaxed throughout: each number is right by itself, and nothing depends on how they go together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lost: AtomicU64,
    pub(super) corrupted: AtomicU64,
    pub(super) duplicated: AtomicU64,
    pub(super) reordered: AtomicU64,
    pub(super) queue_drops: AtomicU64,
}

impl Tally {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    fn read(&self) -> OneWayCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OneWayCounters {
            lost: read(&self.lost),
            corrupted: read(&self.corrupted),
            duplicated: read(&self.duplicated),
            reordered: read(&self.reordered),
            queue_drops: read(&self.queue_drops),
        }
    }
}

impl ImpairHandle {
    /// Makes a handle for a port that begins with `impairments`.
    #[must_use]
    pub fn new(impairments: Impairments) -> Self {
        let shared = Shared { wanted: Mutex::new(impairments), ..Shared::default() };
        Self(Arc::new(shared))
    }

    /// Sets the impairments in place of all earlier ones.
    pub fn set(&self, impairments: Impairments) {
        let mut wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if *wanted != impairments {
            *wanted = impairments;
            // Relaxed: the lock orders the impairments; the number only says that there are new
            // ones. It changes under the lock, so a thread that reads both there reads a pair.
            self.0.revision.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the impairments that were set last.
    #[must_use]
    pub fn get(&self) -> Impairments {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what the impairments have done since the port was made.
    #[must_use]
    pub fn counters(&self) -> ImpairCounters {
        ImpairCounters { ingress: self.0.ingress.read(), egress: self.0.egress.read() }
    }

    /// Returns a number that changes with each change of the impairments.
    #[inline]
    pub(super) fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::Relaxed)
    }

    /// Returns the impairments with their number; `None` while another thread sets them.
    pub(super) fn try_get(&self) -> Option<(u64, Impairments)> {
        let wanted = match self.0.wanted.try_lock() {
            Ok(wanted) => wanted,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some((self.revision(), wanted.clone()))
    }

    pub(super) fn ingress(&self) -> &Tally {
        &self.0.ingress
    }

    pub(super) fn egress(&self) -> &Tally {
        &self.0.egress
    }
}
