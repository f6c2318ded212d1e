//! `struct shmbus_stats`, which later versions may make longer.

/// Counters, for C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "they are those of `shmbus::Stats`, by name")]
pub struct Stats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_refused: u64,
    pub tx_busy: u64,
    pub lock_waits: u64,
    pub wakeups: u64,
    pub wakeups_failed: u64,
    pub sleeps: u64,
    pub missed_wakeups: u64,
    pub filtered: u64,
    pub overruns: u64,
    pub overrun_bytes: u64,
    pub overrun_frames: u64,
    pub corrupt: u64,
}

impl From<shmbus::Stats> for Stats {
    fn from(stats: shmbus::Stats) -> Self {
        Self {
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            tx_refused: stats.tx_refused,
            tx_busy: stats.tx_busy,
            lock_waits: stats.lock_waits,
            wakeups: stats.wakeups,
            wakeups_failed: stats.wakeups_failed,
            sleeps: stats.sleeps,
            missed_wakeups: stats.missed_wakeups,
            filtered: stats.filtered,
            overruns: stats.overruns,
            overrun_bytes: stats.overrun_bytes,
            overrun_frames: stats.overrun_frames,
            corrupt: stats.corrupt,
        }
    }
}
