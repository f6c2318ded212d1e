#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| memif::fuzzing::rings(data));
