//! Counters, by name.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Returns the counters of a station or tap by name.
pub(crate) fn stats<'py>(py: Python<'py>, stats: &shmbus::Stats) -> PyResult<Bound<'py, PyDict>> {
    let counters = [
        ("rx_packets", stats.rx_packets),
        ("rx_bytes", stats.rx_bytes),
        ("tx_packets", stats.tx_packets),
        ("tx_bytes", stats.tx_bytes),
        ("tx_refused", stats.tx_refused),
        ("tx_busy", stats.tx_busy),
        ("tx_link_down", stats.tx_link_down),
        ("tx_vlan_refused", stats.tx_vlan_refused),
        ("lock_waits", stats.lock_waits),
        ("wakeups", stats.wakeups),
        ("wakeups_failed", stats.wakeups_failed),
        ("filtered", stats.filtered),
        ("overruns", stats.overruns),
        ("overrun_bytes", stats.overrun_bytes),
        ("overrun_frames", stats.overrun_frames),
        ("corrupt", stats.corrupt),
        ("stray_wakeups", stats.stray_wakeups),
    ];
    let dict = PyDict::new(py);
    for (name, count) in counters {
        dict.set_item(name, count)?;
    }
    Ok(dict)
}
