//! The terminal that the command takes over.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal, if this process is in its foreground. When this is dropped, it is again, unless
/// others are by then: a shell that ends in another pid namespace cannot give the terminal back.
#[derive(Debug)]
pub(super) struct Foreground {
    terminal: File,
    group: Pid,
}

impl Foreground {
    /// Returns the terminal, if there is one and this process is in its foreground.
    pub(super) fn of_this_process() -> Option<Self> {
        let terminal = File::open("/dev/tty").ok()?;
        let group = getpgrp();
        (tcgetpgrp(&terminal).ok()? == group).then_some(Self { terminal, group })
    }

    fn take_back(&self) -> io::Result<()> {
        let group = tcgetpgrp(&self.terminal)?;
        // The processes of the command are gone. A group that lives is that of the shell outside:
        // this process was stopped, and continued in the background.
        if group == self.group || killpg(group, None) != Err(Errno::ESRCH) {
            return Ok(());
        }
        // A process of the background is stopped by this signal when it asks for the foreground.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        stop.thread_block()?;
        Ok(tcsetpgrp(&self.terminal, self.group)?)
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Err(error) = self.take_back() {
            tracing::info!(%error, "the terminal is not given back");
        }
    }
}
