//! Safe code lends its own atomics to a bus, and another thread stores to them during the copy. The
//! thread sanitizer reports a data race here if a copy is anything else than atomic; `.ci/run` runs
//! this program under it.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use shmbus::{Bus, FrameSink, FrameSlot, FrameSource, RingFrame, Station, StationOptions, Tap};

/// Lengths that take different ways through the copy.
const LENGTHS: [usize; 8] = [14, 20, 33, 60, 64, 100, 300, 1_514];

/// A frame in memory that another thread stores to.
#[derive(Clone, Copy)]
struct Lent<'m>(&'m [AtomicU8]);

impl FrameSource for Lent<'_> {
    fn frame_len(&self) -> usize {
        self.0.len()
    }

    fn write_to(&self, slot: &mut FrameSlot<'_>) {
        slot.write_shared(self.0);
    }
}

/// Takes frames into memory that another thread loads from and stores to.
struct LentSink<'m>(&'m [AtomicU8]);

impl FrameSink for LentSink<'_> {
    fn take(&mut self, frame: &RingFrame<'_>) -> bool {
        frame.copy_to_shared(0, self.0) > 0
    }

    fn commit(&mut self) {}

    fn discard(&mut self) {}
}

/// Runs `copy` while another thread writes every byte of `memory`, over and over, and reads them.
fn raced(memory: &[AtomicU8], mut copy: impl FnMut()) {
    let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for byte in memory {
                    byte.store(byte.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
                }
                begun.store(true, Ordering::Relaxed);
            }
        });
        while !begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        (0..200).for_each(|_| copy());
        done.store(true, Ordering::Relaxed);
        // The end of a scope waits in a way that the thread sanitizer does not know.
        writer.join().expect("it does not panic");
    });
}

fn atomics(len: usize) -> Vec<AtomicU8> {
    (0..len).map(|_| AtomicU8::new(0)).collect()
}

#[test]
fn frames_are_sent_from_memory_that_another_thread_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let bus = Bus::open_or_create(folder.path().join("bus"), 0o600).expect("a bus");
    let mut station = Station::join(bus, StationOptions::new()).expect("a station");
    for len in LENGTHS {
        let memory = atomics(len);
        raced(&memory, || assert_eq!(station.send_burst([Lent(&memory)]).expect("sent"), 1));
    }
}

#[test]
fn frames_are_received_into_memory_that_another_thread_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bus");
    let bus = Bus::open_or_create(&path, 0o600).expect("a bus");
    let mut station = Station::join(bus, StationOptions::new()).expect("a station");
    let mut tap = Tap::new(Bus::open_read_only(&path).expect("a bus")).expect("a sound one");
    for len in LENGTHS {
        let (frame, memory) = (vec![0xff; len], atomics(len));
        raced(&memory, || {
            station.send(&frame).expect("sent");
            assert_eq!(tap.recv_into(&mut LentSink(&memory), 1), 1);
        });
    }
}
