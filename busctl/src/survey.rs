//! All buses of this user at one moment, with the stations and ports on them: what `top`, `metrics`
//! and `show --graph` show.

use std::collections::HashMap;
use std::time::Instant;

use node::{BusIdentity, Counters, Link, RemoteReport, Report, all_reports};
use serde::Serialize;
use shmbus::Bus;

use crate::buses::{self, BusEntry};
use crate::port_view::{printable, station_name};
use crate::rates::{BusMeter, BusRates};
use crate::registry::{Registry, RegistryError};

/// The buses at one moment. The fields are keys of `top --once --json`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Survey {
    pub(crate) buses: Vec<SurveyedBus>,
}

/// One bus.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SurveyedBus {
    #[serde(flatten)]
    pub(crate) entry: BusEntry,
    /// What is sent on it; unknown at the first look, and where that is not measured.
    #[serde(flatten)]
    pub(crate) rates: BusRates,
    /// The stations and ports, by name.
    pub(crate) on_it: Vec<Surveyed>,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    Station,
    Port,
    /// A machine that a port leads to.
    Remote,
}

impl What {
    /// Returns the word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Station => "station",
            Self::Port => "port",
            Self::Remote => "remote",
        }
    }
}

/// A station, a port, or a machine that a port leads to. A port receives from its peer, a station from the
/// bus.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Surveyed {
    #[serde(rename = "kind")]
    pub(crate) what: What,
    /// Its name. That of a machine is its host, its address, or both.
    pub(crate) name: String,
    /// The port that leads to a machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
    /// The address of a station.
    pub(crate) mac: Option<String>,
    pub(crate) pid: u32,
    pub(crate) link: Option<Link>,
    /// What its link does to frames on purpose; empty for nothing.
    pub(crate) impairments: String,
    /// The peer of a memif port, and its rings, in lines for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) peer: Vec<String>,
    /// None for a station whose process reports none.
    #[serde(flatten)]
    pub(crate) counters: Option<Counters>,
    #[serde(flatten)]
    pub(crate) rates: Option<Rates>,
}

impl Surveyed {
    /// Returns its name, with what it is unless it is a station.
    pub(crate) fn full_name(&self) -> String {
        match (self.what, &self.port) {
            (What::Station, _) => self.name.clone(),
            (What::Port, _) => format!("port {}", self.name),
            (What::Remote, port) => {
                format!("{} to {}", port.as_deref().unwrap_or_default(), self.name)
            }
        }
    }

    /// Returns how many frames it has dropped or missed, both ways, with those in error.
    pub(crate) fn lost(&self) -> u64 {
        self.counters.map_or(0, |c| {
            [c.rx_dropped, c.rx_errors, c.rx_oversize, c.rx_blocked, c.tx_dropped, c.tx_errors]
                .into_iter()
                .fold(0, u64::saturating_add)
        })
    }
}

/// What passed in a second, between two surveys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Rates {
    pub(crate) rx_pps: f64,
    pub(crate) rx_bps: f64,
    pub(crate) tx_pps: f64,
    pub(crate) tx_bps: f64,
    /// Frames dropped or missed, both ways.
    pub(crate) lost_pps: f64,
}

/// Looks at the buses again and again.
#[derive(Debug, Default)]
pub(crate) struct Surveyor {
    /// The counters of the survey before, and when it was.
    before: HashMap<Key, (Counters, u64)>,
    taken: Option<Instant>,
    /// Measures what is sent, where that is wanted.
    meters: HashMap<BusIdentity, BusMeter>,
    measures_buses: bool,
}

/// Which station or port it is.
type Key = (BusIdentity, What, u32, String, Option<String>, Option<String>);

impl Surveyor {
    /// Returns a surveyor that also measures what is sent on each bus, for which it reads them.
    pub(crate) fn measuring() -> Self {
        Self { measures_buses: true, ..Self::default() }
    }

    /// Looks at all buses. Rates are those since the last look.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub(crate) fn look(&mut self, registry: &Registry) -> Result<Survey, RegistryError> {
        Ok(Survey { buses: self.look_at_all(buses::all(registry)?) })
    }

    /// Looks at one bus.
    pub(crate) fn look_at(&mut self, bus: BusEntry) -> SurveyedBus {
        self.look_at_all(vec![bus]).swap_remove(0)
    }

    fn look_at_all(&mut self, entries: Vec<BusEntry>) -> Vec<SurveyedBus> {
        let mut reports: HashMap<BusIdentity, Vec<(u32, Report)>> = HashMap::new();
        for (pid, report) in all_reports() {
            reports.entry(report.bus).or_default().push((pid, report));
        }
        let now = Instant::now();
        let seconds = self.taken.replace(now).map(|taken| (now - taken).as_secs_f64());
        let mut latest = HashMap::new();
        let mut buses = Vec::new();
        for entry in entries {
            let mut on_it = on(&entry, reports.remove(&entry.identity).unwrap_or_default());
            for row in &mut on_it {
                let Some(counters) = row.counters else { continue };
                let names = (row.name.clone(), row.mac.clone(), row.port.clone());
                let key = (entry.identity, row.what, row.pid, names.0, names.1, names.2);
                let lost = row.lost();
                if let (Some((before, lost_before)), Some(seconds)) =
                    (self.before.get(&key), seconds)
                {
                    row.rates = Some(rates(before, &counters, seconds));
                    let lost_now = lost.saturating_sub(*lost_before) as f64;
                    row.rates.iter_mut().for_each(|rates| rates.lost_pps = lost_now / seconds);
                }
                latest.insert(key, (counters, lost));
            }
            buses.push(SurveyedBus { rates: self.measure(&entry), on_it, entry });
        }
        self.before = latest;
        self.meters.retain(|identity, _| buses.iter().any(|bus| bus.entry.identity == *identity));
        buses
    }

    fn measure(&mut self, entry: &BusEntry) -> BusRates {
        if !self.measures_buses {
            return BusRates::default();
        }
        if let Some(meter) = self.meters.get_mut(&entry.identity) {
            return meter.sample();
        }
        let meter = Bus::open_read_only(&entry.path).and_then(BusMeter::new);
        let Ok(mut meter) = meter else { return BusRates::default() };
        let rates = meter.sample();
        self.meters.insert(entry.identity, meter);
        rates
    }
}

/// Returns the stations and ports on a bus. The station of a port is not shown beside it.
fn on(entry: &BusEntry, reports: Vec<(u32, Report)>) -> Vec<Surveyed> {
    let (stations, ports): (Vec<_>, Vec<_>) =
        reports.into_iter().partition(|(_, report)| report.is_station);
    let mut rows = Vec::new();
    let mut port_names: HashMap<String, usize> = HashMap::new();
    for (pid, report) in ports {
        *port_names.entry(station_name(&report.name)).or_default() += 1;
        let name = printable(&report.name);
        let remotes = report.remotes.iter().map(|remote| remote_row(remote, pid, &name));
        rows.extend(remotes);
        rows.push(Surveyed {
            what: What::Port,
            name,
            port: None,
            mac: None,
            pid,
            link: Some(report.link),
            impairments: printable(&report.impairments),
            peer: report.peer.iter().map(|line| printable(line)).collect(),
            counters: Some(report.counters),
            rates: None,
        });
    }
    for member in &entry.members {
        let report = stations.iter().find(|(_, report)| report.mac == member.mac);
        if report.is_none()
            && let Some(left) = port_names.get_mut(&member.name)
            && *left > 0
        {
            *left -= 1;
            continue;
        }
        rows.push(Surveyed {
            what: What::Station,
            name: member.name.clone(),
            port: None,
            mac: Some(member.mac.clone()),
            pid: report.map_or(member.pid, |(pid, _)| *pid),
            link: report.map(|(_, report)| report.link),
            impairments: String::new(),
            peer: Vec::new(),
            counters: report.map(|(_, report)| report.counters),
            rates: None,
        });
    }
    rows.sort_by(|a, b| {
        (a.what, &a.port, &a.name, a.pid, &a.mac).cmp(&(b.what, &b.port, &b.name, b.pid, &b.mac))
    });
    rows
}

/// Returns the row of a machine that `port` leads to.
fn remote_row(remote: &RemoteReport, pid: u32, port: &str) -> Surveyed {
    Surveyed {
        what: What::Remote,
        name: printable(&remote.name()),
        port: Some(port.to_owned()),
        mac: None,
        pid,
        link: None,
        impairments: String::new(),
        peer: Vec::new(),
        counters: Some(Counters {
            rx_packets: remote.rx_packets,
            rx_bytes: remote.rx_bytes,
            rx_dropped: remote.rx_dropped,
            tx_packets: remote.tx_packets,
            tx_bytes: remote.tx_bytes,
            tx_dropped: remote.tx_dropped,
            ..Counters::default()
        }),
        rates: None,
    }
}

fn rates(before: &Counters, now: &Counters, seconds: f64) -> Rates {
    let rate = |count: fn(&Counters) -> u64, factor: f64| {
        let (before, now) = (count(before), count(now));
        // Less than before: this is another of the same name.
        let passed = now.checked_sub(before).unwrap_or(now);
        if seconds > 0.0 { passed as f64 * factor / seconds } else { 0.0 }
    };
    Rates {
        rx_pps: rate(|counters| counters.rx_packets, 1.0),
        rx_bps: rate(|counters| counters.rx_bytes, 8.0),
        tx_pps: rate(|counters| counters.tx_packets, 1.0),
        tx_bps: rate(|counters| counters.tx_bytes, 8.0),
        lost_pps: 0.0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::buses::MemberEntry;

    pub(crate) fn entry(path: &str, members: &[(&str, &str)]) -> BusEntry {
        let member = |(mac, name): &(&str, &str)| MemberEntry {
            pid: 7,
            mac: (*mac).to_owned(),
            name: (*name).to_owned(),
        };
        BusEntry {
            path: path.to_owned(),
            size: 1 << 20,
            max_frame: 1514,
            stations: Some(members.len()),
            interfaces: Vec::new(),
            pids: vec![7],
            locked: false,
            generation: 5,
            age_seconds: Some(61),
            members: members.iter().map(member).collect(),
            identity: (1, 2),
        }
    }

    pub(crate) fn row(what: What, name: &str, rx_packets: u64, rx_dropped: u64) -> Surveyed {
        let counters =
            Counters { rx_packets, rx_bytes: rx_packets * 100, rx_dropped, ..Counters::default() };
        Surveyed {
            what,
            name: name.to_owned(),
            port: None,
            mac: (what == What::Station).then(|| "b2:a0:00:00:00:01".to_owned()),
            pid: 7,
            link: Some(Link::Up),
            impairments: String::new(),
            peer: Vec::new(),
            counters: Some(counters),
            rates: Some(Rates { rx_pps: rx_packets as f64, ..Rates::default() }),
        }
    }

    #[test]
    fn the_station_of_a_port_is_not_a_row_of_its_own() {
        let entry = entry("/lan", &[("b2:a0:00:00:00:01", "web"), ("b2:a0:00:00:00:02", "tap a")]);
        let counters = Counters { rx_packets: 3, ..Counters::default() };
        let port = |name: &str| Report {
            bus: (1, 2),
            name: name.to_owned(),
            is_station: false,
            mac: String::new(),
            link: Link::Up,
            remotes: Vec::new(),
            peer: Vec::new(),
            impairments: "delay\u{1b}".to_owned(),
            counters,
        };
        let station = Report {
            is_station: true,
            mac: "b2:a0:00:00:00:01".to_owned(),
            name: String::new(),
            ..port("")
        };
        let rows = on(&entry, vec![(8, port("tap a")), (9, station)]);
        let rows: Vec<_> = rows.iter().map(|row| (row.what, &*row.name, row.pid)).collect();
        assert_eq!(rows, [(What::Station, "web", 9), (What::Port, "tap a", 8)]);
    }

    #[test]
    fn the_machines_that_a_port_leads_to_have_rows_of_their_own() {
        let report: Report = serde_json::from_str(
            r#"{"bus":[1,2],"name":"vxlan 42","link":"up","rx_packets":9,"remotes":[{"address":"192.0.2.9",
                "stations":2,"rx_packets":5,"rx_bytes":320,"rx_dropped":0,"tx_packets":4,"tx_bytes":0,
                "tx_dropped":1},{"address":"","host":"attic","is_relayed":true,"stations":0,"rx_packets":0,
                "rx_bytes":0,"rx_dropped":0,"tx_packets":0,"tx_bytes":0,"tx_dropped":0}]}"#,
        )
        .expect("a report");
        let rows = on(&entry("/lan", &[]), vec![(8, report)]);
        let names: Vec<_> = rows.iter().map(Surveyed::full_name).collect();
        assert_eq!(names, ["port vxlan 42", "vxlan 42 to 192.0.2.9", "vxlan 42 to attic"]);
        let counters = rows[1].counters.expect("counters");
        assert_eq!((counters.rx_packets, counters.tx_packets, rows[1].lost()), (5, 4, 1));
    }

    #[test]
    fn rates_are_over_the_time_between_surveys() {
        let before = Counters { rx_packets: 10, tx_packets: 50, ..Counters::default() };
        let now = Counters { rx_packets: 30, tx_packets: 5, ..Counters::default() };
        let rates = rates(&before, &now, 2.0);
        assert_eq!((rates.rx_pps, rates.tx_pps), (10.0, 2.5));
    }
}
