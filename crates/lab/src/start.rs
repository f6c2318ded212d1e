//! Starting a lab: the process that supervises it, and the first steps.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{LabError, system};
use crate::folder::Folder;
use crate::plan::Plan;
use crate::protocol::Reply;
use crate::supervisor::Begin;
use crate::wire::Wire;

/// A lab that this process has started. It ends when this is dropped, or this process ends.
#[derive(Debug)]
pub struct Started {
    /// While it is open, the lab is up.
    wire: Wire,
    process: Child,
}

impl Started {
    /// Starts the lab of a plan in `folder`: its supervisor runs, and begins with the nodes.
    ///
    /// `confined` is the start of a process that calls [`confine`](crate::confine) with one that
    /// calls [`supervise`](crate::supervise); both have the stdin that they are given.
    ///
    /// # Errors
    /// When a lab of that name is up; when the system denies namespaces; when a lab of several machines
    /// is started without saying [which one](Plan::on) this is.
    pub fn start(plan: &Plan, folder: &Folder, mut confined: Command) -> Result<Self, LabError> {
        plan.check_here()?;
        let locked = folder.take()?;
        folder.write_plan(plan)?;
        let (ours, theirs) = UnixStream::pair().map_err(system("make a socket"))?;
        confined.stdin(OwnedFd::from(theirs));
        let process = confined.spawn().map_err(system("start this program again"))?;
        drop(confined);
        let mut started = Self { wire: Wire::new(ours), process };
        let sent = started.wire.send(&Begin, &[locked.file.as_fd()]);
        let answer = sent.and_then(|()| started.wire.receive());
        match answer {
            Ok((Reply::Done, _)) => Ok(started),
            Ok((Reply::Refused(why), _)) => {
                let _ = started.process.wait();
                Err(LabError::Refused(why))
            }
            // It has said why on stderr.
            Ok(_) | Err(_) => {
                let _ = started.process.wait();
                folder.remove(locked)?;
                Err(LabError::NotStarted)
            }
        }
    }

    /// Waits until the supervisor has ended.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(mut self) -> Result<(), LabError> {
        self.process.wait().map(drop).map_err(system("wait for the supervisor"))
    }

    /// Waits until the supervisor has ended, for `timeout` at most. Returns whether it has.
    pub fn wait_for(&mut self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        // The other end closes with the processes that have it, and says nothing before.
        while matches!(self.wire.fill_now(), Ok(true)) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let nap = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            // An interrupted wait is taken up again.
            let _ = poll(&mut [PollFd::new(self.wire.as_fd(), PollFlags::POLLIN)], nap);
        }
        self.process.wait().is_ok()
    }
}
