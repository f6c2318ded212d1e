//! The thread that sleeps for the program.
//!
//! A program polls a descriptor of VDE without a time limit, receives once when it is readable, and
//! some take an answer without a frame for the end of the network. A station is woken for other
//! reasons than a frame, too, and has to look at its bus now and then. So this thread sleeps and
//! looks in the place of the program, which is woken only when there is a frame.
//!
//! It is started when the program first asks for the descriptor, and not before: `vdens` moves to
//! another user namespace after it has joined, and only a process of one thread can.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use shmbus::MAX_SLEEP;

/// The time between two looks where no descriptor would end a sleep.
const PAUSE: Duration = Duration::from_millis(1);

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Sleep until the doorbell rings, or it is time for another look.
    Sleep,
    /// Look again after a short time.
    Pause,
    /// End: there is nothing to wait for any more.
    End,
}

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Receiver {
    thread: Option<JoinHandle<()>>,
    stop: Arc<EventFd>,
    /// The process that started it: a child of it has no such thread.
    process: u32,
}

impl Receiver {
    /// Starts a thread that calls `look` each time `doorbell` is readable (then with `true`), and
    /// now and then.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub(crate) fn start(
        doorbell: Option<OwnedFd>,
        look: impl FnMut(bool) -> Next + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let stopped = Arc::clone(&stop);
        // The program's signals are for its own threads, which may expect them. Faults are ours.
        let mut signals = SigSet::all();
        for fault in [Signal::SIGBUS, Signal::SIGSEGV, Signal::SIGILL, Signal::SIGFPE] {
            signals.remove(fault);
        }
        let before = signals.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let thread = thread::Builder::new()
            .name("vdeplug_shmif".into())
            .spawn(move || run(&stopped, doorbell.as_ref(), look));
        before.thread_set_mask()?;
        Ok(Self { thread: Some(thread?), stop, process: process::id() })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It has room: nothing else is ever written.
        let _ = self.stop.write(1);
        if self.process == process::id()
            && let Some(thread) = self.thread.take()
        {
            // If it panicked, it has ended, too.
            let _ = thread.join();
        }
    }
}

fn run(stop: &EventFd, doorbell: Option<&OwnedFd>, mut look: impl FnMut(bool) -> Next) {
    let mut next = Next::Sleep;
    loop {
        let (bell, time) = match (next, doorbell) {
            (Next::Sleep, Some(bell)) => (Some(bell), MAX_SLEEP),
            (Next::Sleep | Next::Pause, _) => (None, PAUSE),
            (Next::End, _) => return,
        };
        let mut polled = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        polled.extend(bell.map(|bell| PollFd::new(bell.as_fd(), PollFlags::POLLIN)));
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        if !matches!(poll(&mut polled, time), Ok(_) | Err(Errno::EINTR)) {
            thread::sleep(PAUSE);
        }
        let is_ready = |polled: &PollFd<'_>| polled.any().unwrap_or(false);
        if is_ready(&polled[0]) {
            return;
        }
        next = look(polled.get(1).is_some_and(is_ready));
    }
}
