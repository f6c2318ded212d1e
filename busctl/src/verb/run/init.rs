//! The first process of the namespace. It runs CMD, reaps what others leave, and hands signals on.
//! When it ends, for any reason, the kernel ends every process of the namespace.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::thread::{CapabilitySet, capabilities, clear_ambient_capability_set, set_capabilities};

use super::channel::Channel;
use super::files;
use super::messages::{FromInside, Go, NotRun};
use super::stage::{self, Stage};
use crate::process::signals::Signals;

/// Runs CMD, and returns its status as an exit code.
pub(super) fn run(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let channel = Channel::of_stdin().context("cannot reach busctl run")?;
    let signals = Signals::block().context("cannot handle signals")?;
    channel.send(&FromInside::Ready, &[])?;
    let (Go, mut descriptors) = channel.receive()?;
    // Should 'run' be killed before this call, the channel says so. Should this process be stopped
    // when 'run' is killed, the signal ends it all the same.
    set_pdeathsig(Signal::SIGKILL).context("cannot end with busctl run")?;
    // Where a container hides parts of /proc, the old one stays: it shows all processes.
    let _ = files::mount_proc();
    drop_rights().context("cannot drop the right to mount")?;
    let (to_child, theirs) = Channel::pair().context("cannot make a channel")?;
    let child = stage::command(Stage::Exec, command, theirs)
        .spawn()
        .context("cannot start this program again")?;
    let child = Pid::from_raw(i32::try_from(child.id())?);
    // A child that was killed by then is reaped below.
    let _ = to_child.send(&Go, &descriptors.iter().map(AsFd::as_fd).collect::<Vec<_>>());
    // CMD alone keeps its stdin open.
    descriptors.clear();
    // The child closes its end when it becomes CMD.
    if to_child.receive::<NotRun>().is_err() {
        channel.send(&FromInside::Running, &[])?;
    }
    loop {
        if let Some(code) = reap(child)? {
            return Ok(ExitCode::from(code));
        }
        let mut events = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut events, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for signals"),
        }
        if events[1].any() == Some(true) {
            // 'run' is gone.
            return Ok(ExitCode::FAILURE);
        }
        while let Some(received) = signals.next() {
            if let Some(signal) = received.to_hand_on() {
                // CMD has not been waited for, so the pid is its own.
                let _ = kill(child, signal);
            }
        }
    }
}

/// Reaps all processes that have ended, and returns the exit code of CMD if it is among them.
fn reap(child: Pid) -> anyhow::Result<Option<u8>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(status) => {
                if let Some((pid, code)) = exit_code(status)
                    && pid == child
                {
                    return Ok(Some(code));
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for the command"),
        }
    }
}

/// Returns which process has ended, and its status as a shell tells it: 128 and the number of the
/// signal that killed it.
pub(super) fn exit_code(status: WaitStatus) -> Option<(Pid, u8)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((pid, u8::try_from(code & 0xff).unwrap_or(u8::MAX))),
        WaitStatus::Signaled(pid, signal, _) => Some((pid, signal_code(signal))),
        _ => None,
    }
}

/// Returns the exit code that stands for a process killed by `signal`.
pub(super) fn signal_code(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)
}

/// Drops the right that setup has kept for this process.
fn drop_rights() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let mut sets = capabilities(None)?;
    sets.inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, sets)?)
}
