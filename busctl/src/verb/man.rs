//! `busctl man`: manual pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Command, ValueHint};
use clap_mangen::generate_to;

use crate::misuse::misuse;

/// Write the manual pages into a folder
///
/// One page for busctl and one for each verb. A missing folder is made; pages of the same names are
/// replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        busctl man ~/.local/share/man/man1 && man busctl-dump\n  \
                        busctl man . && man ./busctl.1")]
pub(crate) struct Args {
    /// The folder to write to
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

/// Writes the pages.
///
/// # Errors
/// When the folder cannot be made or written to.
pub(crate) fn run(args: &Args, command: Command) -> anyhow::Result<()> {
    let folder = &args.folder;
    // The verb 'help' needs no page.
    let command = command.disable_help_subcommand(true);
    std::fs::create_dir_all(folder).and_then(|()| generate_to(command, folder)).or_else(|error| {
        let passing = port::is_passing(&error);
        let error = Err(error)
            .with_context(|| format!("cannot write manual pages to {}", folder.display()));
        if passing { error } else { error.map_err(misuse) }
    })
}
