//! The handler of `SIGBUS`.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::ranges;

/// What was there before us.
static BEFORE: OnceLock<SigAction> = OnceLock::new();

/// Installs the handler for this process. Calling it again does nothing.
///
/// # Errors
/// When the system refuses a handler for `SIGBUS`.
pub fn install() -> io::Result<()> {
    static DONE: OnceLock<Result<(), Errno>> = OnceLock::new();
    // Further signals are not held back: a fault inside the handler is to kill and not to hang. The alternate stack is
    // used where the thread has one, so that a previous handler for stack overflows still works.
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::SigAction(on_sigbus), flags, SigSet::empty());
    let installed = DONE.get_or_init(|| {
        // SAFETY: the handler does only what a handler may: atomics and system calls.
        let before = unsafe { sigaction(Signal::SIGBUS, &action) }?;
        BEFORE.get_or_init(|| before);
        Ok(())
    });
    installed.map_err(Into::into)
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let errno = Errno::last_raw();
    if !replace(info) {
        pass_on(signal, info, context);
    }
    Errno::set_raw(errno);
}

/// Puts zeros where the access failed, if that is in a guarded range.
fn replace(info: *mut libc::siginfo_t) -> bool {
    // SAFETY: with SA_SIGINFO the kernel passes a valid pointer.
    let Some(info) = (unsafe { info.as_ref() }) else { return false };
    // Sent by a process, or broken hardware: not what this is for.
    if info.si_code != libc::BUS_ADRERR {
        return false;
    }
    // SAFETY: a fault has an address.
    let address = unsafe { info.si_addr() };
    let Some((start, len, lost)) = ranges::find(address.addr()) else { return false };
    // Before the zeros are there: who sees one of them sees the mark.
    lost.store(true, Ordering::SeqCst);
    let zeros = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the range is a mapping whose owner gave it to us to replace, and keeps it mapped.
    let at = unsafe { libc::mmap(address.with_addr(start), len, access, zeros, -1, 0) };
    at != libc::MAP_FAILED
}

/// Does what would have been done without us.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    match BEFORE.get().map(SigAction::handler) {
        Some(SigHandler::SigAction(handler)) => handler(signal, info, context),
        Some(SigHandler::Handler(handler)) => handler(signal),
        // The access is tried again on return, and then it kills, as it should.
        Some(SigHandler::SigDfl | SigHandler::SigIgn) | None => {
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            // SAFETY: no handler is installed but the system's own. If that fails, the next fault brings us here again.
            let _ = unsafe { sigaction(Signal::SIGBUS, &default) };
        }
    }
}
