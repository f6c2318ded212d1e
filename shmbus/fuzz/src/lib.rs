//! The drivers of `shmbus/tests/hostile`, for the fuzzer of real files. The other fuzzers drive
//! `shmbus::fuzzing`, on memory of their own, a thousand times faster.

// The tests write seeds in these terms.
#[allow(dead_code, reason = "the fuzzers take recipes apart and do not write them")]
#[path = "../../tests/hostile/drive/mod.rs"]
mod drive;

/// Arbitrary bytes as a bus file: opened in every way there is, read or sent into while another
/// thread scribbles, or repaired. The length of the input says which.
pub fn files(input: &[u8]) {
    match input.len() % 4 {
        0 => drive::open(input),
        1 => drive::read(input),
        2 => drive::send(input),
        _ => drive::repair(input),
    }
}
