//! `busctl completions`: what a shell needs to complete command lines.

use std::io::Write as _;

use clap::Command;
use clap_complete::{Shell, generate};

use crate::output;

/// Print a shell's completions
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        source <(busctl completions bash)\n  \
                        busctl completions zsh > ~/.zfunc/_busctl\n  \
                        busctl completions fish > ~/.config/fish/completions/busctl.fish")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Prints them.
///
/// # Errors
/// Whatever writing to stdout gives.
pub(crate) fn run(args: &Args, mut command: Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    // Into memory first: a reader that has gone would be a panic in there.
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    Ok(output::stdout().write_all(&script)?)
}
