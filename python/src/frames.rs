//! Frames on their way between Python and the libraries.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyBytesMethods, PyList, PyMemoryView};
use shmbus::{FrameSink, RingFrame};

/// For as many frames of a burst there is room from the start.
const USUAL_BURST: usize = 1_024;

/// Returns the bytes of a frame that the caller sends.
///
/// An object of type `bytes` never changes, so its bytes can be read while the interpreter runs
/// other threads. The bytes of other objects are copied.
pub(crate) fn frame_bytes<'py>(frame: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = frame.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    Ok(PyMemoryView::from(frame)?.call_method0("tobytes")?.cast_into()?)
}

/// The frames of a burst that the caller sends.
pub(crate) struct Outgoing<'py>(Vec<Bound<'py, PyBytes>>);

impl<'py> Outgoing<'py> {
    /// Collects the frames of anything that can be iterated over.
    pub(crate) fn collect(frames: &Bound<'py, PyAny>) -> PyResult<Self> {
        // What an object says of its length may be anything.
        let mut burst = Vec::with_capacity(frames.len().unwrap_or(0).min(USUAL_BURST));
        for frame in frames.try_iter()? {
            burst.push(frame_bytes(&frame?)?);
        }
        Ok(Self(burst))
    }

    /// Returns the frames' bytes.
    pub(crate) fn slices(&self) -> Vec<&[u8]> {
        self.0.iter().map(PyBytesMethods::as_bytes).collect()
    }
}

/// Received frames, in memory of their receiver. The memory is kept from burst to burst.
#[derive(Default)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    /// Bytes taken so far.
    filled: usize,
    /// Frames known to be whole.
    whole: usize,
}

struct Frame {
    start: usize,
    len: usize,
    /// In seconds since 1970, by the clock of the sender.
    time: f64,
}

impl Received {
    /// Returns how many frames there are.
    pub(crate) fn len(&self) -> usize {
        self.whole
    }

    /// Removes the frames.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.filled = 0;
        self.whole = 0;
    }

    /// Adds a frame of up to `len` bytes, which `copy` writes; it returns how many they are.
    pub(crate) fn add(&mut self, len: usize, time: f64, copy: impl FnOnce(&mut [u8]) -> usize) {
        let (start, end) = (self.filled, self.filled + len);
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        let len = copy(&mut self.bytes[start..end]).min(len);
        self.frames.push(Frame { start, len, time });
        self.filled += len;
    }

    fn iter<'py>(
        &self,
        py: Python<'py>,
    ) -> impl ExactSizeIterator<Item = (f64, Bound<'py, PyBytes>)> {
        self.frames[..self.whole].iter().map(move |frame| {
            (frame.time, PyBytes::new(py, &self.bytes[frame.start..frame.start + frame.len]))
        })
    }

    /// Returns the oldest frame.
    pub(crate) fn first<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.iter(py).next().map(|(_, frame)| frame)
    }

    /// Returns the frames, oldest first.
    pub(crate) fn list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.iter(py).map(|(_, frame)| frame))
    }

    /// Returns the frames, oldest first, each with its time.
    pub(crate) fn stamped_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.iter(py))
    }
}

impl FrameSink for Received {
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        let info = frame.info();
        let time = f64::from(info.seconds) + f64::from(info.microseconds) / 1e6;
        self.add(frame.len(), time, |room| frame.copy_to(room));
        true
    }

    fn commit(&mut self) {
        self.whole = self.frames.len();
    }

    fn discard(&mut self) {
        self.frames.truncate(self.whole);
        self.filled = self.frames.last().map_or(0, |frame| frame.start + frame.len);
    }
}
