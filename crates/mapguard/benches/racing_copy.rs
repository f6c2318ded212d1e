//! What the racing copy costs beside the C library's `memcpy`: `taskset -c 1 cargo bench -p
//! mapguard`.
//!
//! One thread, everything in the first caches: what is measured is the code, and not the way of
//! lines between processors. The three copies take turns, so that a disturbance meets all of them,
//! and what is printed is the median of many rounds.

use std::hint::black_box;
use std::mem::size_of;
use std::ptr;
use std::time::{Duration, Instant};

const LENGTHS: [usize; 12] = [4, 14, 24, 60, 64, 128, 200, 512, 1_514, 4_096, 9_000, 65_535];
const ROUNDS: usize = 51;
/// Copies of one round go on for about so long.
const ROUND: Duration = Duration::from_micros(500);

fn main() {
    println!(
        "nanoseconds a copy, medians of {ROUNDS} rounds; racing/plain: the median of the rounds' ratios"
    );
    println!(
        "{:>6} {:>9} {:>9} {:>9} {:>13}",
        "bytes", "memcpy", "plain", "racing", "racing/plain"
    );
    for len in LENGTHS {
        compare(len);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounds are short")]
fn compare(len: usize) {
    let mut memory = Memory::new(len);
    let mut memcpy = |times| {
        // SAFETY: the memory holds `len` bytes behind either address, and no other thread knows it.
        memory.time(times, |from, to, len| unsafe { ptr::copy_nonoverlapping(from, to, len) })
    };
    let once = memcpy(1_000).as_nanos().max(1_000) / 1_000;
    let times = (ROUND.as_nanos() / once).max(1) as u32;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let nanoseconds = |took: Duration| took.as_secs_f64() * 1e9 / f64::from(times);
        // SAFETY: as above, for each.
        let memcpy =
            memory.time(times, |from, to, len| unsafe { ptr::copy_nonoverlapping(from, to, len) });
        // SAFETY: as above.
        let plain = memory.time(times, |from, to, len| unsafe { in_place(from, to, len) });
        // SAFETY: as above.
        let racing =
            memory.time(times, |from, to, len| unsafe { mapguard::racing_copy(from, to, len) });
        rounds.push([memcpy, plain, racing].map(nanoseconds));
    }
    let [memcpy, plain, racing, ratio] = [
        median(rounds.iter().map(|[memcpy, ..]| *memcpy)),
        median(rounds.iter().map(|[_, plain, _]| *plain)),
        median(rounds.iter().map(|[.., racing]| *racing)),
        median(rounds.iter().map(|[_, plain, racing]| racing / plain)),
    ];
    println!("{len:>6} {memcpy:>9.2} {plain:>9.2} {racing:>9.2} {ratio:>13.3}");
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Where the copies go from and to: as from a packet buffer, which begins on a line, onto a bus,
/// where frames begin anywhere.
struct Memory {
    from: Vec<u8>,
    to: Vec<u8>,
    len: usize,
}

impl Memory {
    const PAGE: usize = 4_096;
    const PLACE_ON_BUS: usize = 1_096;

    fn new(len: usize) -> Self {
        let room = len + 2 * Self::PAGE;
        Self { from: vec![1; room], to: vec![0; room], len }
    }

    /// How long so many copies take.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the copies are inlined on the data path, too")]
    fn time(&mut self, times: u32, copy: impl Fn(*const u8, *mut u8, usize)) -> Duration {
        let from_page = self.from.as_ptr().align_offset(Self::PAGE);
        let to_page = self.to.as_ptr().align_offset(Self::PAGE);
        let from = self.from[from_page..].as_ptr();
        let to = self.to[to_page + Self::PLACE_ON_BUS..].as_mut_ptr();
        let begin = Instant::now();
        for _ in 0..times {
            copy(black_box(from), black_box(to), black_box(self.len));
        }
        begin.elapsed()
    }
}

/// Copies the first and the last `T` of a block.
///
/// # Safety
/// As for [`in_place`], and `len` is at least the size of a `T`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call would cost more than the moves it makes")]
unsafe fn ends<T>(from: *const u8, to: *mut u8, len: usize) {
    let last = len - size_of::<T>();
    // SAFETY: the first `T` is inside.
    unsafe { ptr::copy_nonoverlapping(from, to, size_of::<T>()) };
    // SAFETY: the last `T` is inside.
    unsafe {
        ptr::copy_nonoverlapping(from.wrapping_add(last), to.wrapping_add(last), size_of::<T>());
    };
}

/// Plain moves for short lengths, and the C library for others: what the data path of memif did
/// before there was the racing copy.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as on the data path")]
unsafe fn in_place(from: *const u8, to: *mut u8, len: usize) {
    match len {
        // SAFETY: the range is the one `ends` asks for.
        32..=64 => unsafe { ends::<[u8; 32]>(from, to, len) },
        // SAFETY: as above.
        65..=128 => unsafe { ends::<[u8; 64]>(from, to, len) },
        // SAFETY: as above.
        16..32 => unsafe { ends::<[u8; 16]>(from, to, len) },
        // SAFETY: as above.
        8..16 => unsafe { ends::<u64>(from, to, len) },
        // SAFETY: the caller's promise.
        _ => unsafe { ptr::copy_nonoverlapping(from, to, len) },
    }
}
