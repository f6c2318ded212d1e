//! The processors: pinning a thread to one, and measuring how far apart two are at the moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Pins the calling thread to a processor. With only one processor this fails without an error: the
/// figures then mean little.
pub(crate) fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    let _ = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
}

/// A counter on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine(AtomicU64);

const TRIPS: u64 = 20_000;

/// Returns the nanoseconds that a cache line takes from one processor to the other and back. On a
/// virtual machine this shows how near to each other the two are now. It is the best of three
/// tries, because other programs only make it longer.
pub(crate) fn line_round_trip() -> f64 {
    (0..3).map(|_| trips()).fold(f64::INFINITY, f64::min)
}

fn trips() -> f64 {
    let line = CacheLine::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            for trip in 0..TRIPS {
                wait_for(&line, 2 * trip + 1);
                // Pairs with the Acquire in `wait_for` on the other processor.
                line.0.store(2 * trip + 2, Ordering::Release);
            }
        });
        scope
            .spawn(|| {
                pin(0);
                let begin = Instant::now();
                for trip in 0..TRIPS {
                    // Pairs with the Acquire in `wait_for` on the other processor.
                    line.0.store(2 * trip + 1, Ordering::Release);
                    wait_for(&line, 2 * trip + 2);
                }
                begin.elapsed().as_secs_f64() * 1e9 / TRIPS as f64
            })
            .join()
            .expect("it only counts")
    })
}

fn wait_for(line: &CacheLine, value: u64) {
    let mut polls = 0_u32;
    // Pairs with the Release of the other processor's store.
    while line.0.load(Ordering::Acquire) != value {
        polls += 1;
        if polls.is_multiple_of(1_000) {
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
}
