//! Where a dump without `-f` stops.
//!
//! It stops behind the packet that was the newest when it began. That packet may be missing,
//! overwritten meanwhile or empty: then the dump stops where the bus has nothing more, or, on a bus
//! where others send all the time, after a whole ring.

use std::time::{Duration, Instant};

use shmbus::{BusState, Frame};

/// Bytes of a packet's header, which lies before its frame.
const PACKET_HEADER: u32 = 24;

/// How long there must be nothing to read. A writer in the middle of a commit can make it look so
/// for an instant.
const QUIET: Duration = Duration::from_millis(2);
/// The same while the bus is locked; a tap reads past an abandoned lock after 100 ms.
const QUIET_WHILE_LOCKED: Duration = Duration::from_millis(300);

/// The end of the part of the ring that is dumped.
pub(super) struct StopAt {
    /// Ring offset of the newest frame.
    newest: u32,
    /// Bytes of the ring that are left at most.
    bytes: u64,
    quiet_since: Option<Instant>,
}

impl StopAt {
    /// Returns the end of what is on the bus now.
    pub(super) fn of(state: &BusState) -> Self {
        let newest = state.last.wrapping_add(PACKET_HEADER) % state.ring_size;
        Self { newest, bytes: state.ring_size.into(), quiet_since: None }
    }

    /// Takes a dumped frame, and returns whether it is the last.
    pub(super) fn is_reached_by(&mut self, frame: &Frame<'_>) -> bool {
        self.quiet_since = None;
        self.skip(u64::from(PACKET_HEADER) + frame.bytes.len() as u64);
        frame.info.offset == self.newest || self.bytes == 0
    }

    /// Counts bytes of the ring that went by.
    pub(super) fn skip(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Notes that there was nothing to read, and returns whether that has lasted long enough to
    /// mean the end.
    pub(super) fn is_reached_in_silence(&mut self, state: &BusState) -> bool {
        let quiet = if state.locked { QUIET_WHILE_LOCKED } else { QUIET };
        self.quiet_since.get_or_insert_with(Instant::now).elapsed() >= quiet
    }
}
