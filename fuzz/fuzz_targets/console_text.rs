//! Any text of a guest's console: harmless afterwards.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| { let _ = stockade_protocol::harmless(text, 1024); });
