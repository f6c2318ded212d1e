//! Where ports and nodes report what a user should know.

use std::fmt;
use std::sync::Arc;

/// How serious a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something happened: a peer was rejected, a capture was played to its end.
    Note,
    /// Something does not work as well as it should.
    Warning,
}

/// A closure that takes a line.
type Report = dyn Fn(Severity, &str) + Send + Sync;

/// Receives reports, one line each. Clones lead to the same place.
///
/// The closure may be called from any thread of a node. It should not block: the calling thread
/// serves other ports.
///
/// ```
/// let reporter = port::Reporter::new(|severity, line| eprintln!("{severity:?}: {line}"));
/// reporter.note("tap tap0: up");
/// ```
#[derive(Clone)]
pub struct Reporter(Arc<Report>);

impl Reporter {
    /// Makes a reporter that calls `report` with each line.
    #[must_use]
    pub fn new(report: impl Fn(Severity, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// Reports that something happened.
    pub fn note(&self, line: &str) {
        (self.0)(Severity::Note, line);
    }

    /// Reports that something does not work as well as it should.
    pub fn warn(&self, line: &str) {
        (self.0)(Severity::Warning, line);
    }
}

impl Default for Reporter {
    /// Makes a reporter that logs with `tracing`: notes as `info`, warnings as `warn`.
    fn default() -> Self {
        Self::new(|severity, line| match severity {
            Severity::Note => tracing::info!("{line}"),
            Severity::Warning => tracing::warn!("{line}"),
        })
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reporter").finish_non_exhaustive()
    }
}
