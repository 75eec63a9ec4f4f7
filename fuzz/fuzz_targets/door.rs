//! Any bytes as what a guest or a server sends through a door: no panic, nothing beyond its bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { stockade_door::parse_door(bytes) });
