//! Any bytes as the stream of a supervisor.
#![no_main]

use stockade_protocol::frame::{Reader, ToWorker};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (mut reader, mut source) = (Reader::<ToWorker>::new(), bytes);
    while let Ok(Some(_)) = reader.read_from(&mut source) {}
});
