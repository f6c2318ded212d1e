//! The log of a detached process: all it and its children print, in two files of limited size.
//!
//! Stdout and stderr lead into a pipe, which a thread of the process empties into the file. So no
//! printing process can fill the disk: when the file is full it becomes the one before, and a new
//! one begins. Until the process is ready, what it prints also goes to the terminal it was started
//! from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::process::background_thread;

/// The most bytes in each of the two files.
const MAX_LEN: u64 = 1 << 20;
/// How much is read at once: as much as a pipe usually holds.
const CHUNK: usize = 1 << 16;
/// How much a pipe takes that polls writable, in bytes.
const WRITABLE: usize = 4_096;
/// How long the reader of the starter's stderr may pause, in milliseconds.
const STARTER_TIMEOUT: u8 = 200;
/// How often a drain reads: a pipe that still has bytes is written to faster than it is read.
const DRAIN_READS: u32 = 64;

/// The log of this process, if it is detached.
static LOG: OnceLock<Log> = OnceLock::new();

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    /// What was printed and is not in the file yet.
    pipe: PipeReader,
    outlets: Mutex<Outlets>,
}

/// Where it goes.
#[derive(Debug)]
struct Outlets {
    file: LogFile,
    /// The stderr of the process that waits for this one.
    starter: Option<File>,
}

/// The file, and where the one before it is.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    len: u64,
    max_len: u64,
}

/// Starts the log of this process at `path`; `starter` gets a copy until [`leave_starter`]. Returns
/// the end to print into.
///
/// # Errors
/// When the file cannot be made, or no descriptor or thread is available.
pub(super) fn start(path: &Path, starter: File) -> io::Result<PipeWriter> {
    let (pipe, writer) = io::pipe()?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let file = LogFile::begin(path, MAX_LEN)?;
    let log = Log { pipe, outlets: Mutex::new(Outlets { file, starter: Some(starter) }) };
    let log = LOG.get_or_init(|| log);
    background_thread::spawn("log", || log.run()).map(|_| writer)
}

/// Writes what was printed so far, and copies no more to the process that started this one.
pub(super) fn leave_starter() {
    if let Some(log) = LOG.get() {
        log.drain();
        log.lock().starter = None;
    }
}

/// Writes what was printed so far. Without a log it does nothing.
pub(crate) fn drain() {
    LOG.get().map(Log::drain);
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, Outlets> {
        // A panic elsewhere leaves nothing half done in it.
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is printed until no process has the other end.
    fn run(&self) {
        let mut is_open = true;
        while is_open {
            let mut readable = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            // An interrupted poll is tried again.
            let _ = poll(&mut readable, PollTimeout::NONE);
            is_open = self.drain();
        }
    }

    /// Writes what is in the pipe. Returns `false` when no process has the other end.
    fn drain(&self) -> bool {
        let mut outlets = self.lock();
        let mut chunk = vec![0; CHUNK];
        for _ in 0..DRAIN_READS {
            match (&self.pipe).read(&mut chunk) {
                Ok(0) => return false,
                Ok(len) => outlets.write(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It is empty.
                Err(_) => return true,
            }
        }
        true
    }
}

impl Outlets {
    fn write(&mut self, bytes: &[u8]) {
        // There is no other place to report a failure.
        let _ = self.file.write(bytes);
        // A starter whose reader has stopped must not stop this process.
        if self.starter.as_mut().is_some_and(|starter| !copy(bytes, starter)) {
            self.starter = None;
        }
    }
}

/// Writes to the stderr of the process that started this one. Returns `false` when it takes no more.
/// The descriptor is shared, so it cannot be made not to block.
fn copy(bytes: &[u8], starter: &mut File) -> bool {
    bytes.chunks(WRITABLE).all(|piece| {
        let mut writable = [PollFd::new(starter.as_fd(), PollFlags::POLLOUT)];
        let is_ready = poll(&mut writable, STARTER_TIMEOUT).is_ok_and(|ready| ready > 0);
        is_ready && starter.write_all(piece).is_ok()
    })
}

impl LogFile {
    /// Begins a new file; the last one becomes the one before.
    fn begin(path: &Path, max_len: u64) -> io::Result<Self> {
        let before = path.with_added_extension("1");
        match fs::rename(path, before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file, len: 0, max_len })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.len > 0 && self.len + bytes.len() as u64 > self.max_len {
            match Self::begin(&self.path, self.max_len) {
                Ok(next) => *self = next,
                // The folder is gone, or the disk is full.
                Err(_) => self.file.set_len(0)?,
            }
            self.len = 0;
        }
        self.len += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_a_limit_and_the_last_lines_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        let mut log = LogFile::begin(&path, 100).unwrap();
        for number in 0..1_000 {
            log.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let (now, before) = (read("web.log"), read("web.log.1"));
        assert!(now.ends_with("line 999\n") && now.len() <= 100 && before.len() <= 100);
        assert!((before + &now).contains("line 990\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_starter_that_is_not_read_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = LogFile::begin(&folder.path().join("web.log"), MAX_LEN).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let starter = Some(File::from(std::os::fd::OwnedFd::from(writer)));
        let mut outlets = Outlets { file, starter };
        outlets.write(b"first\n");
        let mut first = [0; 6];
        reader.read_exact(&mut first).unwrap();
        assert_eq!((&first, outlets.starter.is_some()), (b"first\n", true));
        // More than any pipe holds.
        outlets.write(&vec![b'x'; 4 << 20]);
        assert!(outlets.starter.is_none());
        assert_eq!(outlets.file.len, 4 << 20, "all is in the log");
    }

    #[test]
    fn a_log_whose_folder_is_gone_stays_within_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = LogFile::begin(&folder.path().join("web.log"), 100).unwrap();
        drop(folder);
        for _ in 0..1_000 {
            log.write(b"line\n").unwrap();
        }
        assert!(log.file.metadata().unwrap().len() <= 100);
    }
}
