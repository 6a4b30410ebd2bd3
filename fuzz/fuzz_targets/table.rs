//! The harness `xenvelope_tests::fuzz::table` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xenvelope_tests::fuzz::table(data));
