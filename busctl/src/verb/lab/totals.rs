//! What a lab's LANs have carried, said when the lab ends.

use std::collections::HashMap;
use std::fmt;

use ::lab::LabState;
use node::{BusIdentity, Counters, all_reports, bus_identity};

use crate::output;

/// The LANs that are named one by one; all others are one line together.
const NAMED: usize = 20;

/// Says what each LAN has carried that has carried anything. The lab must still be up.
pub(super) fn say(lab: &LabState) {
    let mut by_bus: HashMap<BusIdentity, Carried> = HashMap::new();
    for (_, report) in all_reports() {
        let lan = by_bus.entry(report.bus).or_default();
        if report.is_station {
            lan.add_station(&report.counters);
        } else {
            lan.add_port(&report.counters);
        }
    }
    let carried = lab.lans.iter().filter_map(|lan| {
        let carried = by_bus.remove(&bus_identity(&lan.bus)?)?;
        (carried.frames > 0).then_some((&lan.name, carried))
    });
    let mut others = (0, Carried::default());
    for (number, (name, carried)) in carried.enumerate() {
        if number < NAMED {
            output::note(&format!("{}: LAN {name}: {carried}", lab.name));
        } else {
            others.0 += 1;
            others.1.add(&carried);
        }
    }
    if others.0 > 0 {
        output::note(&format!("{}: {} further LANs: {}", lab.name, others.0, others.1));
    }
}

/// What the stations and ports of a lab have done on one bus.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Carried {
    /// Frames and bytes that came onto the bus.
    frames: u64,
    bytes: u64,
    /// Frames that were dropped, or missed by stations that were overrun.
    dropped: u64,
    /// Frames that impairments have lost, on purpose.
    lost: u64,
}

impl Carried {
    fn add_station(&mut self, of: &Counters) {
        self.add(&Self {
            frames: of.tx_packets,
            bytes: of.tx_bytes,
            dropped: of.rx_dropped.saturating_add(of.tx_dropped),
            lost: lost(of),
        });
    }

    /// What a port receives, it receives from its peer, for the bus.
    fn add_port(&mut self, of: &Counters) {
        self.add(&Self {
            frames: of.rx_packets,
            bytes: of.rx_bytes,
            dropped: of.rx_dropped.saturating_add(of.tx_dropped),
            lost: lost(of),
        });
    }

    fn add(&mut self, other: &Self) {
        self.frames = self.frames.saturating_add(other.frames);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.dropped = self.dropped.saturating_add(other.dropped);
        self.lost = self.lost.saturating_add(other.lost);
    }
}

fn lost(of: &Counters) -> u64 {
    [of.rx_lost, of.tx_lost, of.rx_queue_drops, of.tx_queue_drops]
        .into_iter()
        .fold(0, u64::saturating_add)
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, bytes, dropped, lost } = self;
        let s = if *frames == 1 { "" } else { "s" };
        write!(f, "{frames} frame{s}, {bytes} bytes; {dropped} dropped")?;
        if *lost > 0 {
            write!(f, ", {lost} lost by impairments")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_onto_a_bus_is_counted_once() {
        let counters = Counters {
            rx_packets: 2,
            rx_bytes: 200,
            rx_dropped: 1,
            rx_lost: 3,
            tx_packets: 5,
            tx_bytes: 500,
            ..Counters::default()
        };
        let mut carried = Carried::default();
        carried.add_port(&counters);
        carried.add_station(&counters);
        assert_eq!(carried, Carried { frames: 7, bytes: 700, dropped: 2, lost: 6 });
        assert_eq!(carried.to_string(), "7 frames, 700 bytes; 2 dropped, 6 lost by impairments");
    }
}
