//! Any bytes as what a client of the gateway sends: no panic, and one reading however they are cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| { stockade_gateway::parse_everything(bytes) });
