//! The harness `xenvelope_tests::fuzz::netif_requests` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xenvelope_tests::fuzz::netif_requests(data));
