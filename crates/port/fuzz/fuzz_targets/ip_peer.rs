#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| port::ip_adapter::fuzzing::conversation(input));
