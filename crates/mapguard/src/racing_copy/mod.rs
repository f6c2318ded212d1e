//! The copy between memory that another process may write at this moment and memory of our own.
//!
//! # Why `memcpy` is not enough
//! Other processes, and other threads of this one, reach shared bytes as [`AtomicU8`]. To the
//! language an ordinary copy of bytes that another thread stores to meanwhile is a data race:
//! undefined behaviour, whatever the machine does. That holds for `ptr::copy_nonoverlapping`, for
//! volatile accesses, and for a call of the C library's `memcpy`, which the compiler takes for the
//! same thing. The language has no bytewise atomic copy yet (RFC 3301), and the compiler does not
//! join a loop of relaxed atomic bytes to wide moves: it moves them one by one.
//!
//! # What happens here
//! [`portable`] is that loop: a relaxed load and a relaxed store for each byte. Bytes, and not
//! words: the language allows atomics of different sizes to race no more than plain accesses, and
//! others reach the same memory as [`AtomicU8`].
//!
//! Where it is known how, inline assembly does the same work in wide moves. To the compiler an
//! assembly block is some code it cannot see: it must assume any effect that a Rust program could
//! have there, and the block may have no other. (This is the reference's rule for inline assembly:
//! it may do to memory what foreign code may do, and foreign code must act as some code that the
//! language allows.) The code that these blocks stand for is [`portable`]:
//!
//! * Each byte of `to` is stored at least once, with a value that the same byte of `from` had
//!   during the call, and no other byte is stored. A byte may be loaded and stored twice where two
//!   moves overlap; a relaxed loop could do the same.
//! * The processors promise that a move of any width accesses each of its bytes whole. x86-64
//!   (Intel SDM vol. 3, "Guaranteed Atomic Operations"; AMD APM vol. 2, "Access Atomicity") and
//!   aarch64 (Arm ARM, "Atomicity in the Arm architecture") split wide moves, if at all, into
//!   accesses of a byte or more. So what arrives of a racing copy is a mix of old and new bytes,
//!   and never a byte that no program stored.
//! * Relaxed accesses need no order among each other beyond that of one byte with itself, which
//!   caches keep. The blocks say neither `nomem`, `readonly` nor `pure`, so the compiler moves no
//!   fence and no atomic access across them; the fences that callers put before and behind a copy
//!   order its moves as they order any relaxed access.
//!
//! # Words
//! A few bytes that are made of numbers, or become numbers, are better moved between registers and
//! the shared memory: [`racing_load`] and [`racing_store`]. By way of memory of our own, a wide move
//! that reads what several narrow ones have just written waits until all stores before them are
//! done, those of the last frame included.
//!
//! Tools do not look into assembly. Under Miri, under the fuzzers, and where `--cfg
//! portable_racing_copy` asks for it (as `.ci/run` does for the sanitizers), [`portable`] itself
//! runs: it is what these tools then check.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(target_arch = "aarch64")]
use aarch64::{copy as in_wide_moves, load, store};
#[cfg(target_arch = "x86_64")]
use x86_64::{copy as in_wide_moves, load, store};
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
use {portable as in_wide_moves, portable_load as load, portable_store as store};

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// Copies `len` bytes that other threads and processes may load and store at the same time, on
/// either side.
///
/// A byte that is stored to meanwhile arrives as it was before or after. If the two sides overlap,
/// which bytes arrive is unspecified. The copy orders nothing: fences of the caller do that, as for
/// relaxed atomics.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes. Other threads access these bytes during
/// the call only as [`AtomicU8`] or by the functions of this module.
#[inline]
pub unsafe fn racing_copy(from: *const u8, to: *mut u8, len: usize) {
    if cfg!(any(miri, fuzzing, portable_racing_copy)) {
        // SAFETY: the caller's promise is the one this asks for.
        unsafe { portable(from, to, len) }
    } else {
        // SAFETY: as above.
        unsafe { in_wide_moves(from, to, len) }
    }
}

/// Loads `N` words in native byte order, not necessarily aligned, from bytes that other threads and
/// processes may store to at the same time.
///
/// # Safety
/// `from` is readable for `8 * N` bytes. Other threads access these bytes during the call only as
/// [`AtomicU8`] or by the functions of this module.
#[inline]
#[must_use]
pub unsafe fn racing_load<const N: usize>(from: *const u8) -> [u64; N] {
    std::array::from_fn(|nth| {
        let from = from.wrapping_add(WORD * nth);
        if cfg!(any(miri, fuzzing, portable_racing_copy)) {
            // SAFETY: inside what the caller promised.
            unsafe { portable_load(from) }
        } else {
            // SAFETY: as above.
            unsafe { load(from) }
        }
    })
}

/// Stores `words` in native byte order, not necessarily aligned, where other threads and processes
/// may load and store at the same time.
///
/// # Safety
/// `to` is writable for `8 * N` bytes. Other threads access these bytes during the call only as
/// [`AtomicU8`] or by the functions of this module.
#[inline]
pub unsafe fn racing_store<const N: usize>(words: [u64; N], to: *mut u8) {
    for (nth, word) in words.into_iter().enumerate() {
        let to = to.wrapping_add(WORD * nth);
        if cfg!(any(miri, fuzzing, portable_racing_copy)) {
            // SAFETY: inside what the caller promised.
            unsafe { portable_store(word, to) }
        } else {
            // SAFETY: as above.
            unsafe { store(word, to) }
        }
    }
}

/// # Safety
/// As for [`racing_load`], of one word.
unsafe fn portable_load(from: *const u8) -> u64 {
    let mut bytes = [0; WORD];
    // SAFETY: the caller's promise; no other thread knows the bytes.
    unsafe { portable(from, bytes.as_mut_ptr(), WORD) };
    u64::from_ne_bytes(bytes)
}

/// # Safety
/// As for [`racing_store`], of one word.
unsafe fn portable_store(word: u64, to: *mut u8) {
    // SAFETY: the caller's promise; no other thread knows the bytes.
    unsafe { portable(word.to_ne_bytes().as_ptr(), to, WORD) };
}

/// Copies byte by byte with relaxed atomics.
///
/// # Safety
/// As for [`racing_copy`].
unsafe fn portable(from: *const u8, to: *mut u8, len: usize) {
    for at in 0..len {
        // SAFETY: inside what the caller promised to be readable.
        let from = unsafe { from.add(at) };
        // SAFETY: inside what the caller promised to be writable.
        let to = unsafe { to.add(at) };
        // SAFETY: a readable byte, which others access as an atomic only, and which is only loaded
        // here.
        let from = unsafe { AtomicU8::from_ptr(from.cast_mut()) };
        // SAFETY: a writable byte, which others access as an atomic only.
        let to = unsafe { AtomicU8::from_ptr(to) };
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    type Copy = unsafe fn(*const u8, *mut u8, usize);

    /// The copy as it is used, and the one that it stands for.
    const COPIES: [Copy; 2] = [portable, racing_copy];

    const LONGEST: usize = 700;

    #[test]
    fn every_length_arrives_whole_from_and_to_anywhere_and_touches_nothing_else() {
        let from: Vec<u8> =
            (0..LONGEST + 64).map(|i| u8::try_from(i % 251).expect("small")).collect();
        let lens: Vec<usize> =
            if cfg!(miri) { vec![0, 7, 40, 130] } else { (0..=LONGEST).collect() };
        for copy in COPIES {
            for &len in &lens {
                for (skip, lead) in
                    [(0, 0), (1, 0), (0, 1), (3, 31), (31, 32), (17, 5), (8, 16), (63, 63)]
                {
                    let mut to = vec![0xEE_u8; len + 128];
                    let target = to[lead..lead + len].as_mut_ptr();
                    // SAFETY: both hold `len` bytes from there on, and no other thread knows them.
                    unsafe { copy(from[skip..skip + len].as_ptr(), target, len) };
                    assert_eq!(to[lead..lead + len], from[skip..skip + len], "{len} bytes");
                    to[lead..lead + len].fill(0xEE);
                    assert!(to.iter().all(|byte| *byte == 0xEE), "{len} bytes: a store beside");
                }
            }
        }
    }

    #[test]
    fn long_copies_arrive_whole() {
        for copy in COPIES {
            for len in [4_095, 4_096, 9_000, 65_535, 65_536, 1_000_001] {
                let len = if cfg!(miri) { len / 1_000 } else { len };
                let from: Vec<u8> =
                    (0..len).map(|i| u8::try_from(i % 251).expect("small")).collect();
                let mut to = vec![0; len];
                // SAFETY: both hold `len` bytes, and no other thread knows them.
                unsafe { copy(from.as_ptr(), to.as_mut_ptr(), len) };
                assert!(to == from, "{len} bytes");
            }
        }
    }

    #[test]
    fn words_arrive_whole_at_any_address_and_touch_nothing_else() {
        for lead in 0..16 {
            let words = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 42];
            let mut bytes = [0xEE_u8; 64];
            // SAFETY: 24 bytes from there on, which no other thread knows.
            unsafe { racing_store(words, bytes[lead..lead + 24].as_mut_ptr()) };
            let expected = words.map(u64::to_ne_bytes);
            assert_eq!(bytes[lead..lead + 24], *expected.as_flattened());
            // SAFETY: as above.
            assert_eq!(unsafe { racing_load(bytes[lead..lead + 24].as_ptr()) }, words);
            bytes[lead..lead + 24].fill(0xEE);
            assert!(bytes.iter().all(|byte| *byte == 0xEE), "a store beside");
        }
    }

    #[test]
    fn bytes_that_are_stored_to_meanwhile_arrive_as_before_or_after() {
        for len in [1, 3, 6, 12, 24, 50, 100, 200, 600] {
            let shared: Vec<AtomicU8> = (0..len).map(|_| AtomicU8::new(0)).collect();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for value in [0x00, 0xFF].into_iter().cycle() {
                        for byte in &shared {
                            byte.store(value, Ordering::Relaxed);
                        }
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
                for copy in COPIES {
                    for _ in 0..if cfg!(miri) { 3 } else { 1_000 } {
                        let mut to = vec![0x55; len];
                        // SAFETY: both hold `len` bytes; the other thread accesses the one as
                        // atomics, and knows nothing of the other.
                        unsafe { copy(shared.as_ptr().cast(), to.as_mut_ptr(), len) };
                        assert!(to.iter().all(|byte| [0x00, 0xFF].contains(byte)), "{to:02x?}");
                    }
                }
                done.store(true, Ordering::Relaxed);
            });
        }
    }
}
