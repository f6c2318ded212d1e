//! What an interface went through, kept for its details.

use std::collections::BTreeMap;

use super::end::End;
use super::stats::QueueStats;
use crate::error::{DisconnectReason, Rejection};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Links that came up.
    pub(crate) links: u64,
    /// Why the last one ended.
    pub(crate) last: Option<DisconnectReason>,
    /// Why there was no link the last time, as text.
    pub(crate) refused: Option<String>,
    /// The last reason that was told to a peer.
    pub(crate) told: Option<String>,
    /// The last reason that a peer told.
    pub(crate) heard: Option<String>,
    /// What the queues of links that are over did.
    pub(crate) rx: QueueStats,
    pub(crate) tx: QueueStats,
}

impl History {
    /// Records the end of a connection, and the counts (received, sent) of its link if it had one.
    pub(crate) fn ended(&mut self, end: &End, stats: Option<(QueueStats, QueueStats)>) {
        if let Some(reason) = end.farewell() {
            self.told = Some(reason);
        }
        if let End::Bye(reason) = end {
            self.heard = Some(reason.clone());
        }
        if let Some((rx, tx)) = stats {
            self.rx += rx;
            self.tx += tx;
        }
    }
}

/// How often which check failed, by the check's name.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn count(&mut self, end: &End) {
        if let End::Refused(refusal) = end {
            *self.0.entry(Rejection::name(refusal)).or_default() += 1;
        }
    }

    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count)).collect()
    }
}
