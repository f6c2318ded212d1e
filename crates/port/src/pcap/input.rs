//! A capture that is played onto the bus.
//!
//! A thread of its own reads the capture, because a pipe may block its reader and a node must never
//! block. The thread appends to a batch; the node swaps that batch for an empty one.

use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use capture::{CaptureReader, Decompressed, Filter, Pace, PassedOver};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use shmbus::offload::{Offload, TxRequest};
use shmbus::{MIN_FRAME, SendError, Station};

use super::spec::Place;
use crate::error::{CaptureProblem, PortError};
use crate::port::{BURST, Moved, NotSent};
use crate::wake_fd::WakeFd;

/// About how many bytes are read ahead.
const READ_AHEAD: usize = 1 << 18;

/// Frames that were read from a capture.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
    /// How many of the frames were sent or dropped.
    done: usize,
}

impl Batch {
    fn push(&mut self, frame: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.frames.push(start..self.bytes.len());
    }

    fn pending(&self) -> impl Iterator<Item = &[u8]> + Clone {
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

/// What the node and the reading thread share.
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when the queue has room, or is closed.
    has_room: Condvar,
    /// Readable when the queue was empty and has frames or an end now.
    wake_fd: WakeFd,
}

/// Frames on their way from the thread to the node.
#[derive(Default)]
struct Queue {
    batch: Batch,
    end: Option<End>,
    /// Whether the node has dropped the capture.
    closed: bool,
}

/// How the capture ended.
#[derive(Debug, Default)]
struct End {
    /// Why it could not be read to the end of the file.
    error: Option<String>,
    passed_over: PassedOver,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere leaves whole frames.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A capture being played.
pub(super) struct Input {
    place: Place,
    shared: Arc<Shared>,
    batch: Batch,
    pace: Option<Pace>,
    /// Readable when the next frame is due.
    timer: TimerFd,
    end: Option<End>,
    played: u64,
    skipped: u64,
}

impl Input {
    /// Starts to read. A file is opened and its header checked at once; a pipe is left to the
    /// thread, because it may block.
    pub(super) fn open(
        place: &Place,
        pps: Option<u64>,
        filter: Option<Filter>,
    ) -> Result<Self, PortError> {
        let about = |source| PortError::Capture { attempt: format!("cannot play {place}"), source };
        let system = |error: io::Error| PortError::system(format!("cannot play {place}"), error);
        let source = Source::open(place).map_err(about)?;
        let wake_fd = WakeFd::new().map_err(system)?;
        let timer = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, timer).map_err(|error| system(error.into()))?;
        let shared =
            Arc::new(Shared { queue: Mutex::default(), has_room: Condvar::new(), wake_fd });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("capture".to_owned());
        thread.spawn(move || read_source(&theirs, source, filter.as_ref())).map_err(system)?;
        Ok(Self {
            place: place.clone(),
            shared,
            batch: Batch::default(),
            pace: pps.map(|pps| Pace::new(pps, Instant::now())),
            timer,
            end: None,
            played: 0,
            skipped: 0,
        })
    }

    /// Takes what was read once the batch is used up. Returns whether there is something to send.
    fn advance(&mut self) -> bool {
        if self.batch.is_done() && self.end.is_none() {
            self.batch.clear();
            let mut queue = self.shared.lock();
            mem::swap(&mut self.batch, &mut queue.batch);
            if self.batch.is_done() {
                self.end = queue.end.take();
            }
            self.shared.has_room.notify_one();
        }
        !self.batch.is_done()
    }

    /// Sends the frames that are due, a burst at most. Frames that the bus does not take stay for
    /// the next call.
    ///
    /// # Errors
    /// [`NotSent`] when the bus does not take all of them.
    pub(super) fn play(&mut self, station: &mut Station) -> Result<Moved, NotSent> {
        let due = self.due();
        if due == 0 {
            return Ok(Moved::default());
        }
        let longest = station.max_frame();
        let fits = |frame: &[u8]| (MIN_FRAME..=longest).contains(&frame.len());
        let burst = self.batch.pending().take(due);
        let all = burst.clone().count();
        let fitting = burst.clone().filter(|frame| fits(frame));
        let (sent, error) = match station.send_burst(fitting) {
            Ok(sent) => (sent, None),
            Err(SendError::Busy { sent, source }) => (sent, Some(SendError::Busy { sent, source })),
            Err(source) => (0, Some(source)),
        };
        // Everything up to the first frame that should have been sent and was not.
        let refused = burst.enumerate().filter(|(_, frame)| fits(frame)).nth(sent);
        let done = refused.map_or(all, |(place, _)| place);
        let moved = Moved { frames: sent, dropped: done - sent, ..Moved::default() };
        self.batch.done += done;
        self.played += moved.frames as u64;
        self.skipped += moved.dropped as u64;
        if let Some(pace) = &mut self.pace {
            pace.sent(done);
        }
        error.map_or(Ok(moved), |source| Err(NotSent { moved, source }))
    }

    /// Returns how many frames are due, a burst at most.
    fn due(&mut self) -> usize {
        if !self.advance() {
            return 0;
        }
        match self.pace.as_mut().map(|pace| pace.due(Instant::now())) {
            None => BURST,
            Some(Ok(due)) => due.min(BURST),
            Some(Err(_later)) => 0,
        }
    }

    /// Passes the frames that are due to `frame`, a burst at most, and returns how many.
    pub(super) fn take(&mut self, frame: &mut dyn FnMut(TxRequest<'_>)) -> usize {
        let due = self.due();
        let burst = self.batch.pending().take(due);
        let taken = burst.map(|taken| frame(TxRequest::new(taken, Offload::new()))).count();
        self.batch.done += taken;
        self.played += taken as u64;
        if let Some(pace) = &mut self.pace {
            pace.sent(taken);
        }
        taken
    }

    /// Returns whether the whole capture was played.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Returns the line to report once it was.
    pub(super) fn end(&self) -> Option<String> {
        let end = self.end.as_ref()?;
        let Self { place, played, skipped, .. } = self;
        let PassedOver { other_link, no_interface, giant, .. } = end.passed_over;
        let left_out = [
            (skipped + giant, "because the bus does not carry their length"),
            (other_link + no_interface, "because they are not Ethernet"),
        ];
        let left_out = left_out.iter().filter(|(count, _)| *count > 0);
        let left_out: Vec<String> =
            left_out.map(|(count, why)| format!("; {count} were left out {why}")).collect();
        let left_out = left_out.concat();
        Some(match &end.error {
            None => format!("{place} was played to its end: {played} frames{left_out}"),
            Some(error) => {
                format!(
                    "cannot read further in {place}: {error}; {played} frames were played{left_out}"
                )
            }
        })
    }

    /// Prepares for a sleep. Returns `true` when there is something to do already.
    pub(super) fn arm(&mut self) -> bool {
        // Before the check: a later wake is for what comes after it.
        self.shared.wake_fd.drain();
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
        // This also makes the timer quiet if it has fired.
        let _ = self.timer.unset();
    }

    pub(super) fn descriptors<'p>(&'p self, watch: &mut dyn FnMut(BorrowedFd<'p>)) {
        watch(self.shared.wake_fd.as_fd());
        watch(self.timer.as_fd());
    }
}

impl Drop for Input {
    /// Closes the queue. The thread ends with its next frame. It is not joined, because that frame
    /// may never come.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.has_room.notify_one();
    }
}

/// Where the thread reads from.
enum Source {
    /// A file whose header was read.
    Capture(CaptureReader<Decompressed<File>>),
    /// A pipe. To open or to read it may block.
    Pipe(Place),
}

impl Source {
    fn open(place: &Place) -> Result<Self, CaptureProblem> {
        let Place::Path(path) = place else { return Ok(Self::Pipe(Place::Standard)) };
        let kind = std::fs::metadata(path).map_err(CaptureProblem::Open)?.file_type();
        if kind.is_dir() {
            return Err(CaptureProblem::Folder);
        }
        if kind.is_file() {
            let file = File::open(path).map_err(CaptureProblem::Open)?;
            let mut capture = CaptureReader::new(Decompressed::new(file));
            capture.read_header()?;
            return Ok(Self::Capture(capture));
        }
        Ok(Self::Pipe(place.clone()))
    }
}

/// Runs the thread.
fn read_source(shared: &Shared, source: Source, filter: Option<&Filter>) {
    let end = match source {
        Source::Capture(capture) => read(shared, capture, filter),
        Source::Pipe(Place::Standard) => read(shared, CaptureReader::new(io::stdin()), filter),
        Source::Pipe(Place::Path(path)) => match File::open(path) {
            Ok(pipe) => read(shared, CaptureReader::new(pipe), filter),
            Err(error) => End { error: Some(error.to_string()), ..End::default() },
        },
    };
    shared.lock().end = Some(end);
    shared.wake_fd.wake();
}

/// Reads to the end, or until the queue is closed.
fn read<R: Read>(shared: &Shared, mut capture: CaptureReader<R>, filter: Option<&Filter>) -> End {
    loop {
        let (frame, error) = match capture.next_frame() {
            Ok(frame) => (frame, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let Some(frame) = frame else {
            return End { error, passed_over: capture.passed_over() };
        };
        if filter.is_some_and(|filter| !filter.matches(frame.bytes, frame.original_len)) {
            continue;
        }
        let mut queue = shared.lock();
        while queue.batch.bytes.len() >= READ_AHEAD && !queue.closed {
            queue = shared.has_room.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return End::default();
        }
        let was_empty = queue.batch.frames.is_empty();
        queue.batch.push(frame.bytes);
        drop(queue);
        if was_empty {
            shared.wake_fd.wake();
        }
    }
}
