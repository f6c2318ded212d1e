//! The processes of a lab: this program again, in the namespaces of the lab.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use ::lab::Folder;
use port::trunk::OpenTrunk;

use crate::process::die_with_parent;
use crate::process::name::program as program_name;

/// Opens trunk ports, where this program is built with them.
#[cfg(feature = "trunk")]
const TRUNKS: Option<OpenTrunk> = Some(trunk::open);
#[cfg(not(feature = "trunk"))]
const TRUNKS: Option<OpenTrunk> = None;

/// What a process of `lab up` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Stage {
    /// Makes the namespaces, and starts the supervisor as the first process in them.
    Confine,
    /// Supervises the lab.
    Supervise,
}

/// Returns the start of a process that does `stage` for the lab in `folder`.
pub(super) fn command(stage: Stage, folder: &Folder) -> Command {
    let stage = match stage {
        Stage::Confine => "confine",
        Stage::Supervise => "supervise",
    };
    // The path of the program may be gone.
    let mut program = Command::new("/proc/self/exe");
    program.arg0(program_name()).args(["lab", "stage", stage]).arg(folder.path());
    die_with_parent::keep_from(&mut program);
    // These are for the process that started the lab.
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
        program.env_remove(variable);
    }
    program
}

/// Does what this process was started for.
pub(super) fn run(stage: Stage, folder: &Folder) -> anyhow::Result<ExitCode> {
    Ok(match stage {
        Stage::Confine => ::lab::confine(command(Stage::Supervise, folder))?,
        Stage::Supervise => ::lab::supervise(folder, TRUNKS)?,
    })
}
