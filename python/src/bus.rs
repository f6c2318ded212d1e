//! Buses: made, and looked at.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use shmbus::BusOptions;

use crate::error::{open_error, system_error, wait_error};
use crate::owned::Owned;

/// A bus file, made or looked at.
///
/// Opens the bus at path to look at it. With create it is made first if there is none, with exactly
/// the permission bits mode. A bus of another size than 1 MiB, or without shmif, is for stations of
/// this kind only, and carries frames of up to 9,216 bytes; rump kernels cannot share it.
///
/// A Bus is a path: pass it to Station and Tap. Closing it closes none of them, and leaves the file.
#[pyclass(module = "shmlan", frozen)]
pub(crate) struct Bus {
    opened: Owned<shmbus::Bus>,
    path: PathBuf,
    size: u64,
    max_frame: usize,
    shmif: bool,
}

/// A station on a bus, as it describes itself. Any process that may write the bus can leave such
/// notes: they are for people to read.
#[pyclass(module = "shmlan", frozen, get_all)]
pub(crate) struct Member {
    /// The number of its process, in its own pid namespace.
    pid: u32,
    /// Its address.
    mac: String,
    /// Its name.
    name: String,
    /// Whether it is the station of a port, which joins the bus to another network.
    joins: bool,
}

#[pymethods]
impl Member {
    fn __repr__(&self) -> String {
        let Self { pid, mac, name, .. } = self;
        format!("<shmlan.Member {mac} {name:?}, process {pid}>")
    }
}

/// Opens a bus for a station or to make it; makes it first if there is none.
pub(crate) fn open_or_create(path: &Path, options: &BusOptions) -> PyResult<shmbus::Bus> {
    survive_truncation()?;
    options.open_or_create(path).map_err(|error| open_error(&error))
}

/// Opens a bus for a station.
pub(crate) fn open(path: &Path) -> PyResult<shmbus::Bus> {
    survive_truncation()?;
    shmbus::Bus::open(path).map_err(|error| open_error(&error))
}

/// Opens a bus for reading only.
pub(crate) fn open_read_only(path: &Path) -> PyResult<shmbus::Bus> {
    survive_truncation()?;
    shmbus::Bus::open_read_only(path).map_err(|error| open_error(&error))
}

/// A file that is cut short while it is mapped raises an exception, and does not kill the
/// interpreter.
pub(crate) fn survive_truncation() -> PyResult<()> {
    shmbus::survive_truncation().map_err(|error| {
        system_error(&error, format!("cannot install the handler that survives cut files: {error}"))
    })
}

/// Returns an address as text.
pub(crate) fn shown_mac(mac: shmbus::MacAddr6) -> String {
    mac.to_string().to_lowercase()
}

#[pymethods]
impl Bus {
    #[new]
    #[pyo3(signature = (path, *, create=false, mode=0o600, size=1_048_576, shmif=true))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        create: bool,
        mode: u32,
        size: u64,
        shmif: bool,
    ) -> PyResult<Self> {
        // Absolute, so that it stays the path of the bus when the process changes its folder.
        let path = std::path::absolute(&path).unwrap_or(path);
        let options = BusOptions::new().mode(mode).size(size).shmif(shmif);
        let bus = py.detach(|| {
            if create { open_or_create(&path, &options) } else { open_read_only(&path) }
        })?;
        let (size, max_frame, shmif) = (bus.size(), bus.max_frame(), bus.is_shmif());
        Ok(Self { opened: Owned::new("the bus", bus), path, size, max_frame, shmif })
    }

    /// The path, absolute.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn __fspath__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        Ok(self.path.as_os_str().into_pyobject(py)?)
    }

    /// The size of the file, in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.size
    }

    /// The longest frame that the bus carries, in bytes with its Ethernet header.
    #[getter]
    fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Whether rump kernels can share the bus.
    #[getter]
    fn shmif(&self) -> bool {
        self.shmif
    }

    /// Whether the file has no name any more. Those that have it open continue on it; a bus that is
    /// made under the name is another one.
    #[getter]
    fn removed(&self, py: Python<'_>) -> PyResult<bool> {
        self.opened.with(py, |bus| Ok(bus.is_removed()))
    }

    /// Returns how many stations are on the bus, in all processes. Rump kernels do not count.
    fn stations(&self, py: Python<'_>) -> PyResult<usize> {
        self.opened.with(py, |bus| {
            let path = bus.path().to_owned();
            bus.stations().map_err(|source| wait_error(&shmbus::WaitError::Watch { path, source }))
        })
    }

    /// Returns the notes that the stations on the bus left of themselves.
    fn members(&self, py: Python<'_>) -> PyResult<Vec<Member>> {
        let members = self.opened.with(py, |bus| Ok(bus.members()))?;
        let member = |member: shmbus::Member| Member {
            pid: member.pid,
            mac: shown_mac(member.mac),
            name: member.name,
            joins: member.joins,
        };
        Ok(members.into_iter().map(member).collect())
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        py.detach(|| !self.opened.is_open())
    }

    /// Closes it. The path can still be used.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.opened.close());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<shmlan.Bus {}>", self.path.display())
    }
}
