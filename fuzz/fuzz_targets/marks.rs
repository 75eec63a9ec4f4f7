//! Any text as marked data: each stream that the next reader finds was found here, and nothing else changes.
#![no_main]

libfuzzer_sys::fuzz_target!(|json: &str| { assert!(stockade_protocol::marks_hold(json)) });
