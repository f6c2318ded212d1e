//! What a station has seen and done.

use crate::format::{MAX_FRAME, PACKET_HEADER_SIZE};
use crate::mechanism::reading::Counts;

/// Counters of a station or tap, since it was made. A counter that does not apply to it stays 0.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("bus");
/// use shmbus::{Bus, Station, StationOptions};
///
/// let mut station = Station::join(Bus::open_or_create(&path, 0o600)?, StationOptions::new())?;
/// station.send(&[0xff; 60])?;
/// let stats = station.stats();
/// assert_eq!((stats.tx_packets, stats.tx_bytes, stats.wakeups), (1, 60, 1));
/// # Ok(())
/// # }
/// ```
///
/// The counters lie on cache lines of their own, so that stations on several threads do not slow
/// each other down by counting.
#[repr(align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames handed up.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames handed up and then dropped because a checksum was wrong: counted by a `phy::Phy`, and
    /// by any other user with [`Station::count_bad_checksum`](crate::Station::count_bad_checksum).
    pub rx_csum_errors: u64,
    /// Frames put on the bus.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames that were not sent because they were too long or too short, and the rest of their
    /// bursts.
    pub tx_refused: u64,
    /// Frames that were not sent because the work left to the station could not be done: see
    /// [`OffloadError`](crate::offload::OffloadError).
    pub tx_offload_refused: u64,
    /// Frames that were not sent because the lock was not free in time.
    pub tx_busy: u64,
    /// Frames that were accepted and dropped, because the link was down.
    pub tx_link_down: u64,
    /// Frames that were accepted and dropped, because they are not in the station's
    /// [VLAN](crate::Station::set_vlan).
    pub tx_vlan_refused: u64,
    /// How often the lock was not free at the first look.
    pub lock_waits: u64,
    /// Wake-ups sent to the other stations: at most one for a burst, fewer with
    /// [`wake_interval`](crate::StationOptions::wake_interval).
    pub wakeups: u64,
    /// Wake-ups that failed; each is repeated until it is sent.
    pub wakeups_failed: u64,
    /// How often a wait ended without a sleep because a frame came while it polled: see
    /// [`WaitMode`](crate::WaitMode).
    pub polled: u64,
    /// How often the station slept.
    pub sleeps: u64,
    /// How often a sleep timed out and there was something to read: the sender died before its
    /// wake-up, or was about to send it.
    pub missed_wakeups: u64,
    /// Frames of others that its addresses, learned ones or its VLAN kept away. Those that it slept through
    /// do not count.
    pub filtered: u64,
    /// How often writers came around the ring before this reader.
    pub overruns: u64,
    /// Ring bytes (packet headers included) that the reader missed by that.
    pub overrun_bytes: u64,
    /// Frames that the reader missed by that: an estimate, from the bytes and the mean length of the
    /// frames that it received before, or the greatest length while there were none.
    pub overrun_frames: u64,
    /// How often something on the ring was no packet.
    pub corrupt: u64,
    /// How often a wake-up of a rump kernel overwrote the generation in the header, which two of its
    /// threads do that wake at the same moment. The frames are whole; a station that sends or
    /// receives puts the generation right.
    pub stray_wakeups: u64,
}

impl Stats {
    /// Adds what a shared reading counted.
    pub(crate) fn add(&mut self, counts: Counts) {
        self.filtered += counts.filtered;
        self.overruns += counts.overruns;
        self.add_overrun_bytes(counts.overrun_bytes);
        self.corrupt += counts.corrupt;
        self.stray_wakeups += counts.stray_wakeups;
    }

    /// Counts an overrun that cost this many bytes of the ring.
    pub(crate) fn add_overrun(&mut self, bytes: u64) {
        self.overruns += 1;
        self.add_overrun_bytes(bytes);
    }

    fn add_overrun_bytes(&mut self, bytes: u64) {
        self.overrun_bytes = self.overrun_bytes.saturating_add(bytes);
        let header = u64::from(PACKET_HEADER_SIZE);
        let packet = match self.rx_bytes.checked_div(self.rx_packets) {
            Some(mean) => mean + header,
            None => MAX_FRAME as u64 + header,
        };
        self.overrun_frames = self.overrun_frames.saturating_add(bytes.div_ceil(packet));
    }
}
