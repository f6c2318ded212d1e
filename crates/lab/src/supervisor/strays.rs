//! Processes of a node that have left the groups of its commands, as daemons do: a `rump_server`
//! leads a session of its own. Their parents have ended, so the kernel knows no more whose they are.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often killed processes are looked for again, and how long to wait between two looks: they end
/// a little later, and may have started others meanwhile.
const LOOKS: usize = 100;
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// The most of an environment that is read, in bytes.
const MAX_ENVIRONMENT: u64 = 1 << 20;

/// Kills the processes of the lab for which `is_one` holds, and waits until they are gone, for
/// 100 ms at most.
pub(super) fn kill_where(is_one: impl Fn(i32) -> bool) {
    // Where a container hides parts of /proc, it may be that of another pid namespace.
    if !fs::read_link("/proc/self").is_ok_and(|pid| pid == *process::id().to_string()) {
        return;
    }
    let mut killed = BTreeSet::new();
    for _ in 0..LOOKS {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        for pid in pids.filter(|pid| *pid > 1 && is_one(*pid)) {
            if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
                killed.insert(pid);
            }
        }
        killed.retain(|pid| !has_ended(*pid));
        if killed.is_empty() {
            return;
        }
        thread::sleep(LOOK_PAUSE);
    }
}

/// Returns whether a process has closed its files, whether or not it was reaped since.
fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which is in brackets and may contain some.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
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
