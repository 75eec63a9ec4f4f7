//! Any host that a guest names: refused, or in its one canonical form.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| { let _ = stockade_http::Host::parse(text); });
