//! Any bytes as a file of a tunnel, as what an interface answers, and as datagrams of a hostile peer: no panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { stockade_wireguard::parse_wireguard(bytes) });
