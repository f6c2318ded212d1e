//! `busctl man`: manual pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueHint;
use clap_mangen::generate_to;

use crate::context::Context;
use crate::{bus_file, cli, exit};

/// Write the manual pages into a folder
///
/// One page for busctl and one for each verb. The folder is made when there is none; pages of the same names are replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl man ~/.local/share/man/man1 && man busctl-dump\n  \
                        busctl man . && man ./busctl.1")]
pub struct Args {
    /// Where to put them
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
}

/// Writes them.
///
/// # Errors
/// When the folder cannot be made or written to.
pub fn run(args: &Args, _context: &Context) -> anyhow::Result<()> {
    let folder = &args.folder;
    // 'help' is no verb to read about.
    let command = cli::command().disable_help_subcommand(true);
    std::fs::create_dir_all(folder).and_then(|()| generate_to(command, folder)).or_else(|error| {
        let passing = bus_file::is_passing(&error);
        let error = Err(error).with_context(|| format!("cannot write manual pages to {}", folder.display()));
        if passing { error } else { error.map_err(exit::misuse) }
    })
}
