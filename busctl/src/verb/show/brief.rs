//! A line for each interface, bus, station and port, in the columns of `ip -br link`.

use std::io::Write as _;

use node::Link;

use crate::bus_argument::BusArgument;
use crate::buses;
use crate::context::Context;
use crate::interface_view::InterfaceView;
use crate::output;
use crate::quantity::{counted, short_size};
use crate::registry::{Record, Registry};
use crate::survey::{Surveyed, SurveyedBus, Surveyor, What};

/// Prints the lines: all interfaces and buses without a subject.
///
/// # Errors
/// When there is no such interface, or the file is no bus.
pub(super) fn print(subject: Option<&BusArgument>, context: &Context) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    match subject {
        Some(BusArgument::Path(path)) => {
            let bus = Surveyor::default().look_at(buses::one(path)?);
            lines.push(bus_line(&bus));
            lines.extend(bus.on_it.iter().map(row_line));
        }
        Some(BusArgument::Interface(name)) => {
            let registry = context.registry()?;
            lines.push(interface_line(&registry, &registry.load(*name)?)?);
        }
        None => {
            let registry = context.registry()?;
            let (records, damaged) = registry.list()?;
            damaged.iter().for_each(output::warn);
            for record in &records {
                lines.push(interface_line(&registry, record)?);
            }
            for bus in Surveyor::default().look(&registry)?.buses {
                lines.push(bus_line(&bus));
                lines.extend(bus.on_it.iter().map(row_line));
            }
        }
    }
    let mut stdout = output::stdout();
    for line in lines {
        writeln!(stdout, "{}", line.trim_end())?;
    }
    Ok(())
}

fn line(name: &str, state: &str, address: &str, more: &str) -> String {
    format!("{name:<24} {state:<8} {address:<17} {more}")
}

fn interface_line(registry: &Registry, record: &Record) -> anyhow::Result<String> {
    let InterfaceView { name, link, mac, flags, linkstr, .. } =
        InterfaceView::new(registry, record)?;
    let [mac, linkstr] = [mac, linkstr].map(|text| text.unwrap_or_else(|| "-".to_owned()));
    let more = format!("<{}> {linkstr}", flags.join(",").to_uppercase());
    // The bus of an interface that is down may well be there.
    let state = if flags.contains(&"up") { link } else { "down" };
    Ok(line(&name.to_string(), &state.to_uppercase(), &mac, &more))
}

fn bus_line(bus: &SurveyedBus) -> String {
    let entry = &bus.entry;
    let stations = entry
        .stations
        .map_or_else(|| "? stations".to_owned(), |count| counted(count as u64, "station"));
    line(
        &entry.path,
        if bus.entry.locked { "LOCKED" } else { "UP" },
        &short_size(entry.size),
        &stations,
    )
}

fn row_line(row: &Surveyed) -> String {
    let state = match row.link {
        Some(Link::Up) => "UP",
        Some(Link::Down) => "DOWN",
        Some(Link::Listening) => "LISTENS",
        Some(Link::Blocked) => "BLOCKED",
        None if row.what == What::Remote => "-",
        None => "UNKNOWN",
    };
    let counters = row.counters.map_or_else(String::new, |counters| {
        format!("in {} out {} lost {}", counters.rx_packets, counters.tx_packets, row.lost())
    });
    let address = row.mac.as_deref().unwrap_or_else(|| row.what.word());
    let name = row.port.as_ref().map_or_else(|| row.name.clone(), |_| row.full_name());
    line(&format!("  {name}"), state, address, &counters)
}
