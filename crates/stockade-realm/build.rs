//! Lists the scripts of bindings: each file of `js/bindings/` makes the objects of one kind, which is its name.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("js/bindings");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "js") {
            paths.push(path);
        }
    }
    // In an order that is the same on every machine.
    paths.sort();
    let (mut sources, mut table) = (String::new(), String::new());
    for path in paths {
        let Some(kind) = path.file_stem().and_then(|stem| stem.to_str()) else {
            return Err(format!("{} is not named as a kind can be", path.display()).into());
        };
        let specifier = format!("ext:stockade_realm/bindings/{kind}.js");
        writeln!(
            sources,
            "ExtensionFileSource::new({specifier:?}, deno_core::ascii_str_include!({path:?})),"
        )?;
        writeln!(table, "{kind:?}: core.loadExtScript({specifier:?}),")?;
    }
    let table = format!(
        "(function () {{\nconst {{ core }} = __bootstrap;\nreturn {{\n__proto__: null,\n{table}}};\n}})();\n"
    );
    let code = format!(
        "/// The scripts of bindings, and the table of them by their kinds.
         pub(crate) fn binding_scripts() -> Vec<ExtensionFileSource> {{
             vec![
                 {sources}
                 ExtensionFileSource::new(\"ext:stockade_realm/binding_kinds.js\", deno_core::ascii_str!({table:?})),
             ]
         }}"
    );
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("binding_scripts.rs");
    Ok(std::fs::write(out, code)?)
}
