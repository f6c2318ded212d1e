//! Stations.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use macaddr::MacAddr6;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use shmbus::{BusOptions, StationOptions, Vlan, WaitError};

use crate::bus::{open, open_or_create, shown_mac};
use crate::error::{open_error, send_error, value_error, wait_error, wake_error};
use crate::frames::{Outgoing, Received, frame_bytes};
use crate::owned::Owned;
use crate::receiver::Receiver;
use crate::sleep::Sleep;
use crate::source::{READS, Source};
use crate::stats::stats;
use crate::time::span;

/// A station: it sends frames to all others on its bus, and receives those that are meant for it.
///
/// Joins the bus at path. If there is none it is made, for this user only, unless create is False.
/// mac is the station's address, by default a random one, and name its name in the list of members,
/// by default the program's. A promiscuous station receives the frames for others, too. In a VLAN it
/// is an access port: its frames have a tag on the bus, and none here. A send waits for the bus's
/// lock for lock_timeout seconds at most. wake_interval merges the wake-ups of a sustained sender:
/// call flush after the last frame.
#[pyclass(module = "shmlan", frozen, extends = Receiver)]
pub(crate) struct Station {
    joined: Arc<Owned<Joined>>,
    path: PathBuf,
}

/// A station with the place where it sleeps.
struct Joined {
    station: shmbus::Station,
    sleep: Sleep,
}

impl Source for Joined {
    fn receive(&mut self, received: &mut Received, max: usize) -> PyResult<()> {
        for _ in 0..READS {
            let left = max - received.len();
            if left == 0 || self.station.recv_into(received, left) == 0 {
                break;
            }
        }
        let bus = self.station.bus();
        if received.len() == 0 && bus.is_lost() {
            return Err(wait_error(&WaitError::Lost { path: bus.path().to_owned() }));
        }
        Ok(())
    }

    fn arm(&mut self) -> PyResult<bool> {
        self.station.arm().map_err(|error| wait_error(&error))
    }

    fn disarm(&mut self) {
        self.sleep.end();
        self.station.disarm();
    }

    fn sleep_limit(&self) -> Duration {
        self.sleep.limit()
    }

    fn descriptor(&self) -> &Arc<OwnedFd> {
        self.sleep.descriptor()
    }
}

fn parse_mac(text: &str) -> PyResult<MacAddr6> {
    let mac: MacAddr6 = text
        .parse()
        .map_err(|_| value_error(format!("{text:?} is no address like 02:00:00:00:00:01")))?;
    if mac.as_bytes()[0] & 1 == 1 {
        return Err(value_error(format!("{text} is the address of a group, and no station's")));
    }
    Ok(mac)
}

/// The VLAN of an access port.
fn access_vlan(number: u16) -> PyResult<Vlan> {
    Vlan::access(number).ok_or_else(|| value_error(format!("VLAN {number} is not in 1 to 4094")))
}

/// The name of the program that runs, and not that of the interpreter.
fn program_name(py: Python<'_>) -> String {
    let name = || -> PyResult<String> {
        let program: PathBuf = py.import("sys")?.getattr("argv")?.get_item(0)?.extract()?;
        Ok(program.file_name().unwrap_or_default().to_string_lossy().into_owned())
    };
    // An embedded interpreter may have no arguments, and `python -c` has `-c`.
    name()
        .ok()
        .filter(|name| !name.is_empty() && name != "-c")
        .unwrap_or_else(|| "python".to_owned())
}

#[pymethods]
impl Station {
    #[new]
    #[pyo3(signature = (
        path, *, mac=None, name=None, promiscuous=false, vlan=None, lock_timeout=2.0, wake_interval=0.0, create=true
    ))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        mac: Option<&str>,
        name: Option<String>,
        promiscuous: bool,
        vlan: Option<u16>,
        lock_timeout: f64,
        wake_interval: f64,
        create: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        let mut options = StationOptions::new()
            .name(name.unwrap_or_else(|| program_name(py)))
            .promiscuous(promiscuous)
            .lock_timeout(span(lock_timeout)?)
            .wake_interval(span(wake_interval)?);
        if let Some(mac) = mac {
            options = options.mac(parse_mac(mac)?);
        }
        let vlan = vlan.map(access_vlan).transpose()?;
        let joined = py.detach(|| {
            let bus = if create { open_or_create(&path, &BusOptions::new()) } else { open(&path) }?;
            let mut station =
                shmbus::Station::join(bus, options).map_err(|error| open_error(&error))?;
            station.set_vlan(vlan);
            let sleep = Sleep::new()?;
            station.join_wait_set(sleep.wait_set(), 0);
            PyResult::Ok(Arc::new(Owned::new("the station", Joined { station, sleep })))
        })?;
        let receiver = Receiver::new(Arc::clone(&joined) as _);
        Ok(PyClassInitializer::from(receiver).add_subclass(Self { joined, path }))
    }

    /// Sends one frame. It begins with the destination address and has no check sequence.
    ///
    /// Raises BusyError when the bus's lock is not free in time, ValueError when the frame is too
    /// long or too short.
    fn send(&self, py: Python<'_>, frame: &Bound<'_, PyAny>) -> PyResult<()> {
        let frame = frame_bytes(frame)?;
        let bytes = frame.as_bytes();
        self.joined
            .with(py, |joined| joined.station.send(bytes).map_err(|error| send_error(&error)))
    }

    /// Sends frames, in order, and wakes the others once. Returns how many: all of them.
    ///
    /// Raises as send. When the lock is not free in time, BusyError.sent says how many are sent.
    fn send_burst(&self, py: Python<'_>, frames: &Bound<'_, PyAny>) -> PyResult<usize> {
        let burst = Outgoing::collect(frames)?;
        let slices = burst.slices();
        self.joined.with(py, |joined| {
            joined.station.send_burst(&slices).map_err(|error| send_error(&error))
        })
    }

    /// Wakes the other stations now if a wake-up is pending: see wake_interval.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.joined.with(py, |joined| joined.station.flush().map_err(|error| wake_error(&error)))
    }

    /// Skips what is on the bus: the station receives what is sent from now on.
    fn discard_pending(&self, py: Python<'_>) -> PyResult<()> {
        self.joined.with(py, |joined| {
            joined.station.discard_pending();
            Ok(())
        })
    }

    /// The path of the bus.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Whether the bus file has no name any more: no other process can join it.
    #[getter]
    fn removed(&self, py: Python<'_>) -> PyResult<bool> {
        self.joined.with(py, |joined| Ok(joined.station.bus().is_removed()))
    }

    /// The station's address.
    #[getter]
    fn mac(&self, py: Python<'_>) -> PyResult<String> {
        self.joined.with(py, |joined| Ok(shown_mac(joined.station.mac())))
    }

    #[setter]
    fn set_mac(&self, py: Python<'_>, mac: &str) -> PyResult<()> {
        let mac = parse_mac(mac)?;
        self.joined.with(py, |joined| {
            joined.station.set_mac(mac);
            Ok(())
        })
    }

    /// Whether the station receives frames for others, too.
    #[getter]
    fn promiscuous(&self, py: Python<'_>) -> PyResult<bool> {
        self.joined.with(py, |joined| Ok(joined.station.is_promiscuous()))
    }

    #[setter]
    fn set_promiscuous(&self, py: Python<'_>, on: bool) -> PyResult<()> {
        self.joined.with(py, |joined| {
            joined.station.set_promiscuous(on);
            Ok(())
        })
    }

    /// Whether the link is up. While it is down, frames to send are dropped and none is received.
    #[getter]
    fn link_up(&self, py: Python<'_>) -> PyResult<bool> {
        self.joined.with(py, |joined| Ok(joined.station.is_link_up()))
    }

    #[setter]
    fn set_link_up(&self, py: Python<'_>, up: bool) -> PyResult<()> {
        self.joined.with(py, |joined| {
            joined.station.set_link_up(up);
            Ok(())
        })
    }

    /// The largest payload of a frame that the station sends, in bytes.
    #[getter]
    fn mtu(&self, py: Python<'_>) -> PyResult<usize> {
        self.joined.with(py, |joined| Ok(joined.station.mtu()))
    }

    #[setter]
    fn set_mtu(&self, py: Python<'_>, bytes: usize) -> PyResult<()> {
        self.joined.with(py, |joined| {
            if joined.station.set_mtu(bytes) {
                return Ok(());
            }
            Err(value_error(format!("the bus cannot carry an MTU of {bytes} bytes")))
        })
    }

    /// The longest frame that the station sends, in bytes with its Ethernet header.
    #[getter]
    fn max_frame(&self, py: Python<'_>) -> PyResult<usize> {
        self.joined.with(py, |joined| Ok(joined.station.max_frame()))
    }

    /// Returns what the station has counted since it joined.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        stats(py, &self.joined.with(py, |joined| Ok(joined.station.stats()))?)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let who = self.mac(py).unwrap_or_else(|_| "(closed)".to_owned());
        format!("<shmlan.Station {who} on {}>", self.path.display())
    }
}
