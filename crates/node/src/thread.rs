//! A thread of a node, as the node sees it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use port::{Reporter, WakeFd};

use crate::attached_port::{AttachedPort, PortId};
use crate::worker::{Command, Reports, Worker};

/// A thread that serves ports. Dropping it ends the thread and closes its ports.
#[derive(Debug)]
pub(crate) struct Thread {
    commands: Sender<Command>,
    wake_fd: Arc<WakeFd>,
    beats: Arc<AtomicU64>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    /// Starts the thread number `index` of a node, on the processor `cpu` if there is one.
    pub(crate) fn start(index: usize, cpu: Option<usize>, reports: Reports) -> io::Result<Self> {
        let (commands, received) = channel();
        let wake_fd = Arc::new(WakeFd::new()?);
        let beats = Arc::<AtomicU64>::default();
        let reporter = reports.reporter.clone();
        let worker = Worker::new(Arc::clone(&wake_fd), received, reports, Arc::clone(&beats))?;
        let handle =
            std::thread::Builder::new().name(format!("node {index}")).spawn(move || {
                if let Some(cpu) = cpu {
                    pin(cpu, &reporter);
                }
                worker.run();
            })?;
        Ok(Self { commands, wake_fd, beats, handle: Some(handle) })
    }

    /// Serves a port from now on.
    pub(crate) fn add(&self, port: Box<AttachedPort>) {
        self.send(Command::Add(port));
    }

    /// Takes a port out of the thread. Returns `None` when the port has ended.
    pub(crate) fn take(&self, id: PortId) -> Option<Box<AttachedPort>> {
        let (answer, port) = channel();
        self.send(Command::Remove(id, answer));
        // Without an answer the thread has ended, and its ports with it.
        port.recv().ok().flatten()
    }

    /// Makes the thread end soon. [`drop`] waits for that.
    pub(crate) fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Returns how many rounds the thread has run.
    pub(crate) fn beats(&self) -> u64 {
        // Relaxed: only that the number changes matters.
        self.beats.load(Ordering::Relaxed)
    }

    fn send(&self, command: Command) {
        // A thread that has ended has reported why, and its ports have ended with it.
        let _ = self.commands.send(command);
        self.wake_fd.wake();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop();
        if let Some(handle) = self.handle.take() {
            // A panic there has been reported as such.
            let _ = handle.join();
        }
    }
}

/// Keeps the calling thread on processor `cpu`. When that fails it is reported, and the system
/// chooses a processor.
fn pin(cpu: usize, reporter: &Reporter) {
    let mut set = CpuSet::new();
    if let Err(error) = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        let reason = error.desc();
        reporter.warn(&format!("cannot use processor {cpu}: {reason}; the system chooses one"));
    }
}
