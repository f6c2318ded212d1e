//! Where a dump ends that does not go on with what comes.
//!
//! It ends behind the packet that was the newest when it began. That one may be missing, overwritten meanwhile or empty: then
//! it ends where the bus has nothing more, or, on a bus where others send all the time, after a whole ring.

use std::time::{Duration, Instant};

use shmbus::{BusState, Frame};

/// Bytes of a packet's header, which lies before its frame.
const PACKET_HEADER: u32 = 24;

/// How long there must be nothing to read. A writer at work can make it look so for an instant.
const QUIET: Duration = Duration::from_millis(2);
/// The same while somebody holds the lock; a tap looks past one that was left behind after 100 ms.
const QUIET_WHILE_LOCKED: Duration = Duration::from_millis(300);

/// The part of the ring to be dumped.
pub(super) struct Bounds {
    /// Ring offset of the newest frame.
    newest: u32,
    /// Bytes of the ring that can at most be left.
    bytes: u64,
    nothing_since: Option<Instant>,
}

impl Bounds {
    /// All that is there now.
    pub(super) fn of(state: &BusState) -> Self {
        let newest = state.last.wrapping_add(PACKET_HEADER) % state.ring_size;
        Self { newest, bytes: state.ring_size.into(), nothing_since: None }
    }

    /// Whether this frame, which was dumped, is the last.
    pub(super) fn reached_by(&mut self, frame: &Frame<'_>) -> bool {
        self.nothing_since = None;
        self.passed(u64::from(PACKET_HEADER) + frame.bytes.len() as u64);
        frame.info.offset == self.newest || self.bytes == 0
    }

    /// So many bytes went by.
    pub(super) fn passed(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// There was nothing to read: whether it can be believed that there is nothing more.
    pub(super) fn nothing_more(&mut self, state: &BusState) -> bool {
        let patience = if state.locked { QUIET_WHILE_LOCKED } else { QUIET };
        self.nothing_since.get_or_insert_with(Instant::now).elapsed() >= patience
    }
}
