//! `busctl list`: the buses of this user, and what runs detached.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{ContentArrangement, Table, presets};
use ratatui::crossterm::terminal::size;
use serde::Serialize;

use crate::buses::{self, BusEntry};
use crate::context::Context;
use crate::detached::Running;
use crate::{output, quantity};

/// List the buses of this machine and user, and what runs detached
///
/// A bus is listed when an interface of the state folder is plugged into it, or a process that this
/// user may examine has it mapped. 'busctl show BUSPATH' shows more of it. The detached processes
/// are those that --detach started with this state folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl list\n  \
                        busctl list --json | jq -r '.detached[].name'\n  \
                        tail -f \"$(busctl list --json | jq -r '.detached[0].log')\"")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The keys of `list --json`.
#[derive(Serialize)]
struct Listing {
    buses: Vec<BusEntry>,
    detached: Vec<DetachedEntry>,
}

/// A detached process.
#[derive(Serialize)]
struct DetachedEntry {
    name: String,
    pid: u32,
    verb: String,
    bus: Option<String>,
    /// When it started, in seconds since 1970.
    since: u64,
    /// How long it has been running, in seconds.
    seconds: u64,
    log: String,
}

/// Prints the list.
///
/// # Errors
/// When the state folder cannot be read.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let buses = buses::all(&context.registry()?)?;
    let detached = context.detached_records()?.all()?.into_iter().map(DetachedEntry::new).collect();
    let listing = Listing { buses, detached };
    if args.json {
        output::print_json(&listing)?;
        return Ok(());
    }
    let buses = listing.buses.iter().map(bus_columns);
    print(["BUS", "SIZE", "AGE", "STATIONS", "INTERFACES", "ON IT"], buses)?;
    let detached = listing.detached.iter().map(DetachedEntry::columns);
    print(["DETACHED", "PID", "VERB", "BUS", "STARTED", "LOG"], detached)?;
    Ok(())
}

/// Prints a table, if there are rows.
fn print<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if let Ok((width, _)) = size() {
            table.set_width(width);
        }
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if table.row_count() > 0 {
        writeln!(output::stdout(), "{}", table.trim_fmt())?;
    }
    Ok(())
}

/// Returns the columns of a bus.
fn bus_columns(bus: &BusEntry) -> [String; 6] {
    let stations = bus.stations.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let age = bus.age_seconds.map_or_else(|| "?".to_owned(), quantity::short_time);
    let on_it = bus.names(|member| member.name.clone());
    let size = quantity::short_size(bus.size);
    [bus.path.clone(), size, age, stations, bus.interfaces.join(" "), on_it]
}

impl DetachedEntry {
    fn new(running: Running) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            name: running.name.to_string(),
            pid: running.process.pid(),
            verb: running.verb,
            bus: running.bus,
            since: running.since,
            seconds: now.saturating_sub(running.since),
            log: running.log.display().to_string(),
        }
    }

    /// Returns the columns of the table.
    fn columns(&self) -> [String; 6] {
        [
            self.name.clone(),
            self.pid.to_string(),
            self.verb.clone(),
            self.bus.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{} ago", quantity::short_time(self.seconds)),
            self.log.clone(),
        ]
    }
}
