#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| port::vxlan::fuzzing::datagrams(input));
