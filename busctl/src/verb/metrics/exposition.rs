//! A survey in the text formats of Prometheus and `OpenMetrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use node::{Counters, Link};
use port::PORT_KINDS;

use crate::survey::{Survey, Surveyed, SurveyedBus, What};

/// The most stations and ports that have series of their own. Those after them are summed up under
/// one name, so that no bus makes any number of series.
const MAX_ROWS: usize = 4_096;
/// What the names of socket interfaces begin with; other names begin with the kind of the port.
const SOCKET_INTERFACE: &str = "sock";

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// Returns the format that a client prefers, by the `Accept` header of its request.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        let Some(accept) = accept else { return Self::Prometheus };
        let quality = |wanted: &str| {
            let each = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                (parts.next()?.eq_ignore_ascii_case(wanted)).then(|| {
                    let quality = parts.find_map(|part| part.strip_prefix("q="));
                    quality.map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0))
                })
            });
            each.fold(0.0, f64::max)
        };
        let open = quality("application/openmetrics-text");
        if open > 0.0 && open >= quality("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Returns its name as a `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A counter of stations and ports: its name, its help, and how it is read.
type CounterFamily = (&'static str, &'static str, fn(&Counters) -> u64);

const COUNTERS: [CounterFamily; 10] = [
    (
        "receive_frames",
        "Frames that a station received from the bus, or a port from its peer.",
        |c| c.rx_packets,
    ),
    ("receive_bytes", "Bytes of the frames received.", |c| c.rx_bytes),
    (
        "receive_dropped",
        "Frames received and dropped, and frames that a station missed because it was overrun.",
        |c| c.rx_dropped.saturating_add(c.rx_blocked),
    ),
    ("receive_errors", "Frames received in error, or too long for the bus.", |c| {
        c.rx_errors.saturating_add(c.rx_oversize)
    }),
    ("transmit_frames", "Frames that a station sent to the bus, or a port to its peer.", |c| {
        c.tx_packets
    }),
    ("transmit_bytes", "Bytes of the frames sent.", |c| c.tx_bytes),
    (
        "transmit_dropped",
        "Frames not sent because the bus or the peer was busy, and frames that a port missed.",
        |c| c.tx_dropped,
    ),
    ("transmit_errors", "Frames not sent because they were in error.", |c| c.tx_errors),
    ("impaired_lost", "Frames that impairments of the link have lost, both ways.", |c| {
        [c.rx_lost, c.tx_lost, c.rx_queue_drops, c.tx_queue_drops]
            .into_iter()
            .fold(0, u64::saturating_add)
    }),
    ("peers_refused", "Peers turned away because the port had one already.", |c| c.peers_refused),
];

/// How a gauge of buses is read.
type Gauge = fn(&SurveyedBus) -> Option<u64>;

/// The labels of a station or port.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels<'s> {
    bus: &'s str,
    kind: &'s str,
    station: &'s str,
    interface: &'s str,
}

/// Returns the survey as text.
pub(super) fn text(survey: &Survey, format: Format) -> String {
    let mut writer = Writer { text: String::new(), format };
    let version = [("version", env!("BUSCTL_VERSION"))];
    writer.head("busctl_build_info", "gauge", "The program that serves this.");
    writer.sample("busctl_build_info", "", &version, 1);
    let buses = survey.buses.iter().map(|bus| (&*bus.entry.path, bus));
    let buses: BTreeMap<_, _> = buses.collect();
    let gauges: [(&str, &str, Gauge); 4] = [
        ("busctl_bus_size_bytes", "Size of the bus file.", |bus| Some(bus.entry.size)),
        ("busctl_bus_max_frame_bytes", "Longest frame that the bus carries.", |bus| {
            Some(bus.entry.max_frame as u64)
        }),
        ("busctl_bus_stations", "Live stations on the bus, rump kernels not counted.", |bus| {
            bus.entry.stations.map(|count| count as u64)
        }),
        ("busctl_bus_locked", "Whether the lock of the bus was held.", |bus| {
            Some(u64::from(bus.entry.locked))
        }),
    ];
    for (name, help, value) in gauges {
        writer.head(name, "gauge", help);
        for (path, bus) in &buses {
            if let Some(value) = value(bus) {
                writer.sample(name, "", &[("bus", path)], value);
            }
        }
    }
    writer.head("busctl_bus_ring_wraps", "counter", "How often the ring was filled to its end.");
    for (path, bus) in &buses {
        writer.sample("busctl_bus_ring_wraps", "_total", &[("bus", path)], bus.entry.generation);
    }
    let rows = rows(survey);
    writer.head("busctl_link_up", "gauge", "Whether frames pass through the station or port.");
    for (labels, (_, link)) in &rows {
        if let Some(link) = link {
            writer.sample("busctl_link_up", "", &labels.pairs(), u64::from(*link == Link::Up));
        }
    }
    for (name, help, value) in COUNTERS {
        let name = format!("busctl_{name}");
        writer.head(&name, "counter", help);
        for (labels, (counters, _)) in &rows {
            if let Some(counters) = counters {
                writer.sample(&name, "_total", &labels.pairs(), value(counters));
            }
        }
    }
    if format == Format::OpenMetrics {
        writer.text.push_str("# EOF\n");
    }
    writer.text
}

/// Returns the stations and ports by their labels. Those with the same ones are summed up.
fn rows(survey: &Survey) -> BTreeMap<Labels<'_>, (Option<Counters>, Option<Link>)> {
    let mut rows = BTreeMap::<Labels<'_>, (Option<Counters>, Option<Link>)>::new();
    for bus in &survey.buses {
        for row in &bus.on_it {
            let labels = Labels::of(&bus.entry.path, row);
            let is_full = rows.len() >= MAX_ROWS && !rows.contains_key(&labels);
            let labels = if is_full { Labels::REST } else { labels };
            let (counters, link) = rows.entry(labels).or_default();
            if let Some(more) = row.counters {
                *counters = Some(counters.map_or(more, |counters| counters.plus(more)));
            }
            if *link != Some(Link::Up) {
                *link = row.link;
            }
        }
    }
    rows
}

impl<'s> Labels<'s> {
    const REST: Self = Self { bus: "", kind: "rest", station: "", interface: "" };

    fn of(bus: &'s str, row: &'s Surveyed) -> Self {
        let name = &*row.name;
        let (kind, interface) = match (row.what, &row.mac) {
            (What::Station, Some(mac)) => ("station", &**mac),
            (What::Station, None) => ("station", name),
            (What::Port, _) => {
                let word = name.split(|c: char| !c.is_ascii_alphabetic()).next();
                let kinds = PORT_KINDS.into_iter().chain([SOCKET_INTERFACE]);
                let known = kinds.into_iter().find(|kind| Some(*kind) == word);
                (known.unwrap_or("port"), name)
            }
            (What::Remote, _) => ("remote", name),
        };
        Self { bus, kind, station: row.port.as_deref().unwrap_or(name), interface }
    }

    fn pairs(&self) -> [(&'static str, &str); 4] {
        let Self { bus, kind, station, interface } = *self;
        [("bus", bus), ("kind", kind), ("station", station), ("interface", interface)]
    }
}

struct Writer {
    text: String,
    format: Format,
}

impl Writer {
    /// Begins a family. In `OpenMetrics`, a counter's family has no `_total` in its name.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let is_total = kind == "counter" && self.format == Format::Prometheus;
        let suffix = if is_total { "_total" } else { "" };
        let _ = writeln!(self.text, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {kind}");
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: u64) {
        let _ = write!(self.text, "{name}{suffix}{{");
        for (index, (label, text)) in labels.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(self.text, "{comma}{label}=\"{}\"", escape(text));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

/// Returns a text as it is in the value of a label.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rates::BusRates;
    use crate::survey::tests::{entry, row};

    fn survey() -> Survey {
        let bus = SurveyedBus {
            entry: entry("/dev/shm/a \"b\"\\c\nd", &[]),
            rates: BusRates::default(),
            on_it: vec![
                row(What::Station, "web", 7, 1),
                row(What::Port, "tap eth0 of x", 3, 0),
                row(What::Port, "tap eth0 of x", 4, 0),
                row(What::Port, "strange{}", 1, 0),
                Surveyed {
                    port: Some("vxlan 42".to_owned()),
                    ..row(What::Remote, "192.0.2.9", 5, 0)
                },
            ],
        };
        Survey { buses: vec![bus] }
    }

    /// Reads a text strictly: returns the samples by name and labels.
    fn parse(text: &str, format: Format) -> BTreeMap<String, f64> {
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut family: Option<(String, Option<String>)> = None;
        let mut lines = text.lines().peekable();
        assert!(text.ends_with('\n'));
        while let Some(line) = lines.next() {
            if line == "# EOF" {
                assert!(format == Format::OpenMetrics && lines.peek().is_none());
                return samples;
            }
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help");
                assert!(!help.is_empty() && families.insert(name.to_owned()), "{name} twice");
                family = Some((name.to_owned(), None));
            } else if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of.split_once(' ').expect("a type");
                let (family, known) = family.as_mut().expect("HELP comes first");
                assert_eq!(name, family);
                assert!(known.is_none() && ["gauge", "counter"].contains(&kind));
                *known = Some(kind.to_owned());
            } else {
                let (family, kind) = family.as_ref().expect("a family");
                let is_counter = kind.as_deref() == Some("counter");
                let (name, rest) = line.split_once('{').expect("labels");
                let open = format == Format::OpenMetrics && is_counter;
                assert_eq!(name, if open { format!("{family}_total") } else { family.clone() });
                assert!(!is_counter || name.ends_with("_total"));
                let mut rest = rest;
                let mut seen = BTreeSet::new();
                loop {
                    let (label, after) = rest.split_once("=\"").expect("a label");
                    assert!(label.chars().all(|c| c.is_ascii_lowercase()) && seen.insert(label));
                    let mut letters = after.char_indices();
                    let end = loop {
                        match letters.next().expect("an end") {
                            (_, '\\') => {
                                assert!("\\\"n".contains(letters.next().expect("a letter").1));
                            }
                            (end, '"') => break end,
                            _ => {}
                        }
                    };
                    rest = &after[end + 1..];
                    match rest.strip_prefix(',') {
                        Some(next) => rest = next,
                        None => break,
                    }
                }
                let value = rest.strip_prefix("} ").expect("a value").parse().expect("a number");
                let series = line.rsplit_once(' ').expect("a value").0;
                assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
            }
        }
        assert_eq!(format, Format::Prometheus, "no EOF");
        samples
    }

    #[test]
    fn both_formats_are_well_formed_and_equal() {
        let both = [Format::Prometheus, Format::OpenMetrics]
            .map(|format| parse(&text(&survey(), format), format));
        assert_eq!(both[0], both[1]);
        let bus = r#"bus="/dev/shm/a \"b\"\\c\nd""#;
        let value = |series: &str| both[0].get(series).copied();
        assert_eq!(value(&format!("busctl_bus_ring_wraps_total{{{bus}}}")), Some(5.0));
        let web = r#"kind="station",station="web",interface="b2:a0:00:00:00:01""#;
        assert_eq!(value(&format!("busctl_receive_frames_total{{{bus},{web}}}")), Some(7.0));
        assert_eq!(value(&format!("busctl_receive_dropped_total{{{bus},{web}}}")), Some(1.0));
        assert_eq!(value(&format!("busctl_link_up{{{bus},{web}}}")), Some(1.0));
        let tap = r#"kind="tap",station="tap eth0 of x",interface="tap eth0 of x""#;
        let frames = value(&format!("busctl_receive_frames_total{{{bus},{tap}}}"));
        assert_eq!(frames, Some(7.0), "two of one name are summed up");
        assert!(both[0].keys().any(|key| key.contains(r#"kind="port",station="strange{}""#)));
        let remote = r#"kind="remote",station="vxlan 42",interface="192.0.2.9""#;
        assert_eq!(value(&format!("busctl_receive_frames_total{{{bus},{remote}}}")), Some(5.0));
    }

    #[test]
    fn no_bus_makes_any_number_of_series() {
        let mut survey = survey();
        survey.buses[0].on_it =
            (0..3 * MAX_ROWS).map(|n| row(What::Port, &format!("tap {n}"), 1, 0)).collect();
        let rows = rows(&survey);
        assert_eq!(rows.len(), MAX_ROWS + 1);
        let rest = rows[&Labels::REST].0.expect("counters");
        assert_eq!(rest.rx_packets, 2 * MAX_ROWS as u64);
    }

    #[test]
    fn the_client_chooses_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        for (accept, format) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/plain"), Format::Prometheus),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some(prometheus), Format::OpenMetrics),
            (Some("text/plain, application/openmetrics-text;q=0.2"), Format::Prometheus),
            (Some("application/openmetrics-text;q=0"), Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }
}
