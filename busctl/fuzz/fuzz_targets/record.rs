#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| busctl::fuzzing::record(data));
