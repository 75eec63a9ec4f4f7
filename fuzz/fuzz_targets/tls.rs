//! Any bytes as certificates, lists, OCSP responses and names of TLS: no panic, no control characters in text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { stockade_tls::parse_everything(bytes) });
