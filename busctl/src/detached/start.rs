//! The process that starts a detached one and waits until it is ready.

use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode};

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use super::Request;
use super::name::DetachedName;
use super::record::Records;
use crate::misuse::misuse;
use crate::output;
use crate::process::die_with_parent;
use crate::process::name::program;
use crate::process::sd_notify::SdNotify;
use crate::process::shutdown::Shutdown;

/// What the detached process writes when it is ready.
pub(super) const READY: u8 = b'R';
/// As many processes may have the default name of one verb on one bus.
const MAX_NUMBER: u32 = 10_000;

/// What is printed with `--json`.
#[derive(Serialize)]
struct Started<'a> {
    ready: bool,
    name: &'a str,
    pid: u32,
    log: String,
}

/// Starts the command line of this process again, detached, and waits until it is ready. Prints its
/// name then. A request to stop ends the new process as well.
///
/// Returns the exit code: that of the detached process when it ended before it was ready. Its error
/// is printed already.
///
/// # Errors
/// When the name is taken, the state folder cannot be written, or no process can be started.
pub(crate) fn start(records: &Records, request: &Request) -> anyhow::Result<ExitCode> {
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    let (name, record) = claim(records, request)?;
    let (mut pipe, theirs) = io::pipe()?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.arg0(program()).arg(format!("--detached-as={name}")).args(std::env::args_os().skip(1));
    command.stdin(record).stdout(theirs);
    // The supervisor of this process follows the new one, and its watchdog with it.
    if std::env::var("WATCHDOG_PID").is_ok_and(|pid| pid == std::process::id().to_string()) {
        command.env_remove("WATCHDOG_PID");
    }
    die_with_parent::keep_from(&mut command);
    let mut child = command.spawn().context("cannot start this program again")?;
    // This process's ends of what the new one has.
    drop(command);
    if !is_ready(&mut pipe, &mut child, &stop)? {
        let status = child.wait()?;
        if let Some(signal) = status.signal() {
            bail!("{name} was ended by signal {signal} before it was ready");
        }
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
    }
    SdNotify::from_environment().successor_ready(child.id());
    if request.json {
        let log = records.log_path(&name).display().to_string();
        let started = Started { ready: true, name: name.as_str(), pid: child.id(), log };
        output::print_json(&started)?;
    } else {
        writeln!(output::stdout(), "{name}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Claims the name that the user chose, or the first default name that is free.
fn claim(records: &Records, request: &Request) -> anyhow::Result<(DetachedName, File)> {
    if let Some(name) = &request.name {
        let Some(record) = records.claim(name)? else {
            return Err(misuse(anyhow!(
                "there is a {name} already: 'busctl list' shows it, 'busctl stop {name}' ends it"
            )));
        };
        return Ok((name.clone(), record));
    }
    let first = request.default_name();
    for number in 1..MAX_NUMBER {
        let name = if number == 1 { first.clone() } else { first.numbered(number) };
        if let Some(record) = records.claim(&name)? {
            return Ok((name, record));
        }
    }
    bail!("all names from {first} on are taken; choose one with --detach=NAME")
}

/// Waits until the process is ready; returns `false` when it ends. A request to stop is passed on.
fn is_ready(pipe: &mut PipeReader, child: &mut Child, stop: &Shutdown) -> anyhow::Result<bool> {
    let stopped = stop.wait([pipe.as_fd()], None);
    if stopped {
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        // It is not reaped yet, so the pid is its own.
        let _ = kill(pid, Signal::SIGTERM);
    }
    let mut byte = [0];
    let is_ready = loop {
        match pipe.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read? == 1 && byte == [READY],
        }
    };
    // One that was ready at the same moment ends, too.
    Ok(is_ready && !stopped)
}
