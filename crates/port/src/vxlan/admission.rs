//! What the frames of remotes go through on their way to the bus: they are counted, learned from, and
//! limited.

use std::time::Instant;

use super::neighbors::Neighbors;
use super::remotes::Remotes;
use super::table::Table;
use super::trouble::Trouble;
use crate::port::Moved;

/// What the frames of remotes go through on their way to the bus.
pub(super) struct Admission<'p> {
    pub(super) table: &'p mut Table,
    pub(super) remotes: &'p mut Remotes,
    pub(super) neighbors: &'p mut Option<Neighbors>,
    pub(super) dropped: &'p mut Moved,
    pub(super) trouble: &'p mut Trouble,
    pub(super) now: Instant,
}

impl Admission<'_> {
    /// Counts a frame of a remote, and learns from it. Returns whether it may pass.
    pub(super) fn admit(&mut self, frame: &[u8], remote: usize) -> bool {
        let Self { table, remotes, neighbors, dropped, trouble, now } = self;
        let is_for_group = frame[0] & 1 != 0;
        if is_for_group && !remotes.may_flood(remote, *now) {
            remotes.counters_mut(remote).rx_dropped += 1;
            dropped.dropped += 1;
            trouble.storm = Some(remote);
            return false;
        }
        let counters = remotes.counters_mut(remote);
        counters.rx_packets += 1;
        counters.rx_bytes += frame.len() as u64;
        if let Some(source) = frame[6..].first_chunk() {
            table.learn(*source, remote, *now);
        }
        if let Some(neighbors) = neighbors {
            neighbors.learn(frame, remote, *now);
        }
        true
    }

    /// Forgets what was learned from a remote that is none any longer.
    pub(super) fn forget(&mut self, remote: usize) {
        self.table.forget_remote(remote);
        if let Some(neighbors) = self.neighbors {
            neighbors.forget_remote(remote);
        }
    }
}
