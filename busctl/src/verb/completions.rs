//! `busctl completions`: the completion script of a shell.

use std::io::Write as _;

use clap::Command;
use clap_complete::{Shell, generate};

use crate::output;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                        source <(busctl completions bash)\n  \
                        busctl completions zsh > ~/.zfunc/_busctl\n  \
                        busctl completions fish > ~/.config/fish/completions/busctl.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout cannot be written to.
pub(crate) fn run(args: &Args, mut command: Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    // Into memory first: the generator panics when it cannot write.
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    Ok(output::stdout().write_all(&script)?)
}
