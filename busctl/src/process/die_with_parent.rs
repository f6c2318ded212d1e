//! Ends this process with its parent. What `demo` starts must not outlive it, even when it is
//! killed, nor leave anything behind.

use std::ffi::OsString;
use std::process::Command;
use std::{env, fs, process};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// The environment variable that asks for it; its value is the pid of the parent.
const END: &str = "BUSCTL_END_WITH_PARENT";
/// The environment variable that names a file in the working folder to be removed at the end,
/// together with the folder.
const TIDY: &str = "BUSCTL_TIDY_UP";

/// Makes the process that `command` starts, which is this program, end with this process.
pub(crate) fn end_with_parent(command: &mut Command) {
    command.env(END, process::id().to_string());
}

/// Makes that process also remove `file` from its working folder when it ends, and the folder when
/// it is empty. So the last of several such processes leaves nothing, whether their parent still
/// lives or not.
pub(crate) fn clean_up_afterwards(command: &mut Command, file: &str) {
    command.env(TIDY, file);
}

/// Makes the process that `command` starts know nothing of what this process was asked for.
pub(crate) fn keep_from(command: &mut Command) {
    command.env_remove(END).env_remove(TIDY);
}

/// Returns whether this process ends with its parent.
pub(crate) fn is_armed() -> bool {
    env::var_os(END).is_some()
}

/// Removes what the parent named, when this is dropped.
pub(crate) struct Cleanup {
    file: Option<OsString>,
}

/// Does what the parent asked for, if it did. Returns `None` when the parent is gone already.
pub(crate) fn arm() -> Option<Cleanup> {
    let Some(parent) = env::var_os(END) else { return Some(Cleanup { file: None }) };
    let cleanup = Cleanup { file: env::var_os(TIDY) };
    // When this fails, the process may outlive its parent, as any process does.
    let _ = set_pdeathsig(Signal::SIGTERM);
    // A parent that ended before that call sends no signal.
    (parent.to_str() == Some(&getppid().to_string())).then_some(cleanup)
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // A sibling may have removed the file already, or may still use the folder and remove
            // it later.
            let _ = fs::remove_file(file);
            let _ = env::current_dir().and_then(fs::remove_dir);
        }
    }
}
