//! Lines on stderr, written by a thread of their own.
//!
//! A reader of stderr can stop reading without closing it. A write then blocks for ever, and the
//! thread that writes must not be one that serves peers or waits for signals. So lines go into a
//! queue of limited length; lines that find it full are dropped and counted, and the next line that
//! is written says how many.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::process::background_thread;
use crate::process::name::program;

/// The most lines that wait to be written.
const MAX_WAITING: usize = 1_024;
/// How long [`flush`] waits for the next line to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The lines that wait. The thread exists from the first line on.
static QUEUE: LazyLock<Queue> = LazyLock::new(|| {
    let started = background_thread::spawn("stderr", || QUEUE.run(&write_all));
    // A process that has entered a pid namespace is allowed no thread, and serves no peer.
    Queue { is_direct: started.is_err(), ..Queue::default() }
});

#[derive(Debug, Default)]
struct Queue {
    /// Whether lines are written at once, as there is no thread.
    is_direct: bool,
    state: Mutex<State>,
    /// Signals that a line was added or written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// Lines that found the queue full, since the last one that was written.
    dropped: u64,
    /// Lines that were written.
    written: u64,
    /// Whether the thread is writing a line.
    writing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Vec<u8>) {
        if self.is_direct {
            return write_all(&line);
        }
        let mut state = self.lock();
        if state.lines.len() >= MAX_WAITING {
            state.dropped += 1;
        } else {
            state.lines.push_back(line);
            self.changed.notify_all();
        }
    }

    /// Writes lines for ever.
    fn run(&self, write: &dyn Fn(&[u8])) {
        let mut state = self.lock();
        loop {
            let Some(mut line) = state.lines.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            write(&line);
            state = self.lock();
            state.written += 1;
            let dropped = std::mem::take(&mut state.dropped);
            if dropped > 0 {
                drop(state);
                line = format!(
                    "{}: warning: {dropped} lines were dropped here: stderr was not read\n",
                    program()
                )
                .into_bytes();
                write(&line);
                state = self.lock();
            }
            state.writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits until all lines are written, as long as one is written every `timeout`.
    fn flush(&self, timeout: Duration) {
        let mut state = self.lock();
        while state.writing || !state.lines.is_empty() {
            let before = state.written;
            let (next, waited) = self
                .changed
                .wait_timeout_while(state, timeout, |state| {
                    state.written == before && (state.writing || !state.lines.is_empty())
                })
                .unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                return;
            }
            state = next;
        }
    }
}

/// Writes to the descriptor itself: a write that blocks must not hold the lock of [`io::stderr`].
fn write_all(mut bytes: &[u8]) {
    let stderr = io::stderr();
    while !bytes.is_empty() {
        match nix::unistd::write(stderr.as_fd(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            // Another process has made it non-blocking.
            Err(Errno::EAGAIN) => thread::sleep(Duration::from_millis(1)),
            // There is no other place to report it.
            Err(_) => return,
        }
    }
}

/// Prints bytes that end with a newline, without waiting.
pub(crate) fn print(line: Vec<u8>) {
    QUEUE.push(line);
}

/// Waits until all lines are written. Gives up when stderr is not read.
pub(crate) fn flush() {
    QUEUE.flush(FLUSH_TIMEOUT);
}

/// Prints each write as a line, for logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        print(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    #[test]
    fn lines_that_find_the_queue_full_are_dropped_and_counted() {
        let queue = Arc::new(Queue::default());
        let (started, start) = channel();
        let (go, gate) = channel::<()>();
        let (write, written) = channel();
        let theirs = Arc::clone(&queue);
        thread::spawn(move || {
            theirs.run(&move |line: &[u8]| {
                started.send(()).unwrap();
                // Blocks until the test reads, as a full pipe does.
                let _ = gate.recv();
                write.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
            });
        });
        queue.push(b"first\n".to_vec());
        start.recv().unwrap();
        for _ in 0..MAX_WAITING + 7 {
            queue.push(b"more\n".to_vec());
        }
        queue.flush(Duration::from_millis(10));
        assert!(written.try_recv().is_err(), "flush gives up on a reader that does not read");
        drop(go);
        queue.flush(Duration::from_secs(10));
        let lines: Vec<String> = written.try_iter().collect();
        assert_eq!(lines.len(), 1 + MAX_WAITING + 1);
        assert_eq!(lines[0], "first\n");
        assert!(lines[1].contains(" 7 lines were dropped"), "{}", lines[1]);
    }
}
