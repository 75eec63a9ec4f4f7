//! Makes the worker realm's startup snapshot.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("worker.snapshot");
    let extensions = stockade_realm::realm_extensions(stockade_realm::Stage::Snapshot);
    // The snapshot keeps the code of functions that have run, instead of having each isolate compile them again.
    let made = stockade_snapshot::make(extensions, None, "--no-flush-bytecode", &out)?;
    for path in made.files {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    Ok(())
}
