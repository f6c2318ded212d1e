//! Ports, and the counters of stations, as `show` shows them.

use std::fmt;
use std::path::Path;

use node::{Counters, Link, RemoteReport, Report, all_reports, bus_identity};
use serde::Serialize;
use shmbus::MAX_MEMBER_NAME;

use crate::style::Palette;

/// A port as `show` shows it. The fields are keys of `show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct PortView {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) link: Link,
    /// What its link does to frames on purpose; empty for nothing.
    pub(crate) impairments: String,
    /// The machines that a tunnel reaches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remotes: Vec<RemoteReport>,
    #[serde(flatten)]
    pub(crate) counters: Counters,
}

/// What processes report of one bus, as far as this process may examine them.
#[derive(Debug, Default)]
pub(crate) struct OnBus {
    /// The ports, by process and name.
    pub(crate) ports: Vec<PortView>,
    /// The stations that are no ports, with the pids of their processes.
    pub(crate) stations: Vec<(u32, Report)>,
}

impl OnBus {
    /// Returns what is reported of the bus `bus`.
    pub(crate) fn of(bus: &Path) -> Self {
        let Some(bus) = bus_identity(bus) else { return Self::default() };
        let here = all_reports().into_iter().filter(|(_, report)| report.bus == bus);
        let (stations, ports): (Vec<_>, Vec<_>) = here.partition(|(_, report)| report.is_station);
        let mut ports: Vec<PortView> =
            ports.into_iter().map(|(pid, report)| PortView::new(pid, report)).collect();
        ports.sort_by(|one, other| (one.pid, &one.name).cmp(&(other.pid, &other.name)));
        Self { ports, stations }
    }
}

/// Returns the name that the station of a port has on its bus.
pub(crate) fn station_name(port: &str) -> String {
    printable(port).chars().take(MAX_MEMBER_NAME).collect()
}

/// Returns a text with a question mark for each letter that a terminal acts on.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl PortView {
    fn new(pid: u32, report: Report) -> Self {
        let Report { name, link, impairments, remotes, counters, .. } = report;
        Self { name, pid, link, impairments, remotes, counters }
    }

    /// Writes the lines of the port.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, palette: Palette) -> fmt::Result {
        let Palette { bad, .. } = palette;
        let link = match self.link {
            Link::Down => "link down".to_owned(),
            Link::Listening => "listening for loops".to_owned(),
            Link::Up => "link up".to_owned(),
            Link::Blocked => format!("{bad}blocked{bad:#}, it would close a loop"),
        };
        writeln!(f, "\tport {}: {link}, pid {}", printable(&self.name), self.pid)?;
        if !self.impairments.is_empty() {
            writeln!(f, "\t\timpairments: {}", printable(&self.impairments))?;
        }
        writeln!(f, "\t\tinput: {}", Input(&self.counters))?;
        writeln!(f, "\t\toutput: {}", Output(&self.counters))?;
        self.remotes.iter().try_for_each(|remote| write_remote(remote, "\t\t", f))
    }
}

/// Writes the line of a machine that a tunnel reaches.
pub(crate) fn write_remote(
    remote: &RemoteReport,
    indent: &str,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let stations = match remote.stations {
        1 => "1 station".to_owned(),
        count => format!("{count} stations"),
    };
    let RemoteReport { rx_packets, rx_dropped, tx_packets, tx_dropped, .. } = remote;
    let way = if remote.is_relayed { " by Zenoh" } else { "" };
    writeln!(
        f,
        "{indent}remote {}{way}: {stations}, input {rx_packets} packets, {rx_dropped} dropped, output \
         {tx_packets} packets, {tx_dropped} dropped",
        printable(&remote.name())
    )
}

/// The counters of a port in one line.
pub(crate) struct Totals(pub(crate) Counters);

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input {}; output {}", Input(&self.0), Output(&self.0))
    }
}

/// What came from the peer.
pub(crate) struct Input<'c>(pub(crate) &'c Counters);

impl fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.0;
        write!(
            f,
            "{} packets, {} bytes, {} dropped, {} errors",
            c.rx_packets, c.rx_bytes, c.rx_dropped, c.rx_errors
        )?;
        if c.rx_oversize > 0 {
            write!(f, ", {} too long for the bus", c.rx_oversize)?;
        }
        if c.rx_blocked > 0 {
            write!(f, ", {} dropped while blocked", c.rx_blocked)?;
        }
        if c.peers_refused > 0 {
            write!(f, ", {} further clients turned away", c.peers_refused)?;
        }
        Impaired::input(c).fmt(f)
    }
}

/// What went to the peer.
pub(crate) struct Output<'c>(pub(crate) &'c Counters);

impl fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.0;
        write!(
            f,
            "{} packets, {} bytes, {} dropped, {} errors",
            c.tx_packets, c.tx_bytes, c.tx_dropped, c.tx_errors
        )?;
        Impaired::output(c).fmt(f)
    }
}

/// What impairments have done in one direction; nothing where they have not.
pub(crate) struct Impaired([(u64, &'static str); 5]);

impl Impaired {
    /// Returns what they did to frames from the peer.
    pub(crate) fn input(c: &Counters) -> Self {
        let counts = [c.rx_lost, c.rx_corrupted, c.rx_duplicated, c.rx_reordered, c.rx_queue_drops];
        Self::new(counts)
    }

    /// Returns what they did to frames to the peer.
    pub(crate) fn output(c: &Counters) -> Self {
        let counts = [c.tx_lost, c.tx_corrupted, c.tx_duplicated, c.tx_reordered, c.tx_queue_drops];
        Self::new(counts)
    }

    fn new(counts: [u64; 5]) -> Self {
        let words = ["lost", "corrupted", "duplicated", "reordered", "dropped from the queue"];
        Self(std::array::from_fn(|index| (counts[index], words[index])))
    }
}

impl fmt::Display for Impaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.0.iter().filter(|(count, _)| *count > 0);
        done.into_iter().try_for_each(|(count, word)| write!(f, ", {count} {word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_were_too_long_or_blocked_are_said_apart() {
        let counters =
            Counters { rx_errors: 3, rx_oversize: 2, rx_blocked: 1, ..Counters::default() };
        assert_eq!(
            Totals(counters).to_string(),
            "input 0 packets, 0 bytes, 0 dropped, 3 errors, 2 too long for the bus, 1 dropped while \
             blocked; output 0 packets, 0 bytes, 0 dropped, 0 errors"
        );
    }
}
