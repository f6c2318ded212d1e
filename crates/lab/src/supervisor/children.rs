//! The processes of a lab: how they are started, and what became of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};

use super::space::Space;

/// The most that is kept of what a command prints, in bytes, for each of stdout and stderr.
const MAX_OUTPUT: u64 = 1 << 20;
/// A command that prints more than this is killed, as it is held in memory.
const MAX_PRINTED: u64 = 64 << 20;

/// Why a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One of the commands before the services.
    Exec,
    /// The service of this index.
    Service(usize),
    /// Finds out whether the node is ready.
    Probe,
    /// A client or a check waits for it, under this token.
    Task(u64),
}

/// A process that runs.
#[derive(Debug)]
struct Child {
    node: String,
    purpose: Purpose,
}

/// A process that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) node: String,
    pub(super) purpose: Purpose,
    /// The exit code, or 128 and the number of the signal.
    pub(super) code: u8,
}

/// The processes that were started and have not ended.
#[derive(Debug, Default)]
pub(super) struct Children {
    by_pid: BTreeMap<i32, Child>,
}

/// Where a command of a node runs.
pub(super) struct Place<'a> {
    pub(super) node: &'a str,
    /// Its namespace, if it has one of its own.
    pub(super) space: Option<&'a Space>,
    pub(super) folder: &'a Path,
    pub(super) env: &'a BTreeMap<String, String>,
}

impl Children {
    /// Starts a command for the shell.
    pub(super) fn start(
        &mut self,
        place: &Place<'_>,
        command: &str,
        purpose: Purpose,
        (stdout, stderr): (Stdio, Stdio),
    ) -> io::Result<Pid> {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", command])
            .envs(place.env)
            .current_dir(place.folder)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // A signal to it reaches what it starts as well.
            .process_group(0);
        let child = match place.space {
            Some(space) => space.spawn(&mut shell)?,
            None => shell.spawn()?,
        };
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        self.by_pid.insert(pid, Child { node: place.node.to_owned(), purpose });
        Ok(Pid::from_raw(pid))
    }

    /// Reaps the processes that have ended, also those that lost their parents, and returns those
    /// that were started here.
    pub(super) fn reap(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(_) => return ended,
            };
            let (pid, code) = match status {
                WaitStatus::StillAlive => return ended,
                WaitStatus::Exited(pid, code) => (pid, code & 0xff),
                WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
                _ => continue,
            };
            if let Some(Child { node, purpose }) = self.by_pid.remove(&pid.as_raw()) {
                ended.push(Ended { node, purpose, code: u8::try_from(code).unwrap_or(u8::MAX) });
            }
        }
    }

    /// Returns how many processes of a node run that were started here.
    pub(super) fn count(&self, node: &str) -> usize {
        self.by_pid.values().filter(|child| child.node == node).count()
    }

    /// Sends a signal to all processes of a node that were started here, and their groups.
    pub(super) fn signal(&self, node: &str, signal: Signal) {
        for (pid, _) in self.by_pid.iter().filter(|(_, child)| child.node == node) {
            // Not reaped yet, so the group is theirs, if there is still one.
            let _ = killpg(Pid::from_raw(*pid), signal);
        }
    }

    /// Forgets why the processes of a node run: their ends are no news any more.
    pub(super) fn forget(&mut self, node: &str) {
        self.by_pid.retain(|_, child| child.node != node);
    }

    /// Kills the process group of a command.
    pub(super) fn kill(pid: Pid) {
        let _ = killpg(pid, Signal::SIGKILL);
    }
}

/// Sends a signal to all processes of the lab but this one, which is the first of their namespace.
/// Returns whether there were any.
pub(super) fn signal_all(signal: Signal) -> bool {
    kill(Pid::from_raw(-1), signal).is_ok()
}

/// What a command prints, while it is kept in memory.
#[derive(Debug)]
pub(super) struct Printed {
    stdout: File,
    stderr: File,
}

impl Printed {
    pub(super) fn new() -> io::Result<Self> {
        let file =
            || Ok::<File, io::Error>(File::from(memfd_create("output", MemfdFlags::CLOEXEC)?));
        Ok(Self { stdout: file()?, stderr: file()? })
    }

    /// Returns what a process writes it to.
    pub(super) fn stdio(&self) -> io::Result<(Stdio, Stdio)> {
        let share = |file: &File| Ok::<Stdio, io::Error>(OwnedFd::from(file.try_clone()?).into());
        Ok((share(&self.stdout)?, share(&self.stderr)?))
    }

    /// Returns whether it is too much.
    pub(super) fn is_too_much(&self) -> bool {
        let len = |file: &File| file.metadata().map_or(0, |found| found.len());
        len(&self.stdout) + len(&self.stderr) > MAX_PRINTED
    }

    /// Returns what was written to stdout and stderr.
    pub(super) fn read(mut self) -> (String, String) {
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            let rewound = file.rewind();
            // What cannot be read is as good as not printed.
            let _ = rewound.and_then(|()| file.take(MAX_OUTPUT).read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (read(&mut self.stdout), read(&mut self.stderr))
    }
}
