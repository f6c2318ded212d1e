//! `busctl destroy`: removes interfaces.

use crate::context::Context;
use crate::registry::{InterfaceName, apply};

/// Destroy interfaces
///
/// The buses stay as they are. Damaged records are removed, too. A process that runs the interface
/// releases it within a second: a node continues without it; other verbs, such as host, ping and
/// attach, end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl destroy shmif0\n  busctl destroy shmif0 memif0/1")]
pub(crate) struct Args {
    /// The interfaces
    #[arg(value_name = "IFNAME", required = true)]
    interfaces: Vec<InterfaceName>,
}

/// Destroys the interfaces, all or none.
///
/// # Errors
/// When one does not exist, or a process that runs one does not release it.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let registry = context.registry()?;
    let edit = registry.edit()?;
    let mut names = args.interfaces.clone();
    names.sort_unstable();
    names.dedup();
    for &name in &names {
        edit.check_destroy(name)?;
    }
    for &name in &names {
        edit.destroy(name)?;
    }
    // A runner needs the lock to release the interface.
    drop(edit);
    let released: Vec<_> =
        names.iter().map(|name| apply::wait_until_released(&registry, *name)).collect();
    released.into_iter().collect()
}
