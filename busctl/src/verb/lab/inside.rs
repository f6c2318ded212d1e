//! Commands in a node, and on the bus of a LAN.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use ::lab::{Client, Folder};
use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::misuse::misuse;
use crate::output;
use crate::process::name::program as program_name;
use crate::process::signals::Signals;

/// The exit code when there is no such program, as of a shell.
const NOT_FOUND: u8 = 127;
/// The exit code when the program cannot be run, as of a shell.
const NOT_RUN: u8 = 126;

/// Runs a command in a node, and returns its exit code.
pub(super) fn run(folder: &Folder, node: &str, words: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let mut words = words.into_iter();
    let program = words.next().context("there is no command")?;
    let mut command = Command::new(&program);
    command.args(words);
    let mut client = Client::connect(folder)?;
    ::lab::enter(&mut client, node, &mut command)?;
    drop(client);
    match command.spawn() {
        // Not before: the command would inherit signals that are blocked, and be deaf to ^C.
        Ok(child) => wait(child, &Signals::block().context("cannot handle signals")?),
        Err(error) => {
            output::error(&format!("cannot run {}: {error}", program.to_string_lossy()));
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            Ok(ExitCode::from(if is_missing { NOT_FOUND } else { NOT_RUN }))
        }
    }
}

/// Returns the user's shell.
pub(super) fn shell() -> OsString {
    let own = std::env::var_os("SHELL").filter(|shell| Path::new(shell).is_file());
    own.unwrap_or_else(|| "/bin/sh".into())
}

/// Waits for the command, and hands signals on to it.
fn wait(mut child: Child, signals: &Signals) -> anyhow::Result<ExitCode> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    loop {
        if let Some(status) = child.try_wait()? {
            let signal = status.signal().map(|signal| 128 + signal);
            let code = status.code().or(signal).unwrap_or(1);
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
        }
        match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for signals"),
        }
        while let Some(received) = signals.next() {
            if let Some(signal) = received.to_hand_on() {
                // It has not been waited for, so the pid is its own.
                let _ = kill(pid, signal);
            }
        }
    }
}

/// Becomes `busctl dump` on a bus.
pub(super) fn dump(bus: &Path, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    if !bus.exists() {
        let name = bus.file_name().unwrap_or_default().to_string_lossy();
        return Err(misuse(anyhow!(
            "the lab has no LAN {name}; 'busctl lab show --json' lists them"
        )));
    }
    let mut program = Command::new(std::env::current_exe().context("cannot find this program")?);
    Err(program.arg0(program_name()).arg("dump").arg(bus).args(arguments).exec())
        .context("cannot run busctl dump")
}
