//! Any text as the data of a message.
#![no_main]

use stockade_protocol::Payload;

libfuzzer_sys::fuzz_target!(|json: String| { let _ = Payload::from_json(json).read::<Vec<Option<f64>>>(); });
