//! The result of the demo: which host reached which, what went over the bus, and the file with it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use capture::CaptureReader;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle, presets};
use serde::Serialize;
use tempfile::TempPath;

use crate::bus_view::BusView;
use crate::misuse::OrMisuse as _;
use crate::output;
use crate::quantity::counted;

/// No borders but a line below the header.
const STYLE: TableStyle = presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─'));

/// Bytes of a pcap without frames.
const EMPTY_PCAP: u64 = 24;

/// The pcap file, removed when this is dropped unless it is kept.
pub(super) struct Recording(TempPath);

impl Recording {
    /// Makes an empty temporary file.
    pub(super) fn new() -> anyhow::Result<Self> {
        let file = tempfile::Builder::new()
            .prefix("busctl-demo-")
            .suffix(".pcap")
            .tempfile()
            .context("cannot make a file for the frames")
            .misuse()?;
        Ok(Self(file.into_temp_path()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps the file, if there is a frame in it.
    pub(super) fn keep(self) -> anyhow::Result<Option<PathBuf>> {
        let size = std::fs::metadata(&self.0).map_or(0, |found| found.len());
        if size <= EMPTY_PCAP {
            return Ok(None);
        }
        Ok(Some(self.0.keep().context("cannot keep the frames")?))
    }
}

/// One host's pings to another.
#[derive(Debug, Serialize)]
pub(super) struct Ping {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) target: String,
    #[serde(flatten)]
    pub(super) result: iphost::Report,
}

/// The keys of `demo --json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pings_sent: u64,
    pings_answered: u64,
    frames_on_bus: u64,
    bytes_on_bus: u64,
    pcap: Option<PathBuf>,
    seconds: f64,
    pings: Vec<Ping>,
    bus: BusView,
}

impl Report {
    pub(super) fn new(
        pings: Vec<Ping>,
        bus: BusView,
        pcap: Option<PathBuf>,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let (frames, bytes) = pcap.as_deref().map_or(Ok((0, 0)), count)?;
        let sum =
            |what: fn(&iphost::Report) -> u64| pings.iter().map(|ping| what(&ping.result)).sum();
        Ok(Self {
            pings_sent: sum(|result| result.sent),
            pings_answered: sum(|result| result.received),
            frames_on_bus: frames,
            bytes_on_bus: bytes,
            pcap,
            seconds: time.as_secs_f64(),
            pings,
            bus,
        })
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.pings_sent.saturating_sub(self.pings_answered)
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return Ok(output::print_json(self)?);
        }
        let mut out = output::stdout();
        writeln!(out, "{}\n", self.table())?;
        writeln!(
            out,
            "{} of {} were answered. {} ({}) went over the bus, in generation {}.",
            self.pings_answered,
            counted(self.pings_sent, "ping"),
            counted(self.frames_on_bus, "frame"),
            counted(self.bytes_on_bus, "byte"),
            self.bus.generation()
        )?;
        if let Some(pcap) = &self.pcap {
            writeln!(out, "All of them: tcpdump -nn -r {}", pcap.display())?;
        }
        Ok(())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_header(["from", "to", "answered", "min", "median", "max"]);
        for Ping { from, to, target, result } in &self.pings {
            let time = |micros: Option<f64>| {
                micros.map_or("-".to_owned(), |micros| match micros {
                    100_000.0.. => format!("{:.0} ms", micros / 1e3),
                    micros => format!("{micros:.0} µs"),
                })
            };
            table.add_row([
                (*from).to_owned(),
                format!("{to} ({target})"),
                format!("{}/{}", result.received, result.sent),
                time(result.rtt_min_us),
                time(result.rtt_p50_us),
                time(result.rtt_max_us),
            ]);
        }
        // Eighty columns are enough for it.
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        for column in 2..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

/// Returns the number of frames in a capture, and of their bytes.
fn count(pcap: &Path) -> anyhow::Result<(u64, u64)> {
    let about = || format!("cannot read {}", pcap.display());
    let mut reader = CaptureReader::new(File::open(pcap).with_context(about)?);
    let (mut frames, mut bytes) = (0, 0);
    while let Some(frame) = reader.next_frame().with_context(about)? {
        frames += 1;
        bytes += frame.bytes.len() as u64;
    }
    Ok((frames, bytes))
}
