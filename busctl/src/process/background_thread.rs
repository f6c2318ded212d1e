//! Threads that receive no signals.
//!
//! The kernel gives a signal to any thread that has not blocked it. Where a verb reads signals from
//! a descriptor or hands them on, all threads must have blocked them, also one that was started
//! before.

use std::io;
use std::thread::{self, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};

/// Starts a thread of this name with all signals blocked.
///
/// # Errors
/// When no thread is available.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    before.thread_set_mask()?;
    thread
}
