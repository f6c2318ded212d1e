//! Waiting for a condition with a deadline. No test sleeps for a fixed time: on a loaded machine
//! any time is too short, and on an idle one it is wasted.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is checked: short compared with what is measured (restarts, in seconds),
/// long compared with the cost of a check.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `found` returns a value, and returns it with the time it took.
///
/// # Errors
/// `None` when `deadline` passed first.
pub fn poll<T>(deadline: Duration, found: impl FnMut() -> Option<T>) -> Option<(T, Duration)> {
    poll_every(POLL_INTERVAL, deadline, found)
}

/// Waits like [`poll`], but checks once per `pause`: for checks that are expensive or verbose.
pub fn poll_every<T>(
    pause: Duration,
    deadline: Duration,
    mut found: impl FnMut() -> Option<T>,
) -> Option<(T, Duration)> {
    let start = Instant::now();
    loop {
        // Read the clock before the check, so that a check after a long stall still counts.
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

/// Waits until `holds` returns true, and returns how long it took.
///
/// # Panics
/// When `deadline` passes first; the message names `what`.
pub fn until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    match poll(deadline, || holds().then_some(())) {
        Some(((), took)) => took,
        None => panic!("waited {deadline:?} in vain: {what}"),
    }
}
