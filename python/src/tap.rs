//! Taps.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use shmbus::WaitError;

use crate::bus::open_read_only;
use crate::error::{open_error, wait_error};
use crate::frames::Received;
use crate::owned::Owned;
use crate::receiver::Receiver;
use crate::sleep::Sleep;
use crate::source::{READS, Source};
use crate::stats::stats;

/// Sees every frame on a bus, and changes nothing: it needs only permission to read.
///
/// Begins with what is sent from now on, or with the oldest frame still on the bus.
#[pyclass(module = "shmlan", frozen, extends = Receiver)]
pub(crate) struct Tap {
    tapped: Arc<Owned<Tapped>>,
    path: PathBuf,
}

/// A tap with the place where it sleeps.
struct Tapped {
    tap: shmbus::Tap,
    sleep: Sleep,
}

impl Source for Tapped {
    fn receive(&mut self, received: &mut Received, max: usize) -> PyResult<()> {
        for _ in 0..READS {
            let left = max - received.len();
            if left == 0 || self.tap.recv_into(received, left) == 0 {
                break;
            }
        }
        let bus = self.tap.bus();
        if received.len() == 0 && bus.is_lost() {
            return Err(wait_error(&WaitError::Lost { path: bus.path().to_owned() }));
        }
        Ok(())
    }

    fn arm(&mut self) -> PyResult<bool> {
        self.tap.arm().map_err(|error| wait_error(&error))
    }

    fn disarm(&mut self) {
        self.sleep.end();
        self.tap.disarm();
    }

    fn sleep_limit(&self) -> Duration {
        self.sleep.limit()
    }

    fn descriptor(&self) -> &Arc<OwnedFd> {
        self.sleep.descriptor()
    }
}

#[pymethods]
impl Tap {
    #[new]
    #[pyo3(signature = (path, *, oldest=false))]
    fn new(py: Python<'_>, path: PathBuf, oldest: bool) -> PyResult<PyClassInitializer<Self>> {
        let tapped = py.detach(|| {
            let bus = open_read_only(&path)?;
            let tap = if oldest { shmbus::Tap::oldest(bus) } else { shmbus::Tap::new(bus) };
            let mut tap = tap.map_err(|error| open_error(&error))?;
            let sleep = Sleep::new()?;
            tap.join_wait_set(sleep.wait_set(), 0);
            PyResult::Ok(Arc::new(Owned::new("the tap", Tapped { tap, sleep })))
        })?;
        let receiver = Receiver::new(Arc::clone(&tapped) as _);
        Ok(PyClassInitializer::from(receiver).add_subclass(Self { tapped, path }))
    }

    /// The path of the bus.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Whether the bus file has no name any more.
    #[getter]
    fn removed(&self, py: Python<'_>) -> PyResult<bool> {
        self.tapped.with(py, |tapped| Ok(tapped.tap.bus().is_removed()))
    }

    /// Returns what the tap has counted since it was made.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        stats(py, &self.tapped.with(py, |tapped| Ok(tapped.tap.stats()))?)
    }

    fn __repr__(&self) -> String {
        format!("<shmlan.Tap on {}>", self.path.display())
    }
}
