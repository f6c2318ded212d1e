//! Where a station or tap sleeps.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pyo3::PyResult;
use pyo3::exceptions::PyOSError;
use shmbus::WaitSet;

use crate::error::system_error;

/// A wait set of one station or tap.
pub(crate) struct Sleep {
    wait_set: WaitSet,
    /// What the wait set polls. A thread that sleeps shares it, so it stays open meanwhile.
    descriptor: Arc<OwnedFd>,
}

impl Sleep {
    pub(crate) fn new() -> PyResult<Self> {
        let wait_set = WaitSet::new();
        let Some(descriptor) = wait_set.poll_fd() else {
            let text = "no descriptor to wait with is available: raise the limit of open files";
            return Err(PyOSError::new_err((nix::Error::EMFILE as i32, text)));
        };
        let descriptor = descriptor
            .try_clone_to_owned()
            .map_err(|error| system_error(&error, format!("cannot wait for frames: {error}")))?;
        Ok(Self { wait_set, descriptor: Arc::new(descriptor) })
    }

    /// What the station or tap joins, with any token.
    pub(crate) fn wait_set(&self) -> &WaitSet {
        &self.wait_set
    }

    /// The descriptor to poll.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    /// How long to sleep at most.
    pub(crate) fn limit(&self) -> Duration {
        self.wait_set.timeout()
    }

    /// Forgets what woke it, so that its descriptor is not readable.
    pub(crate) fn end(&self) {
        // There is one member, and the caller looks at it.
        let _ = self.wait_set.ready();
    }
}
