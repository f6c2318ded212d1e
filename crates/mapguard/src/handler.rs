//! The handler of `SIGBUS`.
//!
//! A fault in a guarded range is ours. Everything else ends as it would without us. That depends on
//! the disposition that was there before us (the *previous* one), and on where the signal comes
//! from:
//!
//! | previous | a fault that is not ours | sent by a process |
//! |---|---|---|
//! | default | kills | kills |
//! | ignored | kills: the kernel ignores no fault | is ignored |
//! | a handler | is called | is called |
//!
//! A signal that was sent must not disarm us, because a guarded mapping may be cut short at any
//! time after it. So our handler gives way to the default only where that kills at once. A previous
//! handler may set the default, too: the one of Rust's standard library, which looks for stack
//! overflows and is there in every Rust program, does so for each signal that it does not know, and
//! returns. What it sets counts as the previous disposition from then on, and our handler is
//! installed again.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, raise, sigaction,
};

use crate::ranges;

/// What was there before us.
static BEFORE: OnceLock<SigAction> = OnceLock::new();

/// Whether [`BEFORE`] is still the previous disposition, or what its handler set instead.
///
/// Relaxed, wherever it is used: it says nothing about other memory.
static CHANGED: AtomicU8 = AtomicU8::new(AS_BEFORE);
const AS_BEFORE: u8 = 0;
const TO_DEFAULT: u8 = 1;
const TO_IGNORED: u8 = 2;

/// Installs the handler for this process. Calling it again does nothing.
///
/// # Errors
/// When the system refuses a handler for `SIGBUS`.
pub fn install() -> io::Result<()> {
    static DONE: OnceLock<Result<(), Errno>> = OnceLock::new();
    let installed = DONE.get_or_init(|| {
        let before = set(&ours())?;
        // A signal that comes before this is kept finds the default, which is the usual
        // disposition.
        BEFORE.get_or_init(|| before);
        // Again, with what follows from that.
        set(&ours()).map(drop)
    });
    installed.map_err(Into::into)
}

/// Our disposition.
fn ours() -> SigAction {
    // A signal that would be ignored without us does not end a system call, nor does one whose
    // handler asks for that.
    let restarts = BEFORE.get().is_some_and(|before| {
        matches!(before.handler(), SigHandler::SigIgn)
            || before.flags().contains(SaFlags::SA_RESTART)
    });
    // Further signals are not held back: a fault inside the handler is to kill and not to hang. The
    // alternate stack is used where the thread has one, so that a previous handler for stack
    // overflows still works.
    let mut flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    flags.set(SaFlags::SA_RESTART, restarts);
    SigAction::new(SigHandler::SigAction(on_sigbus), flags, SigSet::empty())
}

/// Sets a disposition, which is ours or the system's default, and returns the one before.
fn set(action: &SigAction) -> nix::Result<SigAction> {
    // SAFETY: our handler does only what a handler may: atomics and system calls.
    unsafe { sigaction(Signal::SIGBUS, action) }
}

fn set_default() {
    // If that fails, the next fault brings us here again.
    let _ = set(&SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty()));
}

extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let errno = Errno::last_raw();
    // SAFETY: with SA_SIGINFO the kernel passes a valid pointer.
    let replaced = unsafe { info.as_ref() }.is_some_and(replace);
    if !replaced {
        pass_on(signal, info, context);
    }
    Errno::set_raw(errno);
}

/// Puts zeros where the access failed, if that is in a guarded range.
fn replace(info: &libc::siginfo_t) -> bool {
    // Sent by a process (the kernel lets no other process claim this code), or broken hardware: not
    // what this is for.
    if info.si_code != libc::BUS_ADRERR {
        return false;
    }
    // SAFETY: a fault has an address.
    let address = unsafe { info.si_addr() };
    let Some((start, len, lost)) = ranges::find(address.addr()) else { return false };
    // Before the zeros are there: a thread that sees one of them sees the mark.
    lost.store(true, Ordering::SeqCst);
    let zeros = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the range is a mapping whose owner gave it to us to replace, and keeps it mapped.
    let at = unsafe { libc::mmap(address.with_addr(start), len, access, zeros, -1, 0) };
    at != libc::MAP_FAILED
}

/// Does what would have been done without us.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let before = BEFORE.get();
    let previous = match CHANGED.load(Ordering::Relaxed) {
        AS_BEFORE => before.map_or(SigHandler::SigDfl, SigAction::handler),
        TO_IGNORED => SigHandler::SigIgn,
        _ => SigHandler::SigDfl,
    };
    match previous {
        SigHandler::SigAction(handler) => call(before, || handler(signal, info, context)),
        SigHandler::Handler(handler) => call(before, || handler(signal)),
        SigHandler::SigDfl if is_sent(info) => {
            set_default();
            let _ = raise(Signal::SIGBUS);
            // The first process of a PID namespace is not killed by a signal that it leaves to the
            // default.
            let _ = set(&ours());
        }
        SigHandler::SigIgn if is_sent(info) => {}
        // The access is tried again on return, and then it kills, as it should.
        SigHandler::SigDfl | SigHandler::SigIgn => set_default(),
    }
}

/// Whether no access of the thread brought the signal, so that it does not come again on return: a
/// process sent it, or the kernel reports broken memory that is in use nowhere yet.
fn is_sent(info: *const libc::siginfo_t) -> bool {
    // SAFETY: with SA_SIGINFO the kernel passes a valid pointer.
    unsafe { info.as_ref() }
        .is_some_and(|info| info.si_code <= 0 || info.si_code == libc::BUS_MCEERR_AO)
}

/// Calls the previous handler as the kernel would, and stays installed whatever it sets.
fn call(before: Option<&SigAction>, handler: impl FnOnce()) {
    if let Some(before) = before {
        if before.flags().contains(SaFlags::SA_RESETHAND) {
            CHANGED.store(TO_DEFAULT, Ordering::Relaxed);
        }
        // The kernel sets the thread's own mask again when our handler returns.
        let mut held_back = before.mask();
        if !before.flags().contains(SaFlags::SA_NODEFER) {
            held_back.add(Signal::SIGBUS);
        }
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&held_back), None);
    }
    handler();
    let changed = match current() {
        Some(libc::SIG_DFL) => TO_DEFAULT,
        Some(libc::SIG_IGN) => TO_IGNORED,
        // Still ours; or another one has taken our place, as it may.
        _ => return,
    };
    CHANGED.store(changed, Ordering::Relaxed);
    let _ = set(&ours());
}

/// The handler that is set now, or what stands for one.
fn current() -> Option<libc::sighandler_t> {
    // SAFETY: all of its fields may be zero.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and there is room for what is.
    let got = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut now) };
    (got == 0).then_some(now.sa_sigaction)
}
