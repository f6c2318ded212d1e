//! `busctl show`: interfaces as `ifconfig` shows them, and buses.

mod brief;
mod picture;

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use ratatui::crossterm::terminal::size;
use serde::Serialize;
use shmbus::Bus;

use self::picture::PictureArgs;
use crate::bus_argument::BusArgument;
use crate::bus_view::BusView;
use crate::context::Context;
use crate::interface_view::InterfaceView;
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::quantity;
use crate::rates::{BusMeter, InterfaceMeter, InterfaceRates};
use crate::registry::{Record, Registry};
use crate::style::Palette;

/// Show interfaces, or a bus
///
/// Without an argument, all interfaces. With the path of a bus, also the ports on it that processes
/// of the same user run. The counters come from the process that runs the interface
/// and are at most a tenth of a second old; when no process runs it, they are the last ones. With
/// -w there are also rates, in frames and bits per second. The rate of a bus says 'about' when a
/// part was overwritten before it could be counted.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl show\n  \
                        busctl show shmif0 -w 1\n  \
                        busctl show /dev/shm/lan\n  \
                        busctl show shmif0 --json | jq .rx_packets\n  \
                        busctl show --brief\n  \
                        busctl show --svg > lan.svg")]
pub(crate) struct Args {
    /// An interface, or the path of a bus with a '/' in it
    #[arg(value_name = "IFNAME|BUSPATH")]
    subject: Option<BusArgument>,

    /// Repeat every SEC seconds, with rates
    #[arg(short = 'w', long = "watch", value_name = "SEC", value_parser = parse_seconds)]
    watch: Option<Duration>,

    /// Print JSON: one object, or with -w one per line
    #[arg(long)]
    json: bool,

    /// Print a line for each interface, bus, station and port, as 'ip -br' does
    #[arg(long, visible_alias = "br", conflicts_with_all = ["json", "watch"])]
    brief: bool,

    /// Draw what is on the buses of this user, or on this one
    #[command(flatten)]
    picture: PictureArgs,
}

/// Shows interfaces or a bus, once or until stopped.
///
/// # Errors
/// When there is no such interface, or the file is not a bus.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    if args.picture.is_wanted() {
        return picture::print(&args.picture, args.subject.as_ref(), context);
    }
    if args.brief {
        return brief::print(args.subject.as_ref(), context);
    }
    let palette = Palette::of(&io::stdout());
    let mut show =
        Show { args, context, palette, interfaces: InterfaceMeter::default(), bus: None };
    let Some(pause) = args.watch else { return Ok(write!(output::stdout(), "{}", show.once()?)?) };
    let redraws = !args.json && io::stdout().is_terminal();
    if redraws {
        write!(output::stdout(), "{CLEAR}")?;
    }
    let stop = Shutdown::on_signals()?;
    let mut next = Instant::now();
    loop {
        let text = show.once()?;
        if redraws {
            let height = size().map_or(usize::MAX, |(_, height)| height.into());
            write!(output::stdout(), "{}", in_place(&text, height))?;
        } else {
            write!(output::stdout(), "{text}")?;
        }
        output::stdout().flush()?;
        // Each time counts from the last one, so that the time to print does not add up.
        let now = Instant::now();
        next = (next + pause).max(now);
        if stop.sleep(next.duration_since(now)) {
            return Ok(());
        }
        if !args.json && !redraws {
            writeln!(output::stdout())?;
        }
    }
}

struct Show<'a> {
    args: &'a Args,
    context: &'a Context,
    palette: Palette,
    interfaces: InterfaceMeter,
    bus: Option<BusMeter>,
}

impl Show<'_> {
    /// Returns the text of one look.
    fn once(&mut self) -> anyhow::Result<String> {
        let json = self.args.json;
        let mut text = String::new();
        match &self.args.subject {
            Some(BusArgument::Path(path)) => {
                let view = BusView::read(path)?.with_palette(self.palette);
                let rates = if self.args.watch.is_some() {
                    Some(self.bus_meter(path)?.sample())
                } else {
                    None
                };
                put(&mut text, json, &WithRates { view, rates })?;
            }
            Some(BusArgument::Interface(name)) => {
                let registry = self.context.registry()?;
                put(&mut text, json, &self.interface(&registry, &registry.load(*name)?)?)?;
            }
            None => {
                let registry = self.context.registry()?;
                let (records, damaged) = registry.list()?;
                damaged.iter().for_each(output::warn);
                let interfaces = records
                    .iter()
                    .map(|record| self.interface(&registry, record))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                if json {
                    let damaged = damaged.iter().map(ToString::to_string).collect();
                    text = serde_json::to_string(&Listing { interfaces, damaged })? + "\n";
                } else {
                    let mut each = interfaces.iter();
                    each.try_for_each(|interface| put(&mut text, false, interface))?;
                }
            }
        }
        Ok(text)
    }

    fn interface(
        &mut self,
        registry: &Registry,
        record: &Record,
    ) -> anyhow::Result<WithRates<InterfaceView, InterfaceRates>> {
        let view = InterfaceView::new(registry, record)?.with_palette(self.palette);
        let rates = self.args.watch.map(|_| self.interfaces.sample(registry, record.name));
        Ok(WithRates { view, rates })
    }

    /// Returns the meter of the bus; a new one when the bus was replaced.
    fn bus_meter(&mut self, path: &Path) -> anyhow::Result<&mut BusMeter> {
        let meter = match self.bus.take().filter(|meter| !meter.is_removed()) {
            Some(meter) => meter,
            None => BusMeter::new(Bus::open_read_only(path)?)?,
        };
        Ok(self.bus.insert(meter))
    }
}

/// A view, and with -w its rates.
#[derive(Debug, Serialize)]
struct WithRates<S, R> {
    #[serde(flatten)]
    view: S,
    #[serde(flatten)]
    rates: Option<R>,
}

impl<S: fmt::Display, R: fmt::Display> fmt::Display for WithRates<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)?;
        self.rates.as_ref().map_or(Ok(()), |rates| rates.fmt(f))
    }
}

/// The keys of `show --json` without an argument.
#[derive(Debug, Serialize)]
struct Listing {
    interfaces: Vec<WithRates<InterfaceView, InterfaceRates>>,
    /// An error for each record that could not be read.
    damaged: Vec<String>,
}

fn put<T: Serialize + fmt::Display>(text: &mut String, json: bool, view: &T) -> anyhow::Result<()> {
    if json {
        text.push_str(&serde_json::to_string(view)?);
        text.push('\n');
    } else {
        text.push_str(&view.to_string());
    }
    Ok(())
}

/// Clears a terminal.
const CLEAR: &str = "\x1b[2J";

/// Returns what draws a text over an earlier one, on a terminal with `height` lines. What does not
/// fit is left out.
fn in_place(text: &str, height: usize) -> String {
    let lines = text.lines().take(height.saturating_sub(1));
    let drawn: String = lines.flat_map(|line| [line, "\x1b[K\r\n"]).collect();
    format!("\x1b[H{drawn}\x1b[J")
}

/// The longest time between two prints.
const LONGEST: Duration = Duration::from_secs(1_000_000);

fn parse_seconds(text: &str) -> Result<Duration, String> {
    quantity::seconds(text).filter(|pause| !pause.is_zero() && *pause <= LONGEST).ok_or_else(|| {
        "it takes a number of seconds above 0 and up to 1000000, such as 1 or 0.5".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_drawn_over_an_earlier_one() {
        assert_eq!(in_place("a\nb\n", 9), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
        assert_eq!(in_place("a\nb\nc\n", 3), in_place("a\nb\n", 3));
    }
}
