//! Whole files, as people write them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod diagnostics;
mod document;
mod example;
mod resolved;
mod schema_agrees;
mod sockets;

use std::path::{Path, PathBuf};

use stockade_config::{Config, Diagnostics, Instance, Loaded};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn parse(text: &str) -> Result<Loaded, Diagnostics> {
    Config::parse(text, "stockade.yaml", Path::new("/srv"))
}

#[track_caller]
fn good(text: &str) -> Loaded {
    parse(text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// A file with one instance `web` that has these lines.
fn with_web(lines: &str) -> String {
    let indent = |line: &str| format!("    {line}\n");
    let lines: String = lines.lines().map(indent).collect();
    format!("version: \"1.0\"\ninstances:\n  web:\n    code: ./a.ts\n{lines}")
}

#[track_caller]
fn web(lines: &str) -> Instance {
    good(&with_web(lines)).config.instances["web"].clone()
}

#[track_caller]
fn refused(text: &str) -> String {
    match parse(text) {
        Ok(loaded) => panic!("this is taken:\n{text}\n{:#?}", loaded.config),
        Err(diagnostics) => diagnostics.to_string(),
    }
}

#[track_caller]
fn web_refused(lines: &str) -> String {
    refused(&with_web(lines))
}
