//! Buses whose file is removed while they are in use. They go on for those who are on them; nobody else can come, and who
//! makes a bus under the same name is alone on it. So it is said: once for each bus, however many stations are on it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shmbus::Bus;

use crate::output;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks now and then whether a bus was removed.
#[derive(Debug)]
pub(crate) struct Removal {
    looked: Instant,
}

impl Removal {
    pub(crate) fn new() -> Self {
        Self { looked: Instant::now() }
    }

    /// Whether it is time to look again. Call it in every round of a loop.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.looked) >= INTERVAL;
        if due {
            self.looked = now;
        }
        due
    }
}

/// Says that `bus` was removed, if it was and nobody has said so.
pub(crate) fn tell(bus: &Bus) {
    news(bus).iter().for_each(output::warn);
}

/// What there is to say, for those who say it in their own way.
pub(crate) fn news(bus: &Bus) -> Option<String> {
    static TOLD: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);
    if !bus.is_removed() {
        return None;
    }
    let path = bus.path();
    let new = TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    new.then(|| format!("{} was removed: nobody else can come onto this bus any more", path.display()))
}
