//! Which process it is. A pid alone does not say: it is used again when its process has ended, and
//! means another process in another pid namespace.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, known by its pid and by when it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    pid: u32,
    /// In clock ticks since the machine was started.
    started: u64,
}

/// A process that was found. Its descriptor polls readable when the process has ended.
#[derive(Debug)]
pub(crate) struct FoundProcess(OwnedFd);

impl ProcessIdentity {
    /// Returns the identity of this process.
    ///
    /// # Errors
    /// When `/proc` does not say when it was started.
    pub(crate) fn own() -> io::Result<Self> {
        let pid = std::process::id();
        Ok(Self { pid, started: started(pid)? })
    }

    /// Returns the pid.
    pub(crate) fn pid(self) -> u32 {
        self.pid
    }

    /// Finds the process; none when it has ended, or lives in another pid namespace.
    ///
    /// # Errors
    /// When the system has no descriptor for it.
    pub(crate) fn find(self) -> io::Result<Option<FoundProcess>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The descriptor keeps its process. So when the times are equal now, it is this one.
        let found = started(self.pid).is_ok_and(|started| started == self.started);
        Ok(found.then_some(FoundProcess(descriptor)))
    }
}

impl FoundProcess {
    /// Asks the process to end.
    ///
    /// # Errors
    /// When this process may not. A process that has ended is no error.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Kills the process.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate).
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Returns whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut ended, PollTimeout::ZERO), Ok(1..))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for FoundProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns when a process was started, in clock ticks since the machine was.
fn started(pid: u32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse_started(&String::from_utf8_lossy(&stat))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in /proc"))
}

/// Reads field 22 of `stat`. The name in field 2 may have any characters, also blanks and
/// parentheses.
fn parse_started(stat: &str) -> Option<u64> {
    const AFTER_THE_NAME: usize = 22 - 3;
    stat.rsplit_once(") ")?.1.split(' ').nth(AFTER_THE_NAME)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let fields = "S 1 2 3 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 5 6";
        assert_eq!(parse_started(&format!("7 (cat) {fields}")), Some(4_711));
        assert_eq!(parse_started(&format!("7 (a) S 1 (b) {fields}")), Some(4_711));
        assert_eq!(parse_started("7 (cat) S 1"), None);
    }

    #[test]
    fn a_process_is_found_by_both_and_seen_to_end() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = ProcessIdentity { pid: child.id(), started: started(child.id()).unwrap() };
        let other = ProcessIdentity { started: identity.started + 1, ..identity };
        assert!(other.find().unwrap().is_none(), "the pid is another process's");
        let found = identity.find().unwrap().unwrap();
        assert!(!found.has_ended());
        found.kill().unwrap();
        let mut ended = [PollFd::new(found.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ended, PollTimeout::NONE), Ok(1));
        assert!(found.has_ended());
        child.wait().unwrap();
        found.terminate().unwrap();
        assert!(identity.find().unwrap().is_none());
    }
}
