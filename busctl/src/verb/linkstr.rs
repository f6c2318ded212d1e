//! `busctl linkstr`: plugs an interface into a bus.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::Serialize;

use crate::bus_argument::NewBus;
use crate::context::Context;
use crate::misuse::{OrMisuse as _, misuse};
use crate::registry::{InterfaceName, Record, check_linkstr};
use crate::{output, registry::apply};

/// Plug an interface into a bus, unplug it, or print its bus
///
/// A missing bus is made. An interface must be down to be plugged in or unplugged. To move it to
/// another bus, unplug it first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl linkstr shmif0 /dev/shm/lan\n  \
                        busctl linkstr shmif0 ./lan.bus --mode 0660\n  \
                        busctl linkstr shmif0\n  \
                        busctl linkstr shmif0 --unset")]
pub(crate) struct Args {
    /// The interface
    #[arg(value_name = "IFNAME")]
    interface: InterfaceName,

    /// The bus: a file, made when it is missing
    #[arg(value_name = "BUSPATH")]
    bus: Option<OsString>,

    /// Unplug it
    #[arg(long, conflicts_with = "bus")]
    unset: bool,

    /// Print its bus as JSON
    #[arg(long, conflicts_with_all = ["bus", "unset"])]
    json: bool,

    /// How a missing bus is made
    #[command(flatten)]
    new_bus: NewBus,
}

/// The keys of `linkstr --json`.
#[derive(Debug, Serialize)]
struct PluggedIn {
    name: InterfaceName,
    linkstr: String,
}

/// Plugs, unplugs, or prints.
///
/// # Errors
/// When the interface does not exist, is up, or is plugged in already; when the path cannot be a
/// bus; when there is no bus to print or to unplug from.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let registry = context.registry()?;
    let name = args.interface;
    if let Some(path) = &args.bus {
        let path = checked(Path::new(path))?;
        apply::change(&registry, &[name], |record| {
            refuse_when_up(record)?;
            if let Some(old) = &record.linkstr {
                let old = old.display();
                let error =
                    anyhow!("{name} is plugged into {old}: first 'busctl linkstr {name} --unset'");
                return Err(misuse(error));
            }
            args.new_bus.options().open_or_create(&path)?;
            record.linkstr = Some(path.clone());
            Ok(())
        })
    } else if args.unset {
        apply::change(&registry, &[name], |record| {
            refuse_when_up(record)?;
            record.bus()?;
            record.linkstr = None;
            Ok(())
        })
    } else {
        let record = registry.load(name)?;
        let linkstr = record.bus()?.display().to_string();
        if args.json {
            output::print_json(&PluggedIn { name, linkstr })?;
        } else {
            writeln!(output::stdout(), "{linkstr}")?;
        }
        Ok(())
    }
}

/// Returns the absolute path. What was typed and what is recorded must both be short enough.
fn checked(typed: &Path) -> anyhow::Result<PathBuf> {
    check_linkstr(typed).misuse()?;
    let absolute = std::path::absolute(typed).misuse()?;
    check_linkstr(&absolute).misuse()?;
    Ok(absolute)
}

fn refuse_when_up(record: &Record) -> anyhow::Result<()> {
    let name = record.name;
    if record.up {
        return Err(misuse(anyhow!(
            "{name} is up: take it down before changing its bus, with 'busctl down {name}'"
        )));
    }
    Ok(())
}
