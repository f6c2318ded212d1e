//! An end by a signal, which leaves as little behind as an end without: no process, and no folder
//! of a lab.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use system_tests::{proc_files, wait};

/// The folders of all labs so far.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The exit status of programs that `^C` ends.
const INTERRUPTED: i32 = 130;
/// How long killed processes may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends the program in good order on `^C`, `SIGTERM` and `SIGHUP`, from now on.
///
/// # Errors
/// When no descriptor or handler is available.
pub(crate) fn clean_up_on_signals() -> io::Result<()> {
    let (mut wake, waker) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        pipe::register(signal, waker.try_clone()?)?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if wake.read_exact(&mut [0]).is_ok() {
            // The measuring thread panics when its processes end. It stops there, and prints
            // nothing.
            std::panic::set_hook(Box::new(|_| {
                loop {
                    thread::park();
                }
            }));
            end_processes();
            let folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
            for folder in folders.iter() {
                // The folders of labs that have ended are gone.
                let _ = fs::remove_dir_all(folder);
            }
            std::process::exit(INTERRUPTED);
        }
    })?;
    Ok(())
}

/// Notes the folder of a lab, to be removed on a signal.
pub(crate) fn remove_on_signal(folder: PathBuf) {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
}

/// Kills the process groups of all children, and those that are started meanwhile, and reaps them.
fn end_processes() {
    let _ = wait::poll(END_TIMEOUT, || {
        let children = proc_files::children(std::process::id());
        for child in &children {
            // A group may be gone already.
            let _ =
                i32::try_from(*child).map(|child| killpg(Pid::from_raw(child), Signal::SIGKILL));
        }
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {
        }
        children.is_empty().then_some(())
    });
}
