//! A capture that is written. A thread writes it, since pipes and disks make their writer wait and a node never does; bursts go to
//! the thread filled and come back empty.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use capture::{CaptureWriter, CapturedInterface, Format};
use shmbus::{Burst, MAX_BIG_FRAME, Station};

use super::spec::Place;
use crate::error::{CaptureProblem, PortError};
use crate::file_identity::Identity;
use crate::port::{BURST, Moved};
use crate::reporter::Reporter;

/// Bursts that may wait to be written; beyond, frames wait on the bus.
const WAITING: usize = 4;
/// How long the end of a node waits for what is still to be written; a pipe that nobody reads is not waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Bytes kept back for the sake of larger writes.
const BUFFER: usize = 1 << 16;

/// A capture being written.
pub(super) struct Output {
    place: Place,
    reporter: Reporter,
    /// None once nothing more is to be written.
    full: Option<SyncSender<Burst>>,
    empty: Receiver<Burst>,
    spare: Option<Burst>,
    /// How it ended.
    end: Receiver<io::Result<()>>,
    thread: JoinHandle<()>,
}

impl Output {
    /// Makes the capture, or empties it; with `new` it must not be there yet.
    pub(super) fn open(
        place: &Place,
        new: bool,
        bus: &Path,
        program: &str,
        reporter: &Reporter,
    ) -> Result<Self, PortError> {
        let about = |source| PortError::Capture { attempt: format!("cannot write to {place}"), source };
        let destination = Destination::open(place, new, bus).map_err(about)?;
        let format = format_of(place);
        let program = program.to_owned();
        let (full, to_write) = sync_channel(WAITING);
        let (written, empty) = sync_channel(WAITING);
        for _ in 0..WAITING {
            // There is room for all there are.
            let _ = written.try_send(Burst::new(BURST));
        }
        let (ended, end) = sync_channel(1);
        let thread = thread::Builder::new().name("capture".to_owned());
        let thread = thread
            .spawn(move || {
                // Who asked may be gone.
                let _ = ended.send(write(destination, format, program, &to_write, &written));
            })
            .map_err(|error| about(error.into()))?;
        Ok(Self {
            place: place.clone(),
            reporter: reporter.clone(),
            full: Some(full),
            empty,
            spare: None,
            end,
            thread,
        })
    }

    /// Takes a burst from the bus.
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
        let sent = self.full.as_ref().is_some_and(|full| full.try_send(burst).is_ok());
        if sent {
            Moved { frames, ..Moved::default() }
        } else {
            Moved { dropped: frames, ..Moved::default() }
        }
    }

    /// Whether it cannot be written any more.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// What there is to say when it cannot.
    pub(super) fn end(&self) -> Option<String> {
        match self.end.try_recv() {
            Err(TryRecvError::Empty) => None,
            Ok(Err(error)) => Some(complaint(&self.place, &error)),
            Ok(Ok(())) | Err(TryRecvError::Disconnected) => {
                Some(format!("cannot write to {} any more", self.place))
            }
        }
    }
}

fn complaint(place: &Place, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::BrokenPipe => format!("nobody reads {place} any more; the others go on"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!(
                "cannot write to {place}: the disk is full; what was written is whole, and the others go on"
            )
        }
        _ => format!("cannot write to {place}: {error}; the others go on"),
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.full = None;
        match self.end.recv_timeout(LAST_WORDS) {
            Ok(Ok(())) | Err(RecvTimeoutError::Disconnected) => {}
            Ok(Err(error)) => self.reporter.note(&complaint(&self.place, &error)),
            Err(RecvTimeoutError::Timeout) => {
                self.reporter.note(&format!("nobody reads {}: the last frames are lost", self.place));
            }
        }
    }
}

/// As `dump` has it.
fn format_of(place: &Place) -> Format {
    let Place::Path(path) = place else { return Format::Pcap };
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("pcapng") => Format::Pcapng,
        _ => Format::Pcap,
    }
}

/// Where it goes.
enum Destination {
    File(File),
    /// Whoever opens it waits for its reader.
    Pipe(PathBuf),
}

impl Destination {
    fn open(place: &Place, new: bool, bus: &Path) -> Result<Self, CaptureProblem> {
        let Place::Path(path) = place else {
            // Without the line buffer of the standard library.
            return Ok(Self::File(io::stdout().as_fd().try_clone_to_owned()?.into()));
        };
        if let Ok(there) = std::fs::metadata(path) {
            if there.is_dir() {
                return Err(CaptureProblem::Folder);
            }
            if !there.is_file() {
                return Ok(Self::Pipe(path.clone()));
            }
            if Identity::of(path) == Identity::of(bus) {
                return Err(CaptureProblem::Bus);
            }
            if new && there.len() > 0 {
                return Err(CaptureProblem::Exists(path.clone()));
            }
        }
        Ok(Self::File(File::create(path)?))
    }
}

/// The thread.
fn write(
    destination: Destination,
    format: Format,
    program: String,
    to_write: &Receiver<Burst>,
    written: &SyncSender<Burst>,
) -> io::Result<()> {
    let file = match destination {
        Destination::File(file) => file,
        Destination::Pipe(path) => OpenOptions::new().write(true).open(path)?,
    };
    let mut whole = 0;
    let done = write_bursts(&file, format, program, to_write, written, &mut whole);
    if done.is_err() && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        // A part of a frame at the end would spoil the capture for some who read it; if it has to stay, it stays.
        let _ = file.set_len(whole);
    }
    done
}

/// Writes until nothing more comes. Up to `whole` bytes the file holds whole frames.
fn write_bursts(
    file: &File,
    format: Format,
    program: String,
    to_write: &Receiver<Burst>,
    written: &SyncSender<Burst>,
    whole: &mut u64,
) -> io::Result<()> {
    // Of any bus.
    let longest = u32::try_from(MAX_BIG_FRAME).unwrap_or(u32::MAX);
    let interface = CapturedInterface { name: "bus".to_owned(), longest };
    let file = BufWriter::with_capacity(BUFFER, Counted { file, bytes: 0 });
    let mut capture = CaptureWriter::with_program(format, program, vec![interface], file)?;
    let mut flush = |capture: &mut CaptureWriter<BufWriter<Counted<'_>>>| {
        capture.file_mut().flush()?;
        *whole = capture.file_mut().get_ref().bytes;
        io::Result::Ok(())
    };
    flush(&mut capture)?;
    for burst in to_write {
        for frame in &burst {
            // On a damaged bus the microseconds may be anything; they are not to spoil the seconds.
            let micros = frame.info.microseconds.min(999_999);
            let time = Duration::new(frame.info.seconds.into(), micros * 1000);
            capture.frame(0, time, frame.info.sender, frame.bytes)?;
        }
        flush(&mut capture)?;
        // There is room for all there are, and at the end nobody takes it.
        let _ = written.try_send(burst);
    }
    Ok(())
}

/// A file, and how much was written to it.
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
