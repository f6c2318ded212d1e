//! Committed seeds of fuzzers, replayed as tests.

use std::fs;
use std::path::{Path, PathBuf};

/// Inputs near each seed.
const NEAR: usize = 500;

/// Returns the folder of a fuzzer's seeds.
pub(crate) fn folder(fuzzer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(fuzzer)
}

/// Passes each seed of a fuzzer to its `driver`, and inputs that differ from it in a few bytes and in
/// length.
///
/// # Panics
/// When there are fewer than `least` seeds, or the driver panics.
pub(crate) fn replay(fuzzer: &str, least: usize, driver: fn(&[u8])) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut seeds = 0;
    for entry in fs::read_dir(folder(fuzzer)).expect("committed seeds") {
        let seed = fs::read(entry.expect("readable").path()).expect("a seed");
        driver(&seed);
        for _ in 0..NEAR {
            let mut input = seed.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..input.len());
                input[at] = random.u8(..);
            }
            input.truncate(random.usize(1..=input.len()));
            driver(&input);
        }
        seeds += 1;
    }
    assert!(seeds >= least, "{seeds} seeds");
}
