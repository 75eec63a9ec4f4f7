//! Any bytes as the stream of a worker that was taken over.
#![no_main]

use stockade_protocol::frame::{FromWorker, Reader};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (mut reader, mut source) = (Reader::<FromWorker>::new(), bytes);
    while let Ok(Some(_)) = reader.read_from(&mut source) {}
});
