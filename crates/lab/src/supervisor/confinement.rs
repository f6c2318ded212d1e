//! The namespaces that all of a lab is in.
//!
//! The user becomes root of a user namespace, which gives the right to make networks, and the
//! supervisor becomes the first process of a pid namespace: when it ends, for any reason, the kernel
//! ends every process of the lab. Root needs no user namespace.

use std::fs;
use std::io;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{getegid, geteuid};

use crate::error::{LabError, system};

const NONE: Option<&str> = None;

/// Makes the namespaces, starts `supervisor` as the first process in them, and waits for its end.
///
/// This process has only one thread, as the kernel asks for.
///
/// # Errors
/// When the system denies the namespaces, or the program cannot be started.
pub fn confine(mut supervisor: Command) -> Result<ExitCode, LabError> {
    enter().map_err(|source| LabError::Namespaces { source })?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
        .map_err(system("make the mounts private"))?;
    let mut child = supervisor.spawn().map_err(system("start this program again"))?;
    // What it was started with is the child's alone: its other end is to see the child's end.
    drop(supervisor);
    let status = child.wait().map_err(system("wait for the supervisor"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn enter() -> io::Result<()> {
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        match unshare(own) {
            // Root of a container may have lost the right to it.
            Err(Errno::EPERM) => {}
            entered => return Ok(entered?),
        }
    }
    unshare(own | CloneFlags::CLONE_NEWUSER)?;
    // Otherwise groups could be dropped that deny access to a file.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Allows this process as many descriptors as the system does: a large lab has several for each
/// interface.
pub(super) fn allow_descriptors() {
    // A lab that needs more says so when there are none left.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Mounts a `/proc` that shows the processes of this pid namespace. Where a container hides parts of
/// `/proc` the kernel does not allow that, and the old one stays: it shows all processes.
pub(super) fn mount_proc() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let _ = mount(Some("proc"), "/proc", Some("proc"), flags, NONE);
}
