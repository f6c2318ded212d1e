//! Buses whose file is removed while they are in use.
//!
//! The stations of such a bus continue, but no other process can join it, and a bus made under the
//! same name is another one. The removal is reported once for each bus, however many stations of
//! this process are on it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shmbus::Bus;

/// The time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Decides when to check again whether a bus was removed.
#[derive(Debug)]
pub struct BusRemoval {
    checked: Instant,
}

impl BusRemoval {
    /// Makes a check that is first due in a second.
    #[expect(clippy::new_without_default, reason = "it starts a clock")]
    #[must_use]
    pub fn new() -> Self {
        Self { checked: Instant::now() }
    }

    /// Returns whether a check is due: at most once a second. Call it in every round of a loop.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.checked) >= CHECK_INTERVAL;
        if due {
            self.checked = now;
        }
        due
    }

    /// Returns the line to report when the file of `bus` was removed and this process has not
    /// reported that yet.
    #[must_use]
    pub fn report_once(bus: &Bus) -> Option<String> {
        static REPORTED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
        if !bus.is_removed() {
            return None;
        }
        let path = bus.path();
        let new = REPORTED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        new.then(|| {
            format!("{} was removed: no other process can join this bus any more", path.display())
        })
    }
}
