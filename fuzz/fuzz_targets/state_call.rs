//! Any bytes as what a guest sends to `env.STATE`: no panic, nothing beyond its bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { stockade_serve::parse_state_calls(bytes) });
