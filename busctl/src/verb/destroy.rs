//! `busctl destroy`: removes interfaces.

use crate::context::Context;
use crate::registry::InterfaceName;
use crate::registry::apply;

/// Destroy interfaces
///
/// Their buses stay as they are. A damaged record is removed too. Where a process runs one of them, it lets go within a second:
/// a node goes on without it; a host, a ping and the like end, and so does 'busctl attach'.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  busctl destroy shmif0\n  busctl destroy shmif0 memif0/1")]
pub(crate) struct Args {
    /// The interfaces
    #[arg(value_name = "IFNAME", required = true)]
    pub interfaces: Vec<InterfaceName>,
}

/// Destroys the interfaces, all or none.
///
/// # Errors
/// When one does not exist, or a process that runs one does not let go.
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
    // Whoever is to let go needs the lock to be free.
    drop(edit);
    let released: Vec<_> = names.iter().map(|name| apply::wait_until_released(&registry, *name)).collect();
    released.into_iter().collect()
}
