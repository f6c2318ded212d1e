//! The throughput of a sender and a receiver in two threads, each on its own processor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cpu::pin;

/// Steps between two reads of the clock, each of which costs as much as a frame.
const CLOCK_INTERVAL: u32 = 64;

/// Runs both for `time`, and returns how many million frames a second were received. Each step
/// returns how many frames it moved. Each end is set up in its own thread.
pub(crate) fn throughput<S, R>(
    time: Duration,
    sender: impl FnOnce() -> S + Send,
    receiver: impl FnOnce() -> R + Send,
) -> f64
where
    S: FnMut() -> usize,
    R: FnMut() -> usize,
{
    let over = AtomicBool::new(false);
    let over = &over;
    std::thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            pin(1);
            let _stop = StopOnDrop(over);
            count(time, &mut receiver())
        });
        scope.spawn(move || {
            pin(0);
            let mut step = sender();
            let mut idle = 0_u32;
            while !over.load(Ordering::Relaxed) {
                rest(step(), &mut idle);
            }
        });
        receiving.join().expect("a receiver that does not panic")
    })
}

/// Stops the sender when the receiver ends, also when it panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the million frames a second from the first frame on.
fn count(time: Duration, step: &mut impl FnMut() -> usize) -> f64 {
    let mut idle = 0;
    let first = loop {
        let frames = step();
        if frames > 0 {
            break frames;
        }
        rest(0, &mut idle);
    };
    let (begin, mut polls, mut all) = (Instant::now(), 0_u32, 0);
    let _ = first;
    loop {
        let frames = step();
        all += frames;
        rest(frames, &mut idle);
        polls = polls.wrapping_add(1);
        if polls.is_multiple_of(CLOCK_INTERVAL) && begin.elapsed() >= time {
            return all as f64 / begin.elapsed().as_secs_f64() / 1e6;
        }
    }
}

/// Yields the processor after a hundred empty steps.
fn rest(frames: usize, idle: &mut u32) {
    *idle = if frames > 0 { 0 } else { *idle + 1 };
    if *idle > 100 {
        std::thread::yield_now();
    }
}
