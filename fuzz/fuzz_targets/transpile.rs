//! Any text as TypeScript: no overflow, no panic, no endless parse.
#![no_main]

use stockade_transpile::{Language, Options, transpile};

const OPTIONS: Options<'_> =
    Options { specifier: "a.ts", language: Language::TypeScript, module: true };

libfuzzer_sys::fuzz_target!(|source: &str| { let _ = transpile(source, &OPTIONS); });
