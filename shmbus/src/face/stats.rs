//! What a station has seen and done.

/// Counters of a station or tap, from its making on. What is not counted for it stays 0.
///
/// They lie on cache lines of their own, so that stations on several threads do not slow each other down by counting.
#[repr(align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames handed up.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames handed up and then dropped because a checksum was wrong, by a `phy::Phy` and whoever else says so with
    /// [`Station::count_bad_checksum`](crate::Station::count_bad_checksum).
    pub rx_csum_errors: u64,
    /// Frames put on the bus.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that were not sent because they were too long or too short, with the rest of their burst.
    pub tx_refused: u64,
    /// Frames that were not sent because what was asked to be done for them could not be: see
    /// [`OffloadError`](crate::offload::OffloadError).
    pub tx_offload_refused: u64,
    /// Frames that were not sent because the lock was not to be had in time.
    pub tx_busy: u64,
    /// Frames that were accepted and went nowhere, because the link was down.
    pub tx_link_down: u64,
    /// How often the lock was not free at the first look.
    pub lock_waits: u64,
    /// Wake-ups sent to the other stations: at most one for a burst, fewer with
    /// [`wake_interval`](crate::StationOptions::wake_interval).
    pub wakeups: u64,
    /// How often a wait ended without a sleep because something came while it looked: see [`WaitMode`](crate::WaitMode).
    pub polled: u64,
    /// How often the station slept.
    pub sleeps: u64,
    /// How often it woke by itself and found something there: whoever sent it died before waking the others, or was about
    /// to.
    pub missed_wakeups: u64,
    /// Frames of others that the receive filter kept away.
    pub filtered: u64,
    /// How often writers came around the ring before this reader.
    pub overruns: u64,
    /// Ring bytes (packet headers included) that were missed by it. The format has no sequence numbers, so frames cannot
    /// be counted.
    pub overrun_bytes: u64,
    /// How often something on the ring was no packet.
    pub corrupt: u64,
}
