//! `busctl list`: the buses of this user, and what runs detached.

mod buses;

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{Table, presets};
use serde::Serialize;

use self::buses::BusEntry;
use crate::context::Context;
use crate::detached::Running;
use crate::output;

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
    let buses = listing.buses.iter().map(BusEntry::columns);
    print(["BUS", "SIZE", "STATIONS", "INTERFACES"], buses)?;
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

/// Returns a time in the largest unit that it fills, such as `3 min ago`.
fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} d ago", seconds / 86_400),
    }
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
            age(Duration::from_secs(self.seconds)),
            self.log.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let ages = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 1_000_000];
        let texts = ages.map(|seconds| age(Duration::from_secs(seconds)));
        let right = ["0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "1 d", "11 d"];
        assert_eq!(texts, right.map(|age| format!("{age} ago")));
    }
}
