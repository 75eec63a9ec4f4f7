//! Makes the worker realm's startup snapshot.

use std::error::Error;
use std::path::PathBuf;

use deno_core::snapshot::{CreateSnapshotOptions, create_snapshot};
use deno_core::{JsRuntime, v8};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("worker.snapshot");
    // While this isolate lives, the snapshot is made on V8's own read-only heap and adds nothing to it.
    // All isolates of a process share that heap, so snapshots that agree on it can be used together.
    // The snapshot keeps the code of functions that have run, instead of having each isolate compile them again.
    v8::V8::set_flags_from_string("--no-flush-bytecode");
    JsRuntime::init_platform(None);
    std::mem::forget(v8::Isolate::new(v8::CreateParams::default()));
    let output = create_snapshot(
        CreateSnapshotOptions {
            cargo_manifest_dir: env!("CARGO_MANIFEST_DIR"),
            startup_snapshot: None,
            skip_op_registration: false,
            extensions: stockade_realm::realm_extensions(stockade_realm::Stage::Snapshot),
            extension_transpiler: None,
            with_runtime_cb: None,
        },
        None,
    )?;
    std::fs::write(&out, &output.output)?;
    for path in output.files_loaded_during_snapshot {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    Ok(())
}
