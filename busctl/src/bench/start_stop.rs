//! When an end of a measurement begins and when it stops: its parent says so, or the person who started it alone.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::cpu::{Meter, Usage};
use crate::output;
use crate::process::shutdown::Shutdown;

/// How one end is told to begin and to stop.
#[derive(Debug)]
pub(super) enum StartStop {
    /// By lines on stdin, and by its end. What was used until then is noted at that moment.
    Parent { stopped: Arc<OnceLock<Usage>> },
    /// It begins at once, and a receiver stops some time after the first frame.
    User { stop: Shutdown, time: Duration },
}

impl StartStop {
    /// The start and stop of a worker.
    pub(super) fn of_parent() -> Self {
        Self::Parent { stopped: Arc::default() }
    }

    /// The start and stop of one that is started alone.
    pub(super) fn of_user(time: Duration) -> anyhow::Result<Self> {
        Ok(Self::User { stop: Shutdown::on_signals().context("cannot handle signals")?, time })
    }

    /// Says that all is ready, and waits to be let go. From then on the time and the processor's time count.
    pub(super) fn wait_for_start(&self) -> anyhow::Result<Meter> {
        let Self::Parent { stopped } = self else { return Meter::start() };
        writeln!(output::stdout(), "ready")?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("cannot read from the parent")?;
        if line.trim() != "go" {
            bail!("the parent is gone");
        }
        let meter = Meter::start()?;
        let (begun, stopped) = (meter.clone(), Arc::clone(stopped));
        std::thread::spawn(move || {
            // An error is an end as well.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = stopped.set(begun.read());
        });
        Ok(meter)
    }

    /// Whether it was told to stop.
    #[inline]
    pub(super) fn is_stopped(&self) -> bool {
        match self {
            Self::Parent { stopped } => stopped.get().is_some(),
            Self::User { stop, .. } => stop.requested(),
        }
    }

    /// How long to receive, where nobody else knows when all is sent.
    pub(super) fn time(&self) -> Option<Duration> {
        match self {
            Self::Parent { .. } => None,
            Self::User { time, .. } => Some(*time),
        }
    }

    /// What was used until it was told to stop, or until now.
    pub(super) fn usage(&self, meter: &Meter) -> Usage {
        match self {
            Self::Parent { stopped } => stopped.get().copied(),
            Self::User { .. } => None,
        }
        .unwrap_or_else(|| meter.read())
    }

    /// Waits until nothing is wanted of it any more; a person wants nothing.
    pub(super) fn wait(&self) {
        if let Self::Parent { stopped } = self {
            stopped.wait();
        }
    }
}
