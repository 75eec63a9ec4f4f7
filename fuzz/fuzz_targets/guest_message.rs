//! Any bytes as what a guest says to the host that serves it: no panic, no memory beyond a multiple of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { stockade_instance::parse_guest_message(bytes) });
