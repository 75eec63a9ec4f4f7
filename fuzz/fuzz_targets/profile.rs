//! Any bytes as the CPU profile and the heap statistics of a worker: no panic, and a picture without a script.
#![no_main]

use stockade_profile::{CpuProfile, flame_graph};
use stockade_protocol::HeapStatistics;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = HeapStatistics::read(bytes);
    if let Ok(profile) = CpuProfile::read(bytes) {
        let picture = flame_graph(&profile, "title");
        assert!(!picture.contains("<script"));
    }
});
