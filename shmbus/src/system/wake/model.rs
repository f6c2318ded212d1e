//! Every interleaving of threads that wait and threads that send, with loom: no thread sleeps on
//! while there is something to read.
//!
//! No sleep ends by itself here. So a lost wake-up leaves a thread that can never run again, which
//! loom reports.

use std::io;
use std::time::Duration;

use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use self::shared_wait::{SharedWait, SharedWaiter, Sleep};
use super::watch_table::{self, FileId, Notify};

/// What the threads of a shared wait meet at, here.
mod sync {
    pub(super) use loom::sync::atomic::fence;
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

#[allow(clippy::duplicate_mod, reason = "the same code with loom's types")]
#[path = "shared_wait.rs"]
mod shared_wait;

/// Longer than any test.
const NO_LIMIT: Duration = Duration::from_secs(3_600);
/// A sleep that ends early, in an error.
const BROKEN: Duration = Duration::from_secs(59);

/// A bus: what was sent on it, and whether the kernel believes it to be watched.
#[derive(Debug)]
struct File {
    sent: AtomicU32,
    watched: AtomicUsize,
}

impl File {
    fn new() -> Arc<Self> {
        Arc::new(Self { sent: AtomicU32::new(0), watched: AtomicUsize::new(0) })
    }
}

/// An inotify instance for two files.
#[derive(Debug)]
struct Kernel {
    files: [Arc<File>; 2],
    inside: Arc<Inside>,
}

#[derive(Debug)]
struct Inside {
    queue: Mutex<Queue>,
    readable: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    next: u32,
    watches: [Option<u32>; 2],
    events: Vec<u32>,
}

impl Inside {
    /// Something happened to a watched file: it was written, or its watch ended.
    fn queue_event(&self, queue: &mut Queue, nth: usize) {
        if let Some(watch) = queue.watches[nth] {
            queue.events.push(watch);
            self.readable.notify_all();
        }
    }
}

impl Notify for Kernel {
    type File = Arc<File>;
    type Watch = u32;

    fn watch(&self, file: &Arc<File>) -> io::Result<u32> {
        let nth = self.files.iter().position(|other| Arc::ptr_eq(file, other)).expect("known");
        let mut queue = self.inside.queue.lock().expect("sound");
        let next = queue.next + 1;
        queue.next = next;
        let watch = *queue.watches[nth].get_or_insert(next);
        file.watched.store(1, Ordering::Relaxed);
        Ok(watch)
    }

    fn unwatch(&self, watch: u32) {
        let mut queue = self.inside.queue.lock().expect("sound");
        if let Some(nth) = queue.watches.iter().position(|other| *other == Some(watch)) {
            self.files[nth].watched.store(0, Ordering::Relaxed);
            self.inside.queue_event(&mut queue, nth);
            queue.watches[nth] = None;
        }
    }

    fn drain(&self, each: &mut dyn FnMut(Option<u32>)) {
        let events = std::mem::take(&mut self.inside.queue.lock().expect("sound").events);
        for watch in events {
            each(Some(watch));
        }
    }

    fn sleep(&self, time: Duration) -> io::Result<()> {
        if time <= BROKEN {
            return Err(io::ErrorKind::Other.into());
        }
        let mut queue = self.inside.queue.lock().expect("sound");
        while queue.events.is_empty() {
            queue = self.inside.readable.wait(queue).expect("sound");
        }
        Ok(())
    }
}

/// A process with two buses.
#[derive(Clone)]
struct Process {
    files: [Arc<File>; 2],
    inside: Arc<Inside>,
    shared_wait: std::sync::Arc<SharedWait<Kernel>>,
}

impl Process {
    fn new() -> Self {
        let files = [File::new(), File::new()];
        let inside =
            Arc::new(Inside { queue: Mutex::new(Queue::default()), readable: Condvar::new() });
        let kernel = Kernel { files: files.clone(), inside: Arc::clone(&inside) };
        Self { files, inside, shared_wait: std::sync::Arc::new(SharedWait::new(kernel)) }
    }

    fn waiter(&self, nth: usize) -> SharedWaiter<Kernel> {
        let id = FileId { device: 0, inode: nth as u64 };
        SharedWaiter::new(std::sync::Arc::clone(&self.shared_wait), id)
    }

    /// Waits until as much was sent on a bus.
    fn wait(&self, nth: usize, until: u32) {
        let mut waiter = self.waiter(nth);
        let file = &self.files[nth];
        let has_packets = || file.sent.load(Ordering::Relaxed) >= until;
        while !has_packets() {
            match waiter.sleep(file, NO_LIMIT, has_packets) {
                Ok(Sleep::NotNeeded | Sleep::Woken) => {}
                Ok(Sleep::Unwatched(error)) | Err(error) => panic!("{error}"),
                Ok(Sleep::TimedOut) => panic!("no sleep ends by itself"),
            }
        }
    }

    /// Waits, and gives up in the middle of it.
    fn wait_and_fail(&self, nth: usize) {
        let file = &self.files[nth];
        match self.waiter(nth).sleep(file, BROKEN, || false) {
            // It depends on which thread leads.
            Ok(Sleep::Woken) | Err(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn send(&self, nth: usize) {
        self.commit(nth);
        self.wake(nth);
    }

    fn commit(&self, nth: usize) {
        self.files[nth].sent.fetch_add(1, Ordering::Relaxed);
    }

    /// As a sender in another process does it, and its kernel.
    fn wake(&self, nth: usize) {
        let file = &self.files[nth];
        fence(Ordering::SeqCst);
        // The kernel looks whether there are watches before it takes any lock.
        if file.watched.load(Ordering::Relaxed) == 1 {
            // The event comes first. A thread that asks for a watch then gets the old one, which is
            // about to end.
            self.inside.queue_event(&mut self.inside.queue.lock().expect("sound"), nth);
            let mut queue = self.inside.queue.lock().expect("sound");
            file.watched.store(0, Ordering::Relaxed);
            self.inside.queue_event(&mut queue, nth);
            queue.watches[nth] = None;
        }
    }
}

fn explore(test: impl Fn(&Process) + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || test(&Process::new()));
}

fn beside(process: &Process, what: impl FnOnce(&Process) + 'static) -> thread::JoinHandle<()> {
    let process = process.clone();
    thread::spawn(move || what(&process))
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_thread_that_waits_alone_is_woken() {
    explore(|process| {
        let waiting = beside(process, |process| process.wait(0, 2));
        process.send(0);
        process.send(0);
        waiting.join().expect("no panic");
    });
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn one_wake_up_does_for_several_bursts() {
    explore(|process| {
        let waiting = beside(process, |process| process.wait(0, 3));
        process.send(0);
        process.commit(0);
        process.commit(0);
        process.wake(0);
        waiting.join().expect("no panic");
    });
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_thread_that_is_woken_first_leaves_no_other_behind() {
    explore(|process| {
        let one = beside(process, |process| process.wait(0, 1));
        let two = beside(process, |process| process.wait(1, 1));
        process.send(0);
        process.send(1);
        one.join().expect("no panic");
        two.join().expect("no panic");
    });
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn all_threads_that_wait_for_one_bus_are_woken() {
    explore(|process| {
        let one = beside(process, |process| process.wait(0, 1));
        let two = beside(process, |process| process.wait(0, 1));
        process.send(0);
        one.join().expect("no panic");
        two.join().expect("no panic");
    });
}

#[test]
#[cfg_attr(miri, ignore = "loom switches stacks in assembly")]
fn a_thread_that_gives_up_leaves_no_other_behind() {
    explore(|process| {
        let one = beside(process, |process| process.wait_and_fail(0));
        let two = beside(process, |process| process.wait(1, 1));
        process.send(1);
        two.join().expect("no panic");
        process.send(0);
        one.join().expect("no panic");
    });
}
