//! The process that becomes CMD.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;

use super::channel::Channel;
use super::messages::{Go, NotRun};
use crate::output;
use crate::process::die_with_parent;
use crate::process::signals;

/// The exit code when there is no such program, as of a shell.
const NOT_FOUND: u8 = 127;
/// The exit code when the program cannot be run, as of a shell.
const NOT_RUN: u8 = 126;

/// Becomes CMD. Signals that came meanwhile reach this process first, which is the same one.
pub(super) fn run(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let channel = Channel::of_stdin().context("cannot reach the first process")?;
    let (Go, mut descriptors) = channel.receive()?;
    signals::unblock().context("cannot receive signals")?;
    let [program, arguments @ ..] = command else { return Ok(ExitCode::FAILURE) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(descriptors.pop().map_or_else(Stdio::null, Stdio::from));
    die_with_parent::keep_from(&mut command);
    // These are for 'run', which notifies the supervisor itself.
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"] {
        command.env_remove(variable);
    }
    let error = command.exec();
    output::error(&format!("cannot run {}: {error}", program.to_string_lossy()));
    // The exit code says the same, should the first process be gone.
    let _ = channel.send(&NotRun, &[]);
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    Ok(ExitCode::from(if is_missing { NOT_FOUND } else { NOT_RUN }))
}
