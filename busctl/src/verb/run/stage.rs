//! The processes of `run`: this program again, in new namespaces.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::process::die_with_parent;
use crate::process::name::program as program_name;

/// What a process of `run` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Stage {
    /// Makes the namespaces.
    Setup,
    /// Is the first process in them, and starts CMD.
    Init,
    /// Becomes CMD.
    Exec,
}

/// Returns the start of a process that does `stage` for CMD. Signals that are blocked here are
/// blocked there.
pub(super) fn command(stage: Stage, command: &[OsString], stdin: impl Into<Stdio>) -> Command {
    let stage = match stage {
        Stage::Setup => "setup",
        Stage::Init => "init",
        Stage::Exec => "exec",
    };
    // The path of the program may be gone, or hidden in a namespace.
    let mut program = Command::new("/proc/self/exe");
    program.arg0(program_name()).args(["run", "--stage", stage, "--"]).args(command).stdin(stdin);
    die_with_parent::keep_from(&mut program);
    program
}
