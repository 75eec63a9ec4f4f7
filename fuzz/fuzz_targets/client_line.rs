//! Any text as a line of a client of `stockade supervise`: no panic, and an answer of one line.
#![no_main]

#[expect(dead_code, reason = "only the reader and its errors are used here")]
#[path = "../../crates/stockade/src/commands/supervise/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|line: &str| {
    if let Err(fault) = message::read(line) {
        assert!(!fault.answer(None).contains('\n'));
    }
});
