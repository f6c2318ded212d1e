//! Ending with the process that started us: what `demo` starts must not outlive it, even when it is killed.

use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// The environment variable that asks for it; its value is the pid of the parent.
const VARIABLE: &str = "BUSCTL_END_WITH_PARENT";

/// Asks the process that `command` starts, this program, to end with this one.
pub(crate) fn ask(command: &mut Command) {
    command.env(VARIABLE, std::process::id().to_string());
}

/// Does what the parent asked for, if it did; `false` when there is nothing to be started for any more.
pub(crate) fn heed() -> bool {
    let Some(parent) = std::env::var_os(VARIABLE) else { return true };
    // Without it this process may outlive its parent, as others do.
    let _ = set_pdeathsig(Signal::SIGTERM);
    // A parent that went before that sends nothing.
    parent.to_str() == Some(&getppid().to_string())
}
