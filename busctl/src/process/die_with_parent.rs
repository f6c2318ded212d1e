//! Ending with the process that started us: what `demo` starts must not outlive it, even when it is killed, nor leave
//! anything behind.

use std::ffi::OsString;
use std::process::Command;
use std::{env, fs, process};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// The environment variable that asks for it; its value is the pid of the parent.
const END: &str = "BUSCTL_END_WITH_PARENT";
/// The environment variable with the name of a file in the working folder that is to go, and the folder with it.
const TIDY: &str = "BUSCTL_TIDY_UP";

/// Asks the process that `command` starts, this program, to end with this one.
pub(crate) fn ask_to_end(command: &mut Command) {
    command.env(END, process::id().to_string());
}

/// Asks it also to remove `file` from its working folder when it ends, and the folder when nothing else is in it. The last of
/// several that are asked so leaves nothing, whether their parent has lived to see it or not.
pub(crate) fn ask_to_tidy(command: &mut Command, file: &str) {
    command.env(TIDY, file);
}

/// Whether this process ends with its parent.
pub(crate) fn is_heeded() -> bool {
    env::var_os(END).is_some()
}

/// What this process owes to its parent, done when this is dropped.
pub(crate) struct Duty {
    tidy: Option<OsString>,
}

/// Does what the parent asks for, if it does; `None` when there is nothing to be started for any more.
pub(crate) fn heed() -> Option<Duty> {
    let Some(parent) = env::var_os(END) else { return Some(Duty { tidy: None }) };
    let duty = Duty { tidy: env::var_os(TIDY) };
    // Without it this process may outlive its parent, as others do.
    let _ = set_pdeathsig(Signal::SIGTERM);
    // A parent that went before that sends nothing.
    (parent.to_str() == Some(&getppid().to_string())).then_some(duty)
}

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(file) = &self.tidy {
            // Others may have done it before, or have something there and do it later.
            let _ = fs::remove_file(file);
            let _ = env::current_dir().and_then(fs::remove_dir);
        }
    }
}
