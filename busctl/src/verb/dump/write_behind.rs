//! Writing behind the dump's back.
//!
//! The bus does not wait for who reads it: at a million frames a second a megabyte of ring holds some ten milliseconds. A disk
//! pauses for longer than that, so files and pipes are written by a thread of their own, and what it has not written yet waits
//! in memory. When that is used up the dump waits, and what the bus overwrites meanwhile is counted as missed.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;

/// Bytes handed over at once.
const CHUNK: usize = 1 << 20;
/// Chunks that may wait: half a second of a million small frames a second.
const WAITING: usize = 64;

/// Where bytes end up.
pub(super) trait Sink: Send + 'static {
    /// Writes all of them, and keeps none back.
    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()>;

    /// What follows belongs into the next file.
    fn turn(&mut self) -> anyhow::Result<()>;
}

enum Order {
    Put(Vec<u8>),
    Turn,
}

/// A writer that never waits for its sink as long as there is memory to spare, and never fails: what went wrong is told by
/// [`check`](Self::check).
pub(super) struct Behind {
    chunk: Vec<u8>,
    /// Bytes written since the file's beginning.
    in_file: u64,
    orders: Option<SyncSender<Order>>,
    /// Chunks that were written, to be used again.
    written: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Behind {
    pub(super) fn new(mut sink: impl Sink) -> anyhow::Result<Self> {
        let (orders, to_do) = sync_channel(WAITING);
        let (done, written) = channel();
        let work = move || {
            for order in to_do {
                match order {
                    Order::Put(mut chunk) => {
                        sink.put(&chunk)?;
                        chunk.clear();
                        // At the end nobody wants it back.
                        let _ = done.send(chunk);
                    }
                    Order::Turn => sink.turn()?,
                }
            }
            Ok(())
        };
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(work);
        let thread = Some(thread.context("cannot start a thread")?);
        Ok(Self { chunk: Vec::with_capacity(CHUNK), in_file: 0, orders: Some(orders), written, thread })
    }

    /// Hands on what was kept back for the sake of larger writes.
    pub(super) fn pass_on(&mut self) {
        if !self.chunk.is_empty() {
            let next = self.written.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
            let chunk = std::mem::replace(&mut self.chunk, next);
            self.order(Order::Put(chunk));
        }
    }

    /// What is written from now on belongs into the next file.
    pub(super) fn turn(&mut self) {
        self.pass_on();
        self.in_file = 0;
        self.order(Order::Turn);
    }

    /// Bytes written since the file's beginning.
    pub(super) fn in_file(&self) -> u64 {
        self.in_file
    }

    fn order(&mut self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.send(order).is_err()
        {
            // The thread has given up, and `check` will say why.
            self.orders = None;
        }
    }

    /// Whether all is well so far.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            None => Ok(()),
            Some(thread) => join(thread),
        }
    }

    /// Waits until everything is written.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        self.pass_on();
        self.orders = None;
        self.thread.take().map_or(Ok(()), join)
    }
}

fn join(thread: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Write for Behind {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.chunk.len() + bytes.len() > CHUNK {
            self.pass_on();
        }
        self.chunk.extend_from_slice(bytes);
        self.in_file += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on();
        Ok(())
    }
}
