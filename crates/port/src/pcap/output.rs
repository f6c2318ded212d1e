//! A capture that is written from the bus.
//!
//! A thread of its own writes the capture, because a pipe or a disk may block its writer and a node
//! must never block. Bursts go to the thread filled and come back empty.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use capture::{CaptureWriter, CapturedInterface, Filter, Format};
use shmbus::{Burst, MAX_BIG_FRAME, Station};

use super::spec::{PcapSpec, Place};
use crate::error::{CaptureProblem, PortError};
use crate::file_identity::Identity;
use crate::output_file::{open_output, open_pipe};
use crate::port::{BURST, Moved};
use crate::reporter::Reporter;

/// The most bursts that wait to be written. While all wait, frames stay on the bus.
const MAX_QUEUED_BURSTS: usize = 4;
/// How long closing the port waits for the last bursts to be written. A pipe without a reader would
/// keep it waiting for ever.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The size of the write buffer in bytes.
const BUFFER: usize = 1 << 16;

/// Frames to be written together.
enum Batch {
    /// From the bus, with their times.
    Burst(Burst),
    /// Copies that have waited until this time since the epoch.
    Copies(Duration, Vec<Vec<u8>>),
}

/// A capture being written.
pub(super) struct Output {
    place: Place,
    reporter: Reporter,
    /// What is to be written. `None` once the capture is being closed.
    full: Option<SyncSender<Batch>>,
    empty: Receiver<Burst>,
    spare: Option<Burst>,
    /// Whether the thread can write: a named pipe has a reader.
    is_open: Arc<AtomicBool>,
    /// The result of the thread.
    end: Receiver<io::Result<()>>,
    thread: JoinHandle<()>,
}

impl Output {
    /// Makes the capture at `place`, or truncates it. With `new`, a file that is not empty is an error.
    pub(super) fn open(
        place: &Place,
        spec: &PcapSpec,
        bus: &Path,
        program: &str,
        reporter: &Reporter,
    ) -> Result<Self, PortError> {
        let about =
            |source| PortError::Capture { attempt: format!("cannot write to {place}"), source };
        let destination = Destination::open(place, spec.new, bus).map_err(about)?;
        let filter = spec.filter.clone();
        let format = format_of(place);
        let program = program.to_owned();
        let (full, to_write) = sync_channel(MAX_QUEUED_BURSTS);
        let (written, empty) = sync_channel(MAX_QUEUED_BURSTS);
        for _ in 0..MAX_QUEUED_BURSTS {
            // The channel has room for all bursts.
            let _ = written.try_send(Burst::new(BURST));
        }
        let (ended, end) = sync_channel(1);
        let is_open = Arc::new(AtomicBool::new(matches!(destination, Destination::File(_))));
        let opened = Arc::clone(&is_open);
        let thread = thread::Builder::new().name("capture".to_owned());
        let thread = thread
            .spawn(move || {
                // The port may be closed already.
                let _ = ended.send(destination.wait_for_reader().and_then(|file| {
                    // Relaxed: the flag orders nothing.
                    opened.store(true, Ordering::Relaxed);
                    let header = Header { format, program, filter };
                    write(&file, header, &to_write, &written)
                }));
            })
            .map_err(|error| about(error.into()))?;
        Ok(Self {
            place: place.clone(),
            reporter: reporter.clone(),
            full: Some(full),
            empty,
            spare: None,
            is_open,
            end,
            thread,
        })
    }

    /// Takes frames that are not from the bus, unless as many as possible wait to be written. Returns
    /// how many.
    pub(super) fn put(&mut self, frames: &mut dyn Iterator<Item = &[u8]>) -> usize {
        let Some(full) = &self.full else { return 0 };
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let copies: Vec<_> = frames.map(<[u8]>::to_vec).collect();
        let count = copies.len();
        if count == 0 || full.try_send(Batch::Copies(time, copies)).is_err() { 0 } else { count }
    }

    /// Takes a burst from the bus, unless all bursts wait to be written.
    pub(super) fn take(&mut self, station: &mut Station) -> Moved {
        let Some(mut burst) = self.spare.take().or_else(|| self.empty.try_recv().ok()) else {
            return Moved { blocked: true, ..Moved::default() };
        };
        burst.clear();
        let frames = station.recv_into(&mut burst, BURST);
        if frames == 0 {
            self.spare = Some(burst);
            return Moved::default();
        }
        let sent =
            self.full.as_ref().is_some_and(|full| full.try_send(Batch::Burst(burst)).is_ok());
        if sent {
            Moved { frames, ..Moved::default() }
        } else {
            Moved { dropped: frames, ..Moved::default() }
        }
    }

    /// Returns whether the thread has ended: the capture cannot be written any more.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Returns the line to report once the thread has ended.
    pub(super) fn end(&self) -> Option<String> {
        match self.end.try_recv() {
            Err(TryRecvError::Empty) => None,
            Ok(Err(error)) => Some(failure(&self.place, &error)),
            Ok(Ok(())) | Err(TryRecvError::Disconnected) => {
                Some(format!("cannot write to {} any more", self.place))
            }
        }
    }
}

/// Returns the line that reports why a capture cannot be written any more.
fn failure(place: &Place, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::BrokenPipe => {
            format!("{place} has no reader any more; the other ports continue")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!(
            "cannot write to {place}: the disk is full; what was written is intact, \
             and the other ports continue"
        ),
        _ => format!("cannot write to {place}: {error}; the other ports continue"),
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.full = None;
        // Relaxed: the flag orders nothing. A pipe that still has no reader is not waited for: the
        // thread ends with its first one.
        let timeout =
            if self.is_open.load(Ordering::Relaxed) { FLUSH_TIMEOUT } else { Duration::ZERO };
        match self.end.recv_timeout(timeout) {
            Ok(Ok(())) | Err(RecvTimeoutError::Disconnected) => {}
            Ok(Err(error)) => self.reporter.note(&failure(&self.place, &error)),
            Err(RecvTimeoutError::Timeout) => {
                self.reporter
                    .note(&format!("{} has no reader: the last frames are lost", self.place));
            }
        }
    }
}

/// Returns the format that the name of the file asks for: pcapng for `.pcapng`, else pcap.
fn format_of(place: &Place) -> Format {
    let Place::Path(path) = place else { return Format::Pcap };
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("pcapng") => Format::Pcapng,
        _ => Format::Pcap,
    }
}

/// Where the thread writes to.
enum Destination {
    File(File),
    /// A named pipe. To open it blocks until it has a reader.
    Pipe(PathBuf),
}

impl Destination {
    fn open(place: &Place, new: bool, bus: &Path) -> Result<Self, CaptureProblem> {
        let Place::Path(path) = place else {
            // The descriptor itself, without the line buffer of the standard library.
            return Ok(Self::File(io::stdout().as_fd().try_clone_to_owned()?.into()));
        };
        if let Ok(existing) = std::fs::metadata(path) {
            if existing.is_dir() {
                return Err(CaptureProblem::Folder);
            }
            if !existing.is_file() {
                return Ok(Self::Pipe(path.clone()));
            }
            if new && existing.len() > 0 {
                return Err(CaptureProblem::Exists(path.clone()));
            }
        }
        let Some(file) = open_output(path).map_err(CaptureProblem::Create)? else {
            return Ok(Self::Pipe(path.clone()));
        };
        let found = file.metadata()?;
        if Identity::File(found.dev(), found.ino()) == Identity::of(bus) {
            return Err(CaptureProblem::Bus);
        }
        if found.is_file() {
            file.set_len(0).map_err(CaptureProblem::Create)?;
        }
        Ok(Self::File(file))
    }

    /// Returns the file. Waits until a pipe has a reader.
    fn wait_for_reader(self) -> io::Result<File> {
        match self {
            Self::File(file) => Ok(file),
            Self::Pipe(path) => open_pipe(&path),
        }
    }
}

/// How the capture begins, and what is in it.
struct Header {
    format: Format,
    program: String,
    filter: Option<Filter>,
}

/// Runs the thread.
fn write(
    file: &File,
    header: Header,
    to_write: &Receiver<Batch>,
    written: &SyncSender<Burst>,
) -> io::Result<()> {
    let mut whole = 0;
    let done = write_bursts(file, header, to_write, written, &mut whole);
    if done.is_err() && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        // Some readers reject a capture with a partial frame at the end. If it cannot be cut off,
        // it stays.
        let _ = file.set_len(whole);
    }
    done
}

/// Writes until the channel is closed. The first `whole` bytes of the file hold whole frames.
fn write_bursts(
    file: &File,
    Header { format, program, filter }: Header,
    to_write: &Receiver<Batch>,
    written: &SyncSender<Burst>,
    whole: &mut u64,
) -> io::Result<()> {
    // The longest frame of any bus.
    let longest = u32::try_from(MAX_BIG_FRAME).unwrap_or(u32::MAX);
    let interface = CapturedInterface::new("bus", longest);
    let file = BufWriter::with_capacity(BUFFER, Counted { file, bytes: 0 });
    let mut capture = CaptureWriter::with_program(format, program, vec![interface], file)?;
    let mut flush = |capture: &mut CaptureWriter<BufWriter<Counted<'_>>>| {
        capture.file_mut().flush()?;
        *whole = capture.file_mut().get_ref().bytes;
        io::Result::Ok(())
    };
    flush(&mut capture)?;
    let matches =
        |frame: &[u8]| filter.as_ref().is_none_or(|filter| filter.matches(frame, frame.len()));
    for batch in to_write {
        let burst = match batch {
            Batch::Burst(burst) => burst,
            Batch::Copies(time, frames) => {
                let mut matching = frames.iter().filter(|frame| matches(frame));
                matching.try_for_each(|frame| capture.frame(0, time, 0, frame))?;
                flush(&mut capture)?;
                continue;
            }
        };
        for frame in burst.into_iter().filter(|frame| matches(frame.bytes)) {
            // On a damaged bus the microseconds may be anything. They must not carry into the
            // seconds.
            let micros = frame.info.microseconds.min(999_999);
            let time = Duration::new(frame.info.seconds.into(), micros * 1000);
            capture.frame(0, time, frame.info.sender, frame.bytes)?;
        }
        flush(&mut capture)?;
        // The channel has room for all bursts. When the port is closed, it has no receiver any
        // more.
        let _ = written.try_send(burst);
    }
    Ok(())
}

/// A file, and the number of bytes written to it.
struct Counted<'f> {
    file: &'f File,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
