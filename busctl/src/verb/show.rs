//! `busctl show`: interfaces as `ifconfig` shows them, and buses.

use std::io::{self, Write as _};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::bus_argument::BusArgument;
use crate::bus_file;
use crate::context::Context;
use crate::interface_view::InterfaceView;
use crate::output;

/// Show interfaces, or a bus
///
/// Without an argument, all interfaces. The counters are those of the process that runs the interface, at most a tenth of a
/// second old; when none does, they are the last ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl show\n  \
                        busctl show shmif0 -w 1\n  \
                        busctl show /dev/shm/lan\n  \
                        busctl show shmif0 --json | jq .rx_packets")]
pub struct Args {
    /// An interface, or the path of a bus with a '/' in it
    #[arg(value_name = "IFNAME|BUSPATH")]
    pub subject: Option<BusArgument>,

    /// Show it again every SEC seconds
    #[arg(short = 'w', long = "watch", value_name = "SEC", value_parser = parse_seconds)]
    pub watch: Option<Duration>,

    /// Print JSON: an object, or with -w one per line
    #[arg(long)]
    pub json: bool,
}

/// Shows it, once or until stopped.
///
/// # Errors
/// When there is no such interface, or the file is not a bus.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    loop {
        show(args, context)?;
        let Some(pause) = args.watch else { return Ok(()) };
        output::stdout().flush()?;
        thread::sleep(pause);
        if !args.json {
            writeln!(output::stdout())?;
        }
    }
}

fn show(args: &Args, context: &Context) -> anyhow::Result<()> {
    match &args.subject {
        Some(BusArgument::Path(path)) => {
            let bus = bus_file::look(path)?;
            print(args.json, &bus)?;
        }
        Some(BusArgument::Interface(name)) => {
            let registry = context.registry()?;
            let interface = InterfaceView::new(&registry, &registry.load(*name)?)?;
            print(args.json, &interface)?;
        }
        None => {
            let registry = context.registry()?;
            let (records, damaged) = registry.list()?;
            damaged.iter().for_each(output::warn);
            let interfaces = records
                .iter()
                .map(|record| InterfaceView::new(&registry, record))
                .collect::<Result<Vec<_>, _>>()?;
            if args.json {
                let damaged = damaged.iter().map(ToString::to_string).collect();
                output::print_json(&Listing { interfaces, damaged })?;
            } else {
                interfaces.iter().try_for_each(|interface| print(false, interface))?;
            }
        }
    }
    Ok(())
}

/// `show --json` without an argument.
#[derive(Debug, Serialize)]
struct Listing {
    interfaces: Vec<InterfaceView>,
    /// An error for each record that could not be read.
    damaged: Vec<String>,
}

fn print<T: Serialize + std::fmt::Display>(json: bool, view: &T) -> io::Result<()> {
    if json { output::print_json(view) } else { write!(output::stdout(), "{view}") }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|pause| !pause.is_zero())
        .ok_or_else(|| "it takes a number of seconds above 0, such as 1 or 0.5".to_owned())
}
