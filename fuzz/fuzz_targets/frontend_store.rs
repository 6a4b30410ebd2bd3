//! The harness `xenvelope_tests::fuzz::frontend_store` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xenvelope_tests::fuzz::frontend_store(data));
