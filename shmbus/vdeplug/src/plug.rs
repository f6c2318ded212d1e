//! A station for a program that speaks VDE, and the frames that it has read ahead.
//!
//! The descriptor that the program polls is readable exactly while a frame is held here: from the
//! frame that the receiver finds to the last one that the program takes. While
//! frames come faster than the program takes them, it reads further ones itself, a burst at a time,
//! and the thread sleeps. The queue in front of a slow program is the ring of the bus.

use std::io;
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use shmbus::{Burst, SendError, Station, WaitError};

use crate::receiver::{Next, Receiver};
use crate::report::report;

/// Frames that are read ahead.
const BURST: usize = 64;
/// How often a station looks before it leaves that to the receiver: a sender may be at work at each
/// look.
const MAX_LOOKS: u32 = 8;
/// How long a send waits for the lock: a virtual machine stands still meanwhile.
const LOCK_TIMEOUT: Duration = Duration::from_millis(20);
/// After a send that waited in vain, frames are dropped for this long.
const HOLD_OFF: Duration = Duration::from_millis(100);
/// How long the next one waits: long enough to find out that the owner of the lock is dead.
const SHORT_LOCK_TIMEOUT: Duration = Duration::from_millis(2);

/// A connection to a bus.
#[derive(Debug)]
pub(crate) struct Plug {
    shared: Arc<Shared>,
    /// There is one since the program first asked for its descriptor.
    receiver: Mutex<Option<Receiver>>,
}

/// What the program's threads and the receiver share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Readable while there is a frame.
    frames: EventFd,
    /// Readable when the bus is gone.
    gone: EventFd,
}

#[derive(Debug)]
struct State {
    station: Station,
    /// The frames read ahead, of which the program has taken the first `taken`.
    burst: Burst,
    taken: usize,
    is_armed: bool,
    /// Whether the descriptor for frames is readable.
    is_signalled: bool,
    is_lost: bool,
    /// Until when frames are dropped, because the lock was not available.
    held_off: Option<Instant>,
    reported: Reported,
}

/// What is said once.
#[derive(Debug, Default)]
struct Reported {
    length: bool,
    wait: bool,
}

impl Plug {
    /// Makes a connection of a station.
    ///
    /// # Errors
    /// When no descriptor is available.
    pub(crate) fn new(mut station: Station) -> io::Result<Self> {
        station.set_lock_timeout(LOCK_TIMEOUT);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let state = State {
            station,
            burst: Burst::new(BURST),
            taken: 0,
            is_armed: false,
            is_signalled: false,
            is_lost: false,
            held_off: None,
            reported: Reported::default(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            frames: EventFd::from_flags(flags)?,
            gone: EventFd::from_flags(flags)?,
        };
        Ok(Self { shared: Arc::new(shared), receiver: Mutex::new(None) })
    }

    /// Returns the descriptor that is readable while there is a frame.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub(crate) fn frames_fd(&self) -> Result<RawFd, Errno> {
        self.start_receiver()?;
        Ok(self.shared.frames.as_fd().as_raw_fd())
    }

    /// Returns the descriptor that becomes readable when the bus is gone.
    pub(crate) fn gone_fd(&self) -> RawFd {
        self.shared.gone.as_fd().as_raw_fd()
    }

    /// Receives one frame, and returns how much of it fits. Where there is none, it waits for one if
    /// `waits`.
    ///
    /// # Errors
    /// `EAGAIN` when there is none, `ENETDOWN` when there will be none.
    pub(crate) fn recv(&self, buffer: &mut [u8], waits: bool) -> Result<usize, Errno> {
        loop {
            {
                let mut state = self.shared.state()?;
                if let Some(len) = self.shared.take(&mut state, buffer) {
                    return Ok(len);
                }
                if state.is_lost {
                    return Err(Errno::ENETDOWN);
                }
            }
            if !waits {
                return Err(Errno::EAGAIN);
            }
            self.start_receiver()?;
            let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut ends =
                [readable(self.shared.frames.as_fd()), readable(self.shared.gone.as_fd())];
            poll(&mut ends, PollTimeout::NONE)?;
        }
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// `EMSGSIZE` when it is too long or too short, `EAGAIN` when the bus is locked for long,
    /// `ENETDOWN` when it is gone. The frame is dropped.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<(), Errno> {
        let mut state = self.shared.state()?;
        let sent = state.send(frame);
        if state.is_empty() {
            state.read_ahead();
        }
        self.shared.signal(&mut state);
        sent
    }

    fn start_receiver(&self) -> Result<(), Errno> {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        if receiver.is_none() {
            let doorbell = {
                let mut state = self.shared.state()?;
                if state.is_empty() {
                    state.read_ahead();
                }
                self.shared.signal(&mut state);
                let doorbell = state.station.poll_fd().map(|fd| fd.try_clone_to_owned());
                doorbell.transpose().map_err(|error| errno_of(&error))?
            };
            let shared = Arc::clone(&self.shared);
            let started = Receiver::start(doorbell, move |is_rung| shared.look(is_rung));
            *receiver = Some(started.map_err(|error| errno_of(&error))?);
        }
        Ok(())
    }
}

/// Returns the number of a system's error.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl Shared {
    fn state(&self) -> Result<MutexGuard<'_, State>, Errno> {
        // After a panic nothing is known of the state.
        self.state.lock().map_err(|_poisoned| Errno::EIO)
    }

    /// Hands over a frame, and reads on when that was the last one.
    fn take(&self, state: &mut State, buffer: &mut [u8]) -> Option<usize> {
        if state.is_empty() {
            state.read_ahead();
        }
        let len = state.burst.get(state.taken).map(|frame| {
            let len = frame.bytes.len().min(buffer.len());
            buffer[..len].copy_from_slice(&frame.bytes[..len]);
            len
        });
        state.taken += usize::from(len.is_some());
        if len.is_some() && state.is_empty() {
            state.read_ahead();
        }
        self.signal(state);
        len
    }

    /// The receiver was woken.
    fn look(&self, is_rung: bool) -> Next {
        let Ok(mut state) = self.state() else { return Next::End };
        if !state.is_empty() {
            if is_rung {
                // A ring that came late. The descriptor is not readable after this.
                state.station.disarm();
                return Next::Pause;
            }
            return Next::Sleep;
        }
        state.read_ahead();
        self.signal(&mut state);
        match *state {
            State { is_lost: true, .. } => Next::End,
            State { is_armed: false, .. } if state.is_empty() => Next::Pause,
            _ => Next::Sleep,
        }
    }

    /// Makes the descriptors say what there is.
    fn signal(&self, state: &mut State) {
        let holds = !state.is_empty();
        if holds != mem::replace(&mut state.is_signalled, holds) {
            // It has room for the one, and holds it when it is read.
            let _ =
                if holds { self.frames.write(1).map(drop) } else { self.frames.read().map(drop) };
        }
        if state.is_lost {
            // It has room for more than can be written.
            let _ = self.gone.write(1);
        }
    }
}

impl State {
    /// Whether the program has taken all frames.
    fn is_empty(&self) -> bool {
        self.taken >= self.burst.len()
    }

    /// Reads frames ahead, now that the program has taken all. Where there are none, the station
    /// sleeps from now on.
    fn read_ahead(&mut self) {
        for _ in 0..MAX_LOOKS {
            self.disarm();
            self.taken = 0;
            if self.station.recv_burst(&mut self.burst) > 0 {
                return;
            }
            match self.station.arm() {
                Ok(true) => {}
                Ok(false) => {
                    self.is_armed = true;
                    return;
                }
                Err(error) => return self.note(&error),
            }
        }
    }

    fn disarm(&mut self) {
        if mem::take(&mut self.is_armed) {
            self.station.disarm();
        }
    }

    fn note(&mut self, error: &WaitError) {
        if matches!(error, WaitError::Lost { .. }) {
            self.lose(error);
        } else if !mem::replace(&mut self.reported.wait, true) {
            report(format_args!("{error}; it is looked at every millisecond instead"));
        }
    }

    fn lose(&mut self, error: &dyn std::error::Error) {
        if !mem::replace(&mut self.is_lost, true) {
            report(error);
        }
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), Errno> {
        if self.is_lost {
            return Err(Errno::ENETDOWN);
        }
        if self.held_off.is_some_and(|until| Instant::now() < until) {
            return Err(Errno::EAGAIN);
        }
        // A station that sleeps on the bus file would be woken by what it sends itself.
        self.disarm();
        match self.station.send(frame) {
            Ok(()) => {
                if self.held_off.take().is_some() {
                    self.station.set_lock_timeout(LOCK_TIMEOUT);
                }
                Ok(())
            }
            Err(error @ (SendError::TooLong { .. } | SendError::TooShort { .. })) => {
                if !mem::replace(&mut self.reported.length, true) {
                    report(format_args!(
                        "a frame was dropped, and this is not said again: {error}"
                    ));
                }
                Err(Errno::EMSGSIZE)
            }
            Err(error @ SendError::Busy { .. }) => {
                if self.held_off.replace(Instant::now() + HOLD_OFF).is_none() {
                    report(format_args!("frames are dropped until it is free: {error}"));
                    self.station.set_lock_timeout(SHORT_LOCK_TIMEOUT);
                }
                Err(Errno::EAGAIN)
            }
            Err(error @ SendError::Lost { .. }) => {
                self.lose(&error);
                Err(Errno::ENETDOWN)
            }
            // Nothing here leaves work to the station.
            Err(_) => Err(Errno::EIO),
        }
    }
}
