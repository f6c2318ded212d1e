//! `busctl up`: sets interfaces up.

use crate::context::Context;
use crate::output;
use crate::registry::{InterfaceName, Kind, Registry, RegistryError, apply};

/// Set interfaces up
///
/// The state is recorded. When a process runs the interface, busctl waits up to 1 s for it to
/// follow. A memif, tap or sock interface needs a node: without one, busctl says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl up shmif0\n  busctl up shmif0 shmif1")]
pub(crate) struct Args {
    /// The interfaces, which must be plugged into a bus
    #[arg(value_name = "IFNAME", required = true)]
    interfaces: Vec<InterfaceName>,
}

/// Sets the interfaces up, all or none.
///
/// # Errors
/// When one does not exist or has no bus, or the process that runs it does not follow.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let registry = context.registry()?;
    apply::change(&registry, &args.interfaces, |record| {
        record.bus()?;
        record.up = true;
        Ok(())
    })?;
    let waiting = without_node(&registry, &args.interfaces)?;
    if !waiting.is_empty() {
        output::note(&format!(
            "no process runs {} yet; 'busctl node' does",
            waiting.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(())
}

/// Returns the interfaces that need a node and have none. A shmif interface is run by whatever uses
/// it.
fn without_node(
    registry: &Registry,
    names: &[InterfaceName],
) -> Result<Vec<InterfaceName>, RegistryError> {
    let mut waiting = Vec::new();
    for &name in names.iter().filter(|name| name.kind() != Kind::Shmif) {
        if registry.runner(name)?.is_none() {
            waiting.push(name);
        }
    }
    Ok(waiting)
}
