//! The base class of all that frames are received from.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::error::value_error;
use crate::frames::Received;
use crate::source::{AnySource, receive};
use crate::time::Deadline;

/// What frames are received from: a Station, a Tap or a Memif.
///
/// Threads may share one: while one of them waits for frames, others may send. A with statement
/// closes it. After that its methods raise ValueError.
///
/// Timeouts are in seconds. None waits without limit, and 0 not at all. ^C ends a wait.
#[pyclass(module = "shmlan", frozen, subclass)]
pub(crate) struct Receiver {
    source: Arc<dyn AnySource>,
    /// The memory of bursts, while no call uses it.
    spare: Mutex<Received>,
}

impl Receiver {
    pub(crate) fn new(source: Arc<dyn AnySource>) -> Self {
        Self { source, spare: Mutex::default() }
    }

    /// Receives frames and passes them to `convert`.
    fn receive<R>(
        &self,
        py: Python<'_>,
        max: usize,
        timeout: Option<f64>,
        convert: impl FnOnce(&Received) -> PyResult<R>,
    ) -> PyResult<R> {
        let deadline = Deadline::after(timeout)?;
        if max == 0 {
            return Err(value_error("max_frames must be 1 or more"));
        }
        // The lock is not held while Python code may run: that may be another call of this. One that
        // comes meanwhile finds no memory, and gets its own.
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = std::mem::take(&mut *spare());
        let result = receive(py, &*self.source, &mut received, max, deadline);
        let result = result.and_then(|()| convert(&received));
        *spare() = received;
        result
    }
}

#[pymethods]
impl Receiver {
    /// Receives one frame. It begins with the destination address and has no check sequence.
    ///
    /// Raises TimeoutError when none came in time.
    #[pyo3(signature = (timeout=None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let frame = self.receive(py, 1, timeout, |received| Ok(received.first(py)))?;
        frame.ok_or_else(|| PyTimeoutError::new_err("no frame came in time"))
    }

    /// Receives the frames that are there, at most max_frames, and waits for the first of them.
    ///
    /// Returns an empty list when none came in time. A burst costs far less for each frame than
    /// recv.
    #[pyo3(signature = (max_frames=256, timeout=None))]
    fn recv_burst<'py>(
        &self,
        py: Python<'py>,
        max_frames: usize,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        self.receive(py, max_frames, timeout, |received| received.list(py))
    }

    /// As recv_burst, with pairs of time and frame.
    ///
    /// The time is when the frame was sent, in seconds since 1970. Rump kernels send their uptime.
    /// With memif it is when the frame was received.
    #[pyo3(signature = (max_frames=256, timeout=None))]
    fn recv_stamped<'py>(
        &self,
        py: Python<'py>,
        max_frames: usize,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        self.receive(py, max_frames, timeout, |received| received.stamped_list(py))
    }

    /// Returns the descriptor to poll for reading between arm and disarm. It stays the same until
    /// close. Otherwise it says nothing.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        py.detach(|| self.source.fileno())
    }

    /// Prepares for a sleep on fileno.
    ///
    /// Returns True when there is something to receive already: do not sleep then. Otherwise poll
    /// the descriptor for reading, for sleep_limit seconds at most; then call disarm, and receive
    /// with a timeout of 0. The module shmlan.aio does this for asyncio.
    fn arm(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.source.arm())
    }

    /// Ends a sleep.
    fn disarm(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.source.disarm())
    }

    /// The longest sleep between arm and disarm, in seconds: a sender may die before it wakes
    /// others.
    #[getter]
    fn sleep_limit(&self, py: Python<'_>) -> PyResult<f64> {
        py.detach(|| self.source.sleep_limit()).map(|limit| limit.as_secs_f64())
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        py.detach(|| !self.source.is_open())
    }

    /// Closes it: a station leaves its bus, a memif link goes down. A thread that waits for frames
    /// then raises ValueError. Closing again does nothing.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.source.close());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }
}
