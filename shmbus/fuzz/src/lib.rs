//! The drivers of `shmbus/tests/hostile`, for fuzzers.

// The tests write seeds in these terms.
#[allow(dead_code, reason = "the fuzzers take recipes apart and do not write them")]
#[path = "../../tests/hostile/drive/mod.rs"]
mod drive;

/// Arbitrary bytes as a bus file, opened in every way there is.
pub fn open(input: &[u8]) {
    drive::open(input);
}

/// Readers while another process scribbles.
pub fn read(input: &[u8]) {
    drive::read(input);
}

/// A sender while another process scribbles.
pub fn send(input: &[u8]) {
    drive::send(input);
}

/// Arbitrary bytes, repaired.
pub fn repair(input: &[u8]) {
    drive::repair(input);
}
