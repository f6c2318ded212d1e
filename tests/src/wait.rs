//! Waiting for a condition with a deadline. No test waits for a time: a machine under load makes any time too short, and an
//! idle one makes it a waste.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at. Short against what is measured (restarts, in seconds), long against a look's cost.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `found` gives a value, and returns it with the time that took.
///
/// # Errors
/// `None` when `deadline` passed first.
pub fn poll<T>(deadline: Duration, found: impl FnMut() -> Option<T>) -> Option<(T, Duration)> {
    poll_every(POLL_INTERVAL, deadline, found)
}

/// As [`poll`], looking less often: for looks that cost or say a lot.
pub fn poll_every<T>(
    pause: Duration,
    deadline: Duration,
    mut found: impl FnMut() -> Option<T>,
) -> Option<(T, Duration)> {
    let start = Instant::now();
    loop {
        // The clock is read before the look, so that a look that happens after a long stall still counts.
        let late = start.elapsed() >= deadline;
        if let Some(value) = found() {
            return Some((value, start.elapsed()));
        }
        if late {
            return None;
        }
        sleep(pause);
    }
}

/// Waits until `holds` and returns how long that took.
///
/// # Panics
/// When `deadline` passes first; the message names `what`.
pub fn until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    match poll(deadline, || holds().then_some(())) {
        Some(((), took)) => took,
        None => panic!("waited {deadline:?} in vain: {what}"),
    }
}
