//! A verb that serves until it is stopped, as those see it who wait for it: the process that
//! started it with `--detach`, and a supervisor such as systemd.

use std::io;
use std::time::Duration;

use crate::detached::Detached;
use crate::process::sd_notify::SdNotify;

/// Made by [`Context::service`](crate::context::Context::service).
#[derive(Debug)]
pub(crate) struct Service<'c> {
    detached: Option<&'c Detached>,
    sd_notify: SdNotify,
}

impl<'c> Service<'c> {
    /// Begins; the verb is not ready yet.
    pub(crate) fn begin(detached: Option<&'c Detached>) -> Self {
        Self { detached, sd_notify: SdNotify::from_environment() }
    }

    /// Reports that the verb can be used. Call it when all is open and served, and print `ready`
    /// afterwards: what a detached process printed before is shown where it was started.
    ///
    /// # Errors
    /// When this process is detached, and the one that started it is gone.
    pub(crate) fn ready(&self) -> io::Result<()> {
        if let Some(detached) = self.detached {
            // The process that started this one notifies the supervisor, which knows only that one.
            return detached.ready();
        }
        self.sd_notify.ready();
        Ok(())
    }

    /// Reports that the verb is alive, if each of `beats` has changed since the last report. Call
    /// it often: a supervisor may kill a process that does not report.
    pub(crate) fn alive(&mut self, beats: impl FnOnce() -> Vec<u64>) {
        self.sd_notify.alive(beats);
    }

    /// Returns how long, at most, the verb may sleep now: `longest`, or until the next report to a
    /// watchdog is due.
    pub(crate) fn longest_sleep(&self, longest: Duration) -> Duration {
        self.sd_notify.due_in().map_or(longest, |due| due.min(longest))
    }

    /// Reports that the verb is about to end.
    pub(crate) fn stopping(&self) {
        self.sd_notify.stopping();
    }
}
