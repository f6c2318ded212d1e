//! Buses whose file is removed while they are in use.
//!
//! Their stations continue, but no other process can join, and a bus made under the same name is another one. So it is
//! reported: once for each bus, however many stations of this process are on it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shmbus::Bus;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(1);

/// Says when it is time to look again whether a bus was removed.
#[derive(Debug)]
pub struct BusRemoval {
    looked: Instant,
}

impl BusRemoval {
    /// Makes one that is due in a second.
    #[expect(clippy::new_without_default, reason = "it starts a clock")]
    #[must_use]
    pub fn new() -> Self {
        Self { looked: Instant::now() }
    }

    /// Returns whether it is time to look, at most once a second. Call it in every round of a loop.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.looked) >= INTERVAL;
        if due {
            self.looked = now;
        }
        due
    }

    /// Returns what to report of `bus`, when its file was removed and this process has not reported that yet.
    #[must_use]
    pub fn report_once(bus: &Bus) -> Option<String> {
        static REPORTED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
        if !bus.is_removed() {
            return None;
        }
        let path = bus.path();
        let new = REPORTED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        new.then(|| format!("{} was removed: no other process can join this bus any more", path.display()))
    }
}
