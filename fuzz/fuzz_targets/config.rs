//! Any text as a configuration: no panic, no overflow, no memory beyond a multiple of the text.
#![no_main]

use std::path::Path;

use stockade_config::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Config::parse(text, "a.yaml", Path::new("/srv")).map_err(|errors| errors.to_string());
});
