//! Turns TypeScript and JSX into the JavaScript that V8 runs, with source maps.
//!
//! Duty: types are stripped, enums, namespaces, parameter properties, legacy decorators and JSX become
//! JavaScript. Everything else stays as written: V8 runs modern JavaScript, so nothing is lowered.
//! Plain JavaScript passes through untouched and is not even parsed.
//!
//! Invariants, for any source whatever:
//! 1. The stack does not overflow. [`transpile`] measures the source first and runs the compiler on a
//!    stack that is large enough for what it accepts; `src/weigh/` says how.
//! 2. Time and memory are bounded by [`MAX_COMPILED_BYTES`], [`MAX_LEVELS`] and [`MAX_WORK`], and for what is not of the
//!    length of the text, such as values of enums, by `src/measure.rs`.
//! 3. No panic leaves this crate.
//!
//! What TypeScript means here, where there is a choice:
//! - Imports whose names are never used as values are removed, as the TypeScript compiler and Deno do
//!   by default; `import "x"` and `import {} from "x"` stay. To keep an import for its side effects,
//!   write it without names.
//! - Decorators are the legacy ones (`experimentalDecorators`), without metadata: the compiler knows
//!   no other and V8 has none.
//! - Class fields are defined, not assigned (`useDefineForClassFields`).
//! - `const enum` is an ordinary enum. Namespaces may export constants, functions and classes; exporting
//!   `let` or `var` from one is refused.
//! - JSX becomes `React.createElement`, or what a `@jsx` comment names.
//!
//! [`program`] makes a script of the text of a run, whose value is the run's result.
//!
//! [`ModuleFiles`] reads a module from a folder, with what it imports, and finds errors in them.
//!
//! This crate does not: check types, load modules from anywhere else, know V8.

mod check;
mod compile;
mod confine;
mod decorate;
mod error;
mod excerpt;
mod files;
mod imports;
mod language;
mod measure;
mod pieces;
mod program;
mod stream;
#[cfg(test)]
mod tests;
mod weigh;

pub use check::ModuleError;
pub use compile::{MAX_COMPILED_BYTES, MAX_SOURCE_BYTES, Options, Transpiled, transpile};
pub use error::TranspileError;
pub use excerpt::excerpt;
pub use files::{MAX_MODULE_FILES, ModuleFiles, ModuleFilesError};
pub use imports::imports;
pub use language::Language;
pub use program::{Program, prelude, program};
pub use stream::{STREAM_NAME, open_stream};
pub use weigh::{MAX_LEVELS, MAX_WORK};
