//! Processes of a node that have left the groups of its commands, as daemons do: a `rump_server`
//! leads a session of its own. Their parents have ended, so the kernel knows no more whose they are.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long killed processes may take to end. The kernel keeps one that waits for a disk.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most of an environment that is read, in bytes.
const MAX_ENVIRONMENT: u64 = 1 << 20;

/// Kills the processes for which `is_one` holds, and those that these have started meanwhile. Waits
/// until they are gone, for half a second at most.
pub(super) fn kill_where(is_one: impl Fn(i32) -> bool) {
    // Where a container hides parts of /proc, it may be that of another pid namespace.
    if !fs::read_link("/proc/self").is_ok_and(|pid| pid == *process::id().to_string()) {
        return;
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let killed: Vec<OwnedFd> =
            pids.filter(|pid| *pid > 1).filter_map(|pid| kill(pid, &is_one)).collect();
        if killed.is_empty() || !killed.iter().all(|process| has_ended(process, end)) {
            return;
        }
    }
}

/// Kills a process if `is_one` holds for it. Returns what polls readable when it has ended.
fn kill(pid: i32, is_one: impl Fn(i32) -> bool) -> Option<OwnedFd> {
    if !is_one(pid) {
        return None;
    }
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // The number may have become that of another.
    (is_one(pid) && pidfd_send_signal(&process, Signal::KILL).is_ok()).then_some(process)
}

/// Waits for the end of a process, until `end`.
fn has_ended(process: &OwnedFd, end: Instant) -> bool {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], left) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return false,
        }
    }
}

/// Returns whether a process was started with this variable in its environment.
pub(super) fn has_variable(pid: i32, name: &str, value: &Path) -> bool {
    let mut environment = Vec::new();
    // One that has ended has none.
    let read = File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut environment));
    let variable = [name.as_bytes(), b"=", value.as_os_str().as_bytes()].concat();
    read.is_ok() && environment.split(|byte| *byte == 0).any(|found| found == variable)
}
