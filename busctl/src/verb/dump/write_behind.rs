//! Writes files and pipes in a thread of their own.
//!
//! The bus does not wait for its readers: at a million frames a second a ring of 1 MiB holds some
//! ten milliseconds. A disk pauses for longer than that. So a thread writes, and what it has not
//! written yet waits in memory. When that memory is used up the dump waits, and what the bus
//! overwrites meanwhile is counted as missed.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;

/// Bytes passed to the thread at once.
const CHUNK: usize = 1 << 20;
/// Chunks that may wait: half a second at a million small frames a second.
const WAITING: usize = 64;

/// Where the bytes go.
pub(super) trait Sink: Send + 'static {
    /// Writes all bytes, without a buffer of its own.
    fn write_chunk(&mut self, bytes: &[u8]) -> anyhow::Result<()>;

    /// Begins the next file.
    fn rotate(&mut self) -> anyhow::Result<()>;
}

enum Command {
    Write(Vec<u8>),
    Rotate,
}

/// A writer that waits for its sink only when [`WAITING`] chunks are in memory, and never fails:
/// [`check`](Self::check) returns the errors of the sink.
pub(super) struct WriteBehind {
    chunk: Vec<u8>,
    /// Bytes written to this file.
    in_file: u64,
    commands: Option<SyncSender<Command>>,
    /// Written chunks, to be reused.
    written: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl WriteBehind {
    pub(super) fn new(mut sink: impl Sink) -> anyhow::Result<Self> {
        let (commands, received) = sync_channel(WAITING);
        let (done, written) = channel();
        let work = move || {
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
            Ok(())
        };
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(work);
        let thread = Some(thread.context("cannot start a thread")?);
        Ok(Self {
            chunk: Vec::with_capacity(CHUNK),
            in_file: 0,
            commands: Some(commands),
            written,
            thread,
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

    fn send(&mut self, command: Command) {
        if let Some(commands) = &self.commands
            && commands.send(command).is_err()
        {
            // The thread has failed; `check` returns why.
            self.commands = None;
        }
    }

    /// Fails when the sink has failed.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            None => Ok(()),
            Some(thread) => join(thread),
        }
    }

    /// Waits until everything is written.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.flush_chunk();
        self.commands = None;
        self.thread.take().map_or(Ok(()), join)
    }
}

fn join(thread: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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
