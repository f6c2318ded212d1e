//! Timeouts as Python gives them: seconds, or `None` for no limit.

use std::time::{Duration, Instant};

use pyo3::PyResult;

use crate::error::value_error;

/// Returns a span of time of `seconds`.
pub(crate) fn span(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| value_error(format!("{seconds} is no time in seconds: {error}")))
}

/// When a call stops waiting.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// The end of a timeout that begins now; `None` has no end.
    pub(crate) fn after(timeout: Option<f64>) -> PyResult<Self> {
        let end = timeout.map(span).transpose()?;
        // What is too far away for the clock has no end.
        Ok(Self(end.and_then(|time| Instant::now().checked_add(time))))
    }

    /// How much is left, at most `limit`.
    pub(crate) fn left(self, limit: Duration) -> Duration {
        self.0.map_or(limit, |end| end.saturating_duration_since(Instant::now()).min(limit))
    }

    /// Whether the time is over.
    pub(crate) fn is_over(self) -> bool {
        self.0.is_some_and(|end| end <= Instant::now())
    }
}
