//! The yardstick: one thread copies bytes into a shared mebibyte and another copies them out, with
//! two counts and no protocol. Each thread has its own mapping of a file in memory, as two
//! processes would.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};

use crate::throughput::throughput;

/// Frames are as far apart as on a bus, where each has a header.
const HEADER: usize = 24;
/// The two counts are on a page in front of the ring.
const COUNTS: usize = 4_096;

/// A page with two counts of bytes, written and read, and the ring after it.
struct PlainRing {
    map: MmapRaw,
}

impl PlainRing {
    const SIZE: usize = 1 << 20;

    fn open(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).expect("a file");
        Self { map: MmapOptions::new().len(COUNTS + Self::SIZE).map_raw(&file).expect("mapped") }
    }

    fn count(&self, at: usize) -> &AtomicU64 {
        assert!(at < COUNTS && at.is_multiple_of(64));
        // SAFETY: inside the first page, aligned, and used only as an atomic by both threads.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().wrapping_add(at).cast()) }
    }

    fn written(&self) -> &AtomicU64 {
        self.count(0)
    }

    fn read(&self) -> &AtomicU64 {
        self.count(128)
    }

    /// Returns where byte `count` of the stream is, if `len` bytes from there fit before the ring's
    /// end.
    fn place(&self, count: u64, len: usize) -> Option<*mut u8> {
        let at = usize::try_from(count % Self::SIZE as u64).expect("below a mebibyte");
        (at + len <= Self::SIZE).then(|| self.map.as_mut_ptr().wrapping_add(COUNTS + at))
    }
}

/// Returns the million frames a second of `len` bytes, copied in bursts of `burst`.
pub(crate) fn rate(path: &Path, len: usize, burst: usize, time: Duration) -> f64 {
    let file = File::create(path).expect("a file");
    file.set_len((COUNTS + PlainRing::SIZE) as u64).expect("room");
    let step = (len + HEADER) as u64;
    let sender = || {
        let ring = PlainRing::open(path);
        let frame = vec![0xff_u8; len];
        let mut count = 0;
        move || {
            // The writer is never a whole ring ahead: this measures copying, not losing.
            // Pairs with the receiver's Release of `read`.
            let ahead = count - ring.read().load(Ordering::Acquire);
            if ahead > PlainRing::SIZE as u64 - (burst as u64 + 1) * step {
                return 0;
            }
            for _ in 0..burst {
                if let Some(to) = ring.place(count, len) {
                    // SAFETY: `place` checked the range; the frame is as long.
                    unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), to, len) };
                }
                count += step;
            }
            // Pairs with the receiver's Acquire of `written`.
            ring.written().store(count, Ordering::Release);
            burst
        }
    };
    let receiver = || {
        let ring = PlainRing::open(path);
        let mut frame = vec![0_u8; len];
        let mut count = 0;
        move || {
            // Pairs with the sender's Release of `written`.
            let end = ring.written().load(Ordering::Acquire);
            let mut frames = 0;
            while count < end {
                if let Some(from) = ring.place(count, len) {
                    // SAFETY: `place` checked the range; the frame is as long.
                    unsafe { std::ptr::copy_nonoverlapping(from, frame.as_mut_ptr(), len) };
                    std::hint::black_box(&frame);
                }
                count += step;
                frames += 1;
            }
            if frames > 0 {
                // Pairs with the sender's Acquire of `read`.
                ring.read().store(count, Ordering::Release);
            }
            frames
        }
    };
    throughput(time, sender, receiver)
}
