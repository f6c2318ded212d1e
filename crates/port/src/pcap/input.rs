//! A capture that is played. A thread reads it, since a pipe makes its reader wait and a node never does. It appends to a batch,
//! which the node exchanges for an empty one.

use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use capture::{CaptureReader, Pace};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use shmbus::{MIN_FRAME, SendError, Station};

use super::spec::Place;
use crate::error::{CaptureProblem, PortError};
use crate::port::{BURST, Moved, NotSent};

/// Bytes that are read ahead, about.
const AHEAD: usize = 1 << 18;

/// Frames out of a capture.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
    /// Frames that are dealt with.
    done: usize,
}

impl Batch {
    fn push(&mut self, frame: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.frames.push(start..self.bytes.len());
    }

    fn rest(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.frames[self.done..].iter().map(|place| &self.bytes[place.clone()])
    }

    fn is_done(&self) -> bool {
        self.done == self.frames.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.done = 0;
    }
}

/// What node and thread share.
struct Shared {
    desk: Mutex<Desk>,
    room: Condvar,
    /// Rings when there is something on a desk that was empty.
    bell: EventFd,
}

#[derive(Default)]
struct Desk {
    batch: Batch,
    end: Option<End>,
    /// Nobody wants any more.
    closed: bool,
}

/// Why nothing more comes: the reason when it is not simply the end of the capture.
type End = Option<String>;

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Whoever panicked with it has left whole frames.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // It fails when it has rung for longer than anybody counts; then it is readable all the more.
        let _ = self.bell.write(1);
    }
}

/// A capture being played.
pub(super) struct Input {
    place: Place,
    shared: Arc<Shared>,
    batch: Batch,
    pace: Option<Pace>,
    /// Rings when the next frame is due.
    timer: TimerFd,
    end: Option<End>,
    played: u64,
    left_out: u64,
}

impl Input {
    /// Begins to read. What can be opened without waiting is checked at once.
    pub(super) fn open(place: &Place, pps: Option<u64>) -> Result<Self, PortError> {
        let about = |source| PortError::Capture { attempt: format!("cannot play {place}"), source };
        let system = |error: io::Error| PortError::system(format!("cannot play {place}"), error);
        let beginning = Beginning::of(place).map_err(about)?;
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|error| system(error.into()))?;
        let timer = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, timer).map_err(|error| system(error.into()))?;
        let shared = Arc::new(Shared { desk: Mutex::default(), room: Condvar::new(), bell });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("capture".to_owned());
        thread.spawn(move || feed(&theirs, beginning)).map_err(|error| system(error.into()))?;
        Ok(Self {
            place: place.clone(),
            shared,
            batch: Batch::default(),
            pace: pps.map(|pps| Pace::new(pps, Instant::now())),
            timer,
            end: None,
            played: 0,
            left_out: 0,
        })
    }

    /// Takes what was read when there is nothing left; whether there is something to send.
    fn advance(&mut self) -> bool {
        if self.batch.is_done() && self.end.is_none() {
            self.batch.clear();
            let mut desk = self.shared.desk();
            mem::swap(&mut self.batch, &mut desk.batch);
            if self.batch.is_done() {
                self.end = desk.end.take();
            }
            self.shared.room.notify_one();
        }
        !self.batch.is_done()
    }

    /// Sends what is due, a burst at most. What the bus does not take stays for the next time.
    pub(super) fn play(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        if !self.advance() {
            return Ok(Moved::default());
        }
        let due = match self.pace.as_mut().map(|pace| pace.due(Instant::now())) {
            None => BURST,
            Some(Ok(due)) => due.min(BURST),
            Some(Err(_later)) => return Ok(Moved::default()),
        };
        let longest = station.bus().max_frame();
        let fits = |frame: &[u8]| (MIN_FRAME..=longest).contains(&frame.len());
        let burst = self.batch.rest().take(due);
        let all = burst.clone().count();
        let fitting = burst.clone().filter(|frame| fits(frame));
        let (sent, error) = match station.send_burst(fitting) {
            Ok(sent) => (sent, None),
            Err(SendError::Busy { sent, source }) => (sent, Some(SendError::Busy { sent, source })),
            Err(source) => (0, Some(source)),
        };
        // Up to the first that should have been sent and was not.
        let refused = burst.enumerate().filter(|(_, frame)| fits(frame)).nth(sent);
        let done = refused.map_or(all, |(place, _)| place);
        let moved = Moved { frames: sent, dropped: done - sent, blocked: false };
        self.batch.done += done;
        self.played += moved.frames as u64;
        self.left_out += moved.dropped as u64;
        if let Some(pace) = &mut self.pace {
            pace.sent(done);
        }
        error.map_or(Ok(moved), |source| Err(NotSent { moved, source }))
    }

    /// Whether all was played.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// What there is to say when it has.
    pub(super) fn end(&self) -> Option<String> {
        let early = self.end.as_ref()?;
        let Self { place, played, left_out, .. } = self;
        let left_out = match left_out {
            0 => String::new(),
            count => format!("; {count} were left out, being of a length that a bus does not carry"),
        };
        Some(match early {
            None => format!("{place} was played to its end: {played} frames{left_out}"),
            Some(why) => format!("cannot read on in {place}: {why}; {played} frames were played{left_out}"),
        })
    }

    /// Prepares for a sleep; `true`: there is something to do.
    pub(super) fn arm(&mut self) -> bool {
        // What it rang for until now is looked at now.
        let _ = self.shared.bell.read();
        if !self.advance() {
            return self.end.is_some();
        }
        match self.pace.as_mut().map(|pace| pace.due(Instant::now())) {
            None | Some(Ok(_)) => true,
            Some(Err(wait)) => {
                let once = Expiration::OneShot(TimeSpec::from_duration(wait));
                self.timer.set(once, TimerSetTimeFlags::empty()).is_err()
            }
        }
    }

    pub(super) fn disarm(&mut self) {
        // It takes back also what it rang for.
        let _ = self.timer.unset();
    }

    pub(super) fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        watch(self.shared.bell.as_fd());
        watch(self.timer.as_fd());
    }
}

impl Drop for Input {
    /// The thread ends with its next frame; nobody waits for that, since it may never come.
    fn drop(&mut self) {
        self.shared.desk().closed = true;
        self.shared.room.notify_one();
    }
}

/// A capture of which the header was read, or still has to be.
enum Beginning {
    Capture(CaptureReader<File>),
    /// Whoever opens or reads it may have to wait.
    Pipe(Place),
}

impl Beginning {
    fn of(place: &Place) -> Result<Self, CaptureProblem> {
        let Place::Path(path) = place else { return Ok(Self::Pipe(Place::Standard)) };
        let kind = std::fs::metadata(path).map_err(CaptureProblem::Open)?.file_type();
        if kind.is_dir() {
            return Err(CaptureProblem::Folder);
        }
        if kind.is_file() {
            let file = File::open(path).map_err(CaptureProblem::Open)?;
            return Ok(Self::Capture(CaptureReader::new(file)?));
        }
        Ok(Self::Pipe(place.clone()))
    }
}

/// The thread.
fn feed(shared: &Shared, beginning: Beginning) {
    let end = match beginning {
        Beginning::Capture(capture) => read(shared, capture),
        Beginning::Pipe(Place::Standard) => open_and_read(shared, io::stdin()),
        Beginning::Pipe(Place::Path(path)) => match File::open(path) {
            Ok(pipe) => open_and_read(shared, pipe),
            Err(error) => Some(error.to_string()),
        },
    };
    shared.desk().end = Some(end);
    shared.ring();
}

fn open_and_read(shared: &Shared, pipe: impl Read) -> End {
    match CaptureReader::new(pipe) {
        Ok(capture) => read(shared, capture),
        Err(error) => Some(error.to_string()),
    }
}

/// Reads to the end.
fn read<R: Read>(shared: &Shared, mut capture: CaptureReader<R>) -> End {
    loop {
        let frame = match capture.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        };
        let mut desk = shared.desk();
        while desk.batch.bytes.len() >= AHEAD && !desk.closed {
            desk = shared.room.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
        if desk.closed {
            return None;
        }
        let was_empty = desk.batch.frames.is_empty();
        desk.batch.push(frame.bytes);
        drop(desk);
        if was_empty {
            shared.ring();
        }
    }
}
