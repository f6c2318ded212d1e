//! Several measurements as a table: medians, with the lowest and the highest value.

use std::io::Write as _;

use ::lab::graph::BarChart;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle, presets};
use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::{LatencyReport, Report, RxMode, Sender, Topology};
use crate::output;
use crate::process::name::program;

/// No borders but a line below the header.
const STYLE: TableStyle = presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─'));

/// A result that can be a row of a table.
pub(super) trait Row: Sized {
    /// Returns the names of the columns, and how many of the first columns are words; the others
    /// are figures.
    fn header(&self) -> (Vec<&'static str>, usize);
    /// Returns the cells of one row, from repeated measurements.
    fn cells(several: &[Self]) -> Vec<String>;
    /// Returns what is drawn of a row: the unit, and the names and numbers of the columns.
    fn drawn(&self) -> (&'static str, [&'static str; 2]);
    /// Checks that there is something to report.
    ///
    /// # Errors
    /// When not a single frame got through.
    fn check(&self) -> anyhow::Result<()>;
}

impl Row for Report {
    fn drawn(&self) -> (&'static str, [&'static str; 2]) {
        ("million frames a second", ["sent M/s", "received M/s"])
    }

    fn check(&self) -> anyhow::Result<()> {
        Self::check(self)
    }

    fn header(&self) -> (Vec<&'static str>, usize) {
        let (mut names, words) = match self.bench {
            Topology::Bus => (vec!["stations", "frame", "burst"], 0),
            Topology::Memif => (vec!["sender", "how", "frame", "burst", "ring", "queues"], 2),
            Topology::Adapter => (vec!["frame", "burst"], 0),
        };
        names.extend([
            "sent M/s",
            "received M/s",
            "lowest",
            "highest",
            "Gbit/s",
            "lost",
            "tx ns/frame",
            "rx cpu",
        ]);
        (names, words)
    }

    fn cells(several: &[Self]) -> Vec<String> {
        let Some(first) = several.first() else { return Vec::new() };
        let of = |value: fn(&Self) -> f64| Spread::of(several.iter().map(value));
        let mut cells = match (first.bench, first.memif) {
            (Topology::Bus, _) => vec![first.stations.to_string()],
            (_, Some(memif)) => {
                let sender = if memif.sender == Sender::Client { "client" } else { "server" };
                let how = match (memif.zero_copy, first.rx_mode) {
                    (true, _) => "in place",
                    (false, RxMode::Polling) => "copy",
                    (false, RxMode::Interrupt) => "interrupt",
                };
                vec![sender.to_owned(), how.to_owned()]
            }
            _ => Vec::new(),
        };
        cells.extend([first.frame.to_string(), first.burst.to_string()]);
        cells.extend(
            first
                .memif
                .iter()
                .flat_map(|memif| [(1_u32 << memif.rsize).to_string(), memif.queues.to_string()]),
        );
        let received = of(|run| run.rx_pps.unwrap_or(0.0));
        let lost = of(|run| {
            let others = run.stations.saturating_sub(1) as f64;
            run.lost.unwrap_or(0) as f64 / (run.sent.unwrap_or(0) as f64 * others).max(1.0)
        });
        let cost =
            of(|run| run.tx_cpu_seconds.unwrap_or(0.0) * 1e9 / run.sent.unwrap_or(0).max(1) as f64);
        let share =
            of(|run| run.rx_cpu_seconds.unwrap_or(0.0) / run.seconds.max(f64::MIN_POSITIVE));
        cells.extend([
            million(of(|run| run.tx_pps.unwrap_or(0.0)).median),
            million(received.median),
            million(received.lowest),
            million(received.highest),
            format!("{:.2}", received.median * first.frame as f64 * 8.0 / 1e9),
            format!("{:.2} %", lost.median * 100.0),
            format!("{:.1}", cost.median),
            format!("{:.1} %", share.median * 100.0),
        ]);
        cells
    }
}

impl Row for LatencyReport {
    fn drawn(&self) -> (&'static str, [&'static str; 2]) {
        ("µs", ["there µs", "and back µs"])
    }

    fn check(&self) -> anyhow::Result<()> {
        Self::check(self)
    }

    fn header(&self) -> (Vec<&'static str>, usize) {
        (
            vec![
                "ends",
                "frame",
                "a second",
                "there µs",
                "and back µs",
                "lowest",
                "highest",
                "99 %",
                "lost",
            ],
            1,
        )
    }

    fn cells(several: &[Self]) -> Vec<String> {
        let Some(first) = several.first() else { return Vec::new() };
        let of = |value: fn(&Self) -> f64| Spread::of(several.iter().map(value));
        let back = of(|run| run.rtt_p50_us);
        vec![
            mode(first.rx_mode).to_owned(),
            first.frame.to_string(),
            format!(
                "{:.0}",
                of(|run| run.round_trips as f64 / run.seconds.max(f64::MIN_POSITIVE)).median
            ),
            format!("{:.2}", of(|run| run.oneway_p50_us).median),
            format!("{:.2}", back.median),
            format!("{:.2}", back.lowest),
            format!("{:.2}", back.highest),
            format!("{:.2}", of(|run| run.rtt_p99_us).median),
            several.iter().map(|run| run.lost).sum::<u64>().to_string(),
        ]
    }
}

/// The median of values, with the lowest and the highest.
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        Self {
            median: at(values.len() / 2),
            lowest: at(0),
            highest: at(values.len().saturating_sub(1)),
        }
    }
}

fn million(pps: f64) -> String {
    if pps < 1e5 { format!("{:.4}", pps / 1e6) } else { format!("{:.2}", pps / 1e6) }
}

/// Prints a row for the measurements of each plan.
pub(super) fn print<R: Row>(rows: &[Vec<R>]) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(STYLE);
    if let Some((names, words)) = rows.iter().flatten().next().map(Row::header) {
        let columns = names.len();
        table.set_header(names);
        for column in words..columns {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.add_rows(rows.iter().map(|row| R::cells(row)));
    writeln!(output::stdout(), "{}", table.trim_fmt())?;
    Ok(())
}

/// Returns the medians of each plan, to be drawn.
pub(super) fn chart<R: Row>(rows: &[Vec<R>], title: &str) -> BarChart {
    let Some(first) = rows.iter().flatten().next() else { return BarChart::default() };
    let (unit, drawn) = first.drawn();
    let (names, words) = first.header();
    let columns = drawn.map(|name| names.iter().position(|column| *column == name));
    // What the rows differ by comes before the figures.
    let settings = columns[0].unwrap_or(0);
    let row = |row: &Vec<R>| {
        let cells = R::cells(row);
        let label =
            names.iter().zip(&cells).take(settings).enumerate().map(|(at, (name, cell))| {
                if at < words { cell.clone() } else { format!("{name} {cell}") }
            });
        let figures = columns.map(|column| {
            let cell = column.and_then(|column| cells.get(column));
            cell.and_then(|cell| cell.parse().ok())
        });
        (label.collect::<Vec<_>>().join(", "), figures.to_vec())
    };
    BarChart {
        title: format!("{} bench {title}", program()),
        unit: unit.to_owned(),
        series: drawn.map(str::to_owned).to_vec(),
        rows: rows.iter().map(row).collect(),
    }
}

/// Returns a bar on stderr; hidden where that is no terminal, or for a single measurement.
pub(super) fn progress(measurements: u64) -> ProgressBar {
    if measurements < 2 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(measurements);
    // The template is constant and valid.
    if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len}, {eta} to go")
    {
        bar.set_style(style);
    }
    bar
}

/// Returns the name of a topology, as it is typed.
pub(super) fn name(topology: Topology) -> &'static str {
    match topology {
        Topology::Bus => "bus",
        Topology::Memif => "memif",
        Topology::Adapter => "adapter",
    }
}

/// Returns what idle ends do.
pub(super) fn mode(mode: RxMode) -> &'static str {
    match mode {
        RxMode::Polling => "polling",
        RxMode::Interrupt => "asleep",
    }
}
