//! Writes files and pipes in a thread of their own.
//!
//! The bus does not wait for its readers: at a million frames a second a ring of 1 MiB holds some
//! ten milliseconds. A disk pauses for longer than that. So a thread writes, and what it has not
//! written yet waits in memory. When that memory is used up the dump waits, and what the bus
//! overwrites meanwhile is counted as missed.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, channel, sync_channel,
};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::process::shutdown::Shutdown;

/// Bytes passed to the thread at once.
const CHUNK: usize = 1 << 20;
/// Chunks that may wait: half a second at a million small frames a second.
const WAITING: usize = 64;
/// How often a wait for the sink looks for a request to stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long a sink may write nothing once the process was asked to stop.
const STUCK: Duration = Duration::from_secs(2);

/// Where the bytes go.
pub(super) trait Sink: Send + 'static {
    /// Writes all bytes, without a buffer of its own.
    fn write_chunk(&mut self, bytes: &[u8]) -> anyhow::Result<()>;

    /// Begins the next file.
    fn rotate(&mut self) -> anyhow::Result<()>;

    /// Ends the file: nothing more is written.
    fn finish(&mut self) -> anyhow::Result<()>;
}

enum Command {
    Write(Vec<u8>),
    Rotate,
}

/// A writer that waits for its sink only when [`WAITING`] chunks are in memory, and never fails:
/// [`check`](Self::check) returns the errors of the sink.
///
/// A sink may block without end, such as a pipe whose reader does not read. Once the process is asked to
/// stop, such a sink is given up after [`STUCK`].
pub(super) struct WriteBehind {
    chunk: Vec<u8>,
    /// Bytes written to this file.
    in_file: u64,
    commands: Option<SyncSender<Command>>,
    /// Written chunks, to be reused.
    written: Receiver<Vec<u8>>,
    /// The result of the thread.
    end: Receiver<anyhow::Result<()>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// When the sink last wrote something, as far as was looked after the request to stop.
    progress: Option<Instant>,
    stuck: bool,
}

impl WriteBehind {
    pub(super) fn new(mut sink: impl Sink, stop: &Shutdown) -> anyhow::Result<Self> {
        let (commands, received) = sync_channel(WAITING);
        let (done, written) = channel();
        let (ended, end) = channel();
        let write = move || {
            for command in received {
                match command {
                    Command::Write(mut chunk) => {
                        sink.write_chunk(&chunk)?;
                        chunk.clear();
                        // At the end the dump needs no chunk any more.
                        let _ = done.send(chunk);
                    }
                    Command::Rotate => sink.rotate()?,
                }
            }
            sink.finish()
        };
        let work = move || {
            // A dump that has given up does not listen.
            let _ = ended.send(write());
        };
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(work);
        let thread = Some(thread.context("cannot start a thread")?);
        Ok(Self {
            chunk: Vec::with_capacity(CHUNK),
            in_file: 0,
            commands: Some(commands),
            written,
            end,
            thread,
            stop: stop.flag(),
            progress: None,
            stuck: false,
        })
    }

    /// Passes the bytes of an incomplete chunk to the thread.
    pub(super) fn flush_chunk(&mut self) {
        if !self.chunk.is_empty() {
            let next = self.written.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
            let chunk = std::mem::replace(&mut self.chunk, next);
            self.send(Command::Write(chunk));
        }
    }

    /// Begins the next file with what is written from now on.
    pub(super) fn rotate(&mut self) {
        self.flush_chunk();
        self.in_file = 0;
        self.send(Command::Rotate);
    }

    /// Returns the number of bytes written to this file.
    pub(super) fn in_file(&self) -> u64 {
        self.in_file
    }

    fn send(&mut self, mut command: Command) {
        while let Some(commands) = &self.commands {
            command = match commands.try_send(command) {
                Ok(()) => return,
                Err(TrySendError::Full(command)) => command,
                Err(TrySendError::Disconnected(_)) => {
                    // The thread has failed; `check` returns why.
                    self.commands = None;
                    return;
                }
            };
            // A chunk that comes back makes room.
            let wrote = self.written.recv_timeout(LOOK).is_ok();
            if self.is_stuck(wrote) {
                self.commands = None;
            }
        }
    }

    /// Returns whether the sink has not moved for too long since the process was asked to stop.
    fn is_stuck(&mut self, wrote: bool) -> bool {
        // Relaxed: the flag orders nothing.
        if !self.stop.load(Ordering::Relaxed) {
            return false;
        }
        let now = Instant::now();
        if wrote {
            self.progress = Some(now);
        }
        let progress = *self.progress.get_or_insert(now);
        self.stuck |= now.duration_since(progress) > STUCK;
        self.stuck
    }

    /// Fails when the sink has failed or was given up.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.end.try_recv() {
            _ if self.stuck => Err(given_up()),
            Ok(result) => result,
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => self.join(),
        }
    }

    /// Joins the thread, whose result was returned before, unless it panicked.
    fn join(&mut self) -> anyhow::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            _ => Ok(()),
        }
    }

    /// Waits until everything is written.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.flush_chunk();
        self.commands = None;
        loop {
            let wrote = self.written.try_iter().count() > 0;
            if self.is_stuck(wrote) {
                return Err(given_up());
            }
            match self.end.recv_timeout(LOOK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.join(),
            }
        }
    }
}

fn given_up() -> anyhow::Error {
    anyhow!("the output is not read: what was waiting for its reader is lost")
}

impl Write for WriteBehind {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.chunk.len() + bytes.len() > CHUNK {
            self.flush_chunk();
        }
        self.chunk.extend_from_slice(bytes);
        self.in_file += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_chunk();
        Ok(())
    }
}
