//! Any bytes as the archive of a deployment: no panic, no path out of its folder, nothing beyond its bounds.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { stockade_serve::parse_bundle(bytes) });
