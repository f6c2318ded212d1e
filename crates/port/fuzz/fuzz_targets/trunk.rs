//! Tokens, probes and messages of other ends of a trunk, and frames of the bus.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trunk::fuzzing::ends(data));
