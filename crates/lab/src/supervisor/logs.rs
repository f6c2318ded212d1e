//! What the commands of the nodes print: a thread reads it, and writes it to the logs.
//!
//! A log has two files of at most 4 MiB each. A command that prints faster than the disk takes it
//! waits, as for any pipe, and no other command waits for it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use port::WakeFd;

use crate::folder::Folder;

/// The longest file of a log, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// The most bytes read from one pipe before the others have their turn.
const MAX_READ: usize = 64 << 10;

/// How long [`Logs::settle`] waits for a slow disk, or for commands that print without end.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The logs of a lab. Dropping this leaves the thread to end with the process.
pub(super) struct Logs {
    messages: Sender<Message>,
    wake_fd: std::sync::Arc<WakeFd>,
}

/// What the thread is asked for.
enum Message {
    /// To write what arrives.
    Pipe(Pipe),
    /// To say when all that has arrived is written.
    Settle(Sender<()>),
}

/// What a command prints, on its way to a log.
struct Pipe {
    reader: PipeReader,
    log: PathBuf,
}

impl Logs {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (messages, received) = mpsc::channel();
        let wake_fd = std::sync::Arc::new(WakeFd::new()?);
        let woken = std::sync::Arc::clone(&wake_fd);
        thread::Builder::new().name("logs".to_owned()).spawn(move || write(&received, &woken))?;
        Ok(Self { messages, wake_fd })
    }

    /// Returns the end of a pipe whose bytes are written to the log of `node`.
    pub(super) fn open(&self, folder: &Folder, node: &str) -> io::Result<PipeWriter> {
        let (reader, writer) = io::pipe()?;
        // The thread ends with the process, so it is there.
        let _ = self.messages.send(Message::Pipe(Pipe { reader, log: folder.log(node) }));
        self.wake_fd.wake();
        Ok(writer)
    }

    /// Waits until what was printed so far is in the logs, for a second at most. A client that learns of
    /// a failure then finds its reason there.
    pub(super) fn settle(&self) {
        let (done, settled) = mpsc::channel();
        let _ = self.messages.send(Message::Settle(done));
        self.wake_fd.wake();
        let _ = settled.recv_timeout(SETTLE_TIMEOUT);
    }

    /// Writes a line of the lab itself to the log of `node`.
    pub(super) fn say(&self, folder: &Folder, node: &str, line: &str) {
        // A log that cannot be written is no reason to end.
        let _ = self.open(folder, node).and_then(|mut pipe| writeln!(pipe, "lab: {line}"));
    }
}

/// Writes what arrives until the supervisor is gone.
fn write(new: &Receiver<Message>, wake_fd: &WakeFd) {
    let mut pipes: Vec<Pipe> = Vec::new();
    let mut settling: Vec<Sender<()>> = Vec::new();
    let mut files = BTreeMap::new();
    let mut bytes = vec![0; MAX_READ];
    loop {
        wake_fd.drain();
        loop {
            match new.try_recv() {
                Ok(Message::Pipe(pipe)) => pipes.push(pipe),
                Ok(Message::Settle(done)) => settling.push(done),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
        let timeout = if settling.is_empty() { PollTimeout::NONE } else { PollTimeout::ZERO };
        let ready = match wait(&pipes, wake_fd.as_fd(), timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        if !ready.contains(&true) {
            for done in settling.drain(..) {
                // It may have waited for long enough.
                let _ = done.send(());
            }
        }
        let mut ready = ready.into_iter();
        pipes.retain_mut(|pipe| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            match pipe.reader.read(&mut bytes) {
                Ok(0) => false,
                Ok(len) => {
                    let log = files.entry(pipe.log.clone()).or_insert_with(Log::default);
                    // What a full disk does not take is lost; the command continues.
                    let _ = log.write(&pipe.log, &bytes[..len]);
                    true
                }
                Err(error) => error.kind() == io::ErrorKind::Interrupted,
            }
        });
    }
}

/// Waits until some of the pipes can be read, or the time is over; returns which can.
fn wait(pipes: &[Pipe], wake: BorrowedFd<'_>, timeout: PollTimeout) -> Result<Vec<bool>, Errno> {
    let mut fds: Vec<_> = pipes
        .iter()
        .map(|pipe| PollFd::new(pipe.reader.as_fd(), PollFlags::POLLIN))
        .chain([PollFd::new(wake, PollFlags::POLLIN)])
        .collect();
    poll(&mut fds, timeout)?;
    Ok(fds[..pipes.len()].iter().map(|fd| fd.any().unwrap_or(true)).collect())
}

/// An open log.
#[derive(Default)]
struct Log {
    file: Option<File>,
    len: u64,
}

impl Log {
    fn write(&mut self, path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
        if self.len >= MAX_FILE {
            self.file = None;
            let mut before = path.clone().into_os_string();
            before.push(".1");
            fs::rename(path, before)?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                self.len = file.metadata()?.len();
                none.insert(file)
            }
        };
        self.len += bytes.len() as u64;
        file.write_all(bytes)
    }
}
