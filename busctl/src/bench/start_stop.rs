//! When an end of a measurement begins and stops: its parent decides, or the user who started it
//! alone.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::cpu::{Meter, Usage};
use crate::output;
use crate::process::shutdown::Shutdown;

/// How one end begins and stops.
#[derive(Debug)]
pub(super) enum StartStop {
    /// It begins with a line on stdin and stops at the end of stdin. The usage until then is
    /// recorded at that moment.
    Parent { stopped: Arc<OnceLock<Usage>> },
    /// It begins at once, and a receiver stops `time` after the first frame.
    User { stop: Shutdown, time: Duration },
}

impl StartStop {
    /// Makes the start and stop of a worker.
    pub(super) fn of_parent() -> Self {
        Self::Parent { stopped: Arc::default() }
    }

    /// Makes the start and stop of an end that a user started.
    pub(super) fn of_user(time: Duration) -> anyhow::Result<Self> {
        Ok(Self::User { stop: Shutdown::on_signals().context("cannot handle signals")?, time })
    }

    /// Reports that this end is ready, and waits for the start. From then on wall time and CPU time
    /// count.
    pub(super) fn wait_for_start(&self) -> anyhow::Result<Meter> {
        let Self::Parent { stopped } = self else { return Meter::start() };
        writeln!(output::stdout(), "ready")?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("cannot read from the parent")?;
        if line.trim() != "go" {
            bail!("the parent is gone");
        }
        let meter = Meter::start()?;
        let (started, stopped) = (meter.clone(), Arc::clone(stopped));
        std::thread::spawn(move || {
            // An error ends the measurement as well.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = stopped.set(started.read());
        });
        Ok(meter)
    }

    /// Returns whether this end is to stop.
    #[inline]
    pub(super) fn is_stopped(&self) -> bool {
        match self {
            Self::Parent { stopped } => stopped.get().is_some(),
            Self::User { stop, .. } => stop.requested(),
        }
    }

    /// Returns how long to receive, when no parent knows when all is sent.
    pub(super) fn time(&self) -> Option<Duration> {
        match self {
            Self::Parent { .. } => None,
            Self::User { time, .. } => Some(*time),
        }
    }

    /// Returns the usage until the stop, or until now.
    pub(super) fn usage(&self, meter: &Meter) -> Usage {
        match self {
            Self::Parent { stopped } => stopped.get().copied(),
            Self::User { .. } => None,
        }
        .unwrap_or_else(|| meter.read())
    }

    /// Waits for the parent to stop this end; returns at once for a user.
    pub(super) fn wait(&self) {
        if let Self::Parent { stopped } = self {
            stopped.wait();
        }
    }
}
