//! Makes V8's startup snapshots, the same bytes in each build from the same sources.
//!
//! Build scripts depend on this crate, programs must not: it takes random numbers away from the process
//! that links it (`src/sys/seed.rs`).
//!
//! What differed between two snapshots of the same sources, and what makes it equal:
//!
//! - V8 draws the hashes of symbols and of objects in maps from its random numbers: they begin with a fixed seed.
//! - V8's threads finish in any order: there are none.
//! - deno_core walks hash maps of std while it registers scripts and modules: all of them have the same seed.
//! - V8 writes buffers of deno_core that are freed already: their memory stays as it was (`src/sys/freed.rs`).
//!
//! None of these settings is part of the snapshot: isolates that start from one draw random numbers of their own.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deno_core::snapshot::{CreateSnapshotOptions, create_snapshot};
use deno_core::{Extension, JsRuntime, ModuleCodeString, ModuleName, v8};

#[expect(
    unsafe_code,
    reason = "a function of the C library and the allocator are replaced"
)]
mod sys;

/// What a build script has to know about a snapshot that was made.
pub struct Made {
    /// The scripts that are in the snapshot, for `cargo:rerun-if-changed`.
    pub files: Vec<PathBuf>,
    /// Specifiers of the scripts that are loaded on first use elsewhere, but have run while the snapshot was made.
    pub consumed: Vec<String>,
}

/// The JavaScript of a script, given its specifier and source; `None` for a script that is JavaScript already.
pub type Transpiler = fn(specifier: &str, source: &str) -> Option<String>;

/// Writes the snapshot of a realm with these extensions to the file `out`. Once in a process.
///
/// `flags` are further flags of V8, as on a command line.
///
/// # Errors
///
/// A script throws or does not parse, or the file cannot be written.
pub fn make(
    extensions: Vec<Extension>,
    transpiler: Option<Transpiler>,
    flags: &str,
    out: &Path,
) -> Result<Made, Box<dyn Error>> {
    sys::fix_hash_maps();
    v8::V8::set_flags_from_string(&format!("--predictable --random-seed=42 {flags}"));
    JsRuntime::init_platform(None);
    // While this isolate lives, the snapshot is made on V8's own read-only heap and adds nothing to it.
    // All isolates of a process share that heap, so snapshots that agree on it can be used together.
    std::mem::forget(v8::Isolate::new(v8::CreateParams::default()));
    let made = create_snapshot(
        CreateSnapshotOptions {
            cargo_manifest_dir: env!("CARGO_MANIFEST_DIR"),
            startup_snapshot: None,
            skip_op_registration: false,
            extensions,
            extension_transpiler: transpiler.map(|transpile| {
                Rc::new(move |specifier: ModuleName, source: ModuleCodeString| {
                    let source = source.as_str().to_owned();
                    let code = transpile(specifier.as_ref(), &source).unwrap_or(source);
                    Ok((code.into(), None))
                }) as _
            }),
            with_runtime_cb: None,
        },
        None,
    )?;
    fs::write(out, &made.output)?;
    Ok(Made {
        files: made.files_loaded_during_snapshot,
        consumed: made.consumed_lazy_specifiers,
    })
}
