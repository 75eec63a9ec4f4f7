//! Any text as the code of a run, as that of a session, and as what runs before: no overflow, no panic, no endless parse.
#![no_main]

use std::collections::HashSet;

use stockade_transpile::{prelude, program};

libfuzzer_sys::fuzz_target!(|source: &str| {
    let _ = program(source, "main.ts", None);
    let declared = HashSet::from(["kept".to_owned()]);
    let _ = program(source, "main-2.ts", Some(&declared));
    let _ = prelude(source, "prelude.ts");
});
