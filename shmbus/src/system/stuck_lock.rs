//! Frees the lock of an unknown owner that certainly lives no more.
//!
//! The lock of a dead rump kernel looks like that of a live one that is slow or stopped, and must
//! not be taken from the latter: it asserts when it finds the lock free. So a station takes it only
//! with this evidence, all of which must hold:
//!
//! - For [`STUCK_TIMEOUT`] the lock word, `generation`, `first` and `last` were the same at every
//!   look.
//! - No process can be the owner: see `MappedBy::proves_that_no_owner_lives`. To be an owner takes
//!   a mapping of the file; a process that maps it later finds the lock held, and waits.
//! - No other process makes or repairs the bus: this one holds the byte for that meanwhile.
//!
//! So a station that may not examine some process that could write the bus, as one without
//! privileges beside the system's own processes, leaves the lock to a person: `repair`.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::format::{Field32, Field64};
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::lock::{LockGuard, LockWord};
use crate::memory::{Mapping, Memory as _};
use crate::system::liveness;
use crate::system::proc_maps::mapped_by;

/// How long the lock of an unknown owner is respected in any case.
pub(crate) const STUCK_TIMEOUT: Duration = Duration::from_secs(2);

/// What stands in the header while a lock is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    lock: LockWord,
    generation: u64,
    first: u32,
    last: u32,
}

impl Header {
    /// `None` while the lock is free or its owner known, and on a file that is no bus yet: its maker
    /// may be about to size it.
    fn of(ring: &Ring<Mapping>) -> Option<Self> {
        let lock = ring.lock_word();
        let memory = ring.memory();
        if lock.is_free()
            || lock.owner().is_some()
            || memory.load32(Field32::Magic, Ordering::Relaxed) == 0
        {
            return None;
        }
        Some(Self {
            lock,
            generation: memory.load64(Field64::Generation, Ordering::Relaxed),
            first: memory.load32(Field32::First, Ordering::Relaxed),
            last: memory.load32(Field32::Last, Ordering::Relaxed),
        })
    }
}

/// The looks of one station at a lock of an unknown owner.
#[derive(Debug, Default)]
pub(crate) struct StuckLock(Option<Stuck>);

#[derive(Debug)]
struct Stuck {
    header: Header,
    since: Instant,
    /// When the evidence is searched for next: that takes milliseconds.
    next_search: Instant,
}

impl Stuck {
    fn new(header: Header, since: Instant) -> Self {
        Self { header, since, next_search: since + STUCK_TIMEOUT }
    }
}

impl StuckLock {
    /// The first look, by a station that found the lock held at the time `since`.
    pub(crate) fn seen_at(ring: &Ring<Mapping>, since: Instant) -> Self {
        Self(Header::of(ring).map(|header| Stuck::new(header, since)))
    }

    /// Looks at the lock. When its unknown owner is proven to be gone, repairs the ring, passes the
    /// lock to `then`, and returns `true`. `file` is the open bus.
    pub(crate) fn free<'r>(
        &mut self,
        ring: &'r Ring<Mapping>,
        file: &File,
        then: impl FnOnce(LockGuard<'r, Mapping>),
    ) -> bool {
        let Some(header) = Header::of(ring) else {
            self.0 = None;
            return false;
        };
        let now = Instant::now();
        let stuck = match &mut self.0 {
            Some(stuck) if stuck.header == header => stuck,
            other => other.insert(Stuck::new(header, now)),
        };
        if now < stuck.next_search {
            return false;
        }
        stuck.next_search = now + STUCK_TIMEOUT;
        let is_gone = mapped_by(ring.memory().address(), file)
            .is_ok_and(|found| found.proves_that_no_owner_lives(file));
        // Of several stations that come to this, one repairs the ring.
        if !is_gone || !matches!(liveness::try_lock_making(file), Ok(true)) {
            return false;
        }
        let unchanged = Header::of(ring) == Some(header);
        let held = if unchanged { ring.seize(header.lock).ok() } else { None };
        let freed = held.is_some();
        if let Some(mut held) = held {
            let mend = held.mend(true, false);
            then(held);
            let waited = now - stuck.since;
            tracing::warn!(?waited, ?mend, "freed the lock of an unknown owner that lives no more");
        }
        // It ends with the station at the latest.
        let _ = liveness::unlock_making(file);
        freed
    }
}
