//! The signals of a process that only hands them on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a user or a service manager sends to a command. `SIGTSTP` and its like are not among them:
/// they stop and continue this process as they do the command.
const HANDED_ON: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGPWR,
];
/// The kernel has sent the signal (`SI_KERNEL` of `asm-generic/siginfo.h`).
const FROM_KERNEL: i32 = 0x80;

/// Signals as something to be read. They no longer interrupt or end this process.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

/// A signal that has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    signal: Signal,
    from_kernel: bool,
}

impl Signals {
    /// Blocks the signals that are handed on, and `SIGCHLD`. Call this before other threads start.
    pub(crate) fn block() -> io::Result<Self> {
        let set = blocked();
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { descriptor: SignalFd::with_flags(&set, flags)? })
    }

    /// Returns the next signal that has come.
    pub(crate) fn next(&self) -> Option<Received> {
        let info = self.descriptor.read_signal().ok().flatten()?;
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok())?;
        Some(Received { signal, from_kernel: info.ssi_code == FROM_KERNEL })
    }
}

/// Receives again what [`Signals::block`] has blocked in the process that started this one.
pub(crate) fn unblock() -> io::Result<()> {
    Ok(blocked().thread_unblock()?)
}

fn blocked() -> SigSet {
    HANDED_ON.into_iter().chain([Signal::SIGCHLD]).collect()
}

impl Received {
    /// Returns the signal if it is for the command. What the terminal sends, the command has
    /// received as well.
    pub(crate) fn to_hand_on(self) -> Option<Signal> {
        (!self.from_kernel && HANDED_ON.contains(&self.signal)).then_some(self.signal)
    }

    /// Returns the signal if it ends a process that has no command yet.
    pub(crate) fn to_end(self) -> Option<Signal> {
        let ends = !matches!(self.signal, Signal::SIGCHLD | Signal::SIGWINCH | Signal::SIGPWR);
        ends.then_some(self.signal)
    }
}

/// Polls readable when a signal has come.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
