//! What receivers of this program have lost meanwhile.
//!
//! Stations and ports of ours report what they count. What they missed on the bus while a replay
//! sent is an estimate, and others may have sent, too.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use node::{Report, all_reports, bus_identity};

use crate::port_view::printable;

/// After this time all that is on the ring is read, and what was lost is reported.
pub(super) const REPORTING: Duration = Duration::from_millis(250);

/// How many receivers are named.
const MAX_NAMES: usize = 3;

/// The receivers on a bus, with what each has missed so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Receivers {
    missed: HashMap<Receiver, u64>,
}

/// Tells a receiver from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Receiver {
    /// The name of a port, or the address of a station.
    name: String,
    pid: u32,
}

impl Receivers {
    /// Returns those on the bus at `path` at this moment.
    pub(super) fn of(path: &Path) -> Self {
        let bus = bus_identity(path);
        let here = all_reports().into_iter().filter(|(_, report)| Some(report.bus) == bus);
        Self { missed: here.map(|(pid, report)| missed(pid, report)).collect() }
    }

    /// Returns whether there is one.
    pub(super) fn any(&self) -> bool {
        !self.missed.is_empty()
    }

    /// Returns what those that are here before and `after` have missed meanwhile.
    pub(super) fn losses(&self, after: &Self) -> Losses {
        let lost = |(receiver, before): (&Receiver, &u64)| {
            let lost = after.missed.get(receiver)?.saturating_sub(*before);
            (lost > 0).then(|| (lost, receiver.name.clone()))
        };
        let mut receivers: Vec<_> = self.missed.iter().filter_map(lost).collect();
        receivers.sort_unstable_by(|one, other| other.cmp(one));
        Losses { receivers }
    }
}

/// Returns a receiver with the frames that it has missed on the bus.
fn missed(pid: u32, report: Report) -> (Receiver, u64) {
    let Report { name, mac, counters, is_station, .. } = report;
    if is_station {
        (Receiver { name: mac, pid }, counters.rx_dropped)
    } else {
        (Receiver { name, pid }, counters.tx_dropped)
    }
}

/// What receivers have lost, the one that lost most first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    receivers: Vec<(u64, String)>,
}

impl Losses {
    /// Returns the frames that they have lost together.
    pub(super) fn frames(&self) -> u64 {
        self.receivers.iter().fold(0, |sum, (lost, _)| sum.saturating_add(*lost))
    }

    /// Returns a line that says what was lost, if anything was.
    pub(super) fn warning(&self) -> Option<String> {
        if self.receivers.is_empty() {
            return None;
        }
        let mut line = "receivers on the bus lost about ".to_owned();
        for (index, (lost, name)) in self.receivers.iter().take(MAX_NAMES).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let frames = if *lost == 1 { "frame" } else { "frames" };
            let _ = write!(line, "{comma}{lost} {frames} ({})", printable(name));
        }
        let more = self.receivers.len().saturating_sub(MAX_NAMES);
        if more > 0 {
            let _ = write!(line, ", and {more} more lost some");
        }
        line += "; a lower rate, a larger bus or processors of their own help";
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers(missed: &[(&str, u64)]) -> Receivers {
        let missed = missed
            .iter()
            .map(|(name, missed)| (Receiver { name: (*name).to_owned(), pid: 1 }, *missed));
        Receivers { missed: missed.collect() }
    }

    #[test]
    fn only_what_is_new_is_lost_and_only_of_those_that_stayed() {
        let before = receivers(&[("one", 5), ("two", 0), ("gone", 1), ("three", 7)]);
        let after = receivers(&[("one", 6), ("two", 40), ("new", 9), ("three", 7)]);
        let losses = before.losses(&after);
        assert_eq!(losses.frames(), 41);
        let line = losses.warning().unwrap();
        assert!(line.contains("about 40 frames (two), 1 frame (one); "), "{line}");
        assert_eq!(before.losses(&before).warning(), None);
        assert!(before.any() && !receivers(&[]).any());
    }

    #[test]
    fn of_many_the_worst_are_named() {
        let names = ["a", "b", "c", "d", "e"];
        let before = receivers(&names.map(|name| (name, 0)));
        let after = receivers(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]);
        let line = before.losses(&after).warning().unwrap();
        assert!(line.contains("5 frames (e), 4 frames (d), 3 frames (c), and 2 more"), "{line}");
    }
}
