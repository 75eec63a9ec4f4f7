//! Lists the scripts of bindings, of which each file of `js/bindings/` makes the objects of one kind, which is its
//! name; and the modules of Node in `js/node/`, by the paths there.

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
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("binding_scripts.rs"), code)?;
    node_modules(&out)
}

/// What is in the folders `internal` and `vendor` is not for guests to import: its URLs have a scheme of their own.
fn node_modules(out: &Path) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("js/node");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut paths = Vec::new();
    scripts(&folder, &mut paths)?;
    paths.sort();
    let mut arms = String::new();
    for path in paths {
        let name = path.strip_prefix(&folder)?.with_extension("");
        let name = name.to_str().ok_or("a name that is not Unicode")?;
        let specifier = match name.strip_prefix("internal/") {
            Some(name) => format!("internal:{name}"),
            None if name.starts_with("vendor/") => format!("internal:{name}"),
            None => format!("node:{name}"),
        };
        writeln!(
            arms,
            "{specifier:?} => deno_core::ascii_str_include!({path:?}),"
        )?;
    }
    let code = format!(
        "/// The source of a module of Node, or of what these are made of; by its URL.
         #[must_use]
         pub fn node_source(url: &str) -> Option<deno_core::FastStaticString> {{
             Some(match url {{
                 {arms}
                 _ => return None,
             }})
         }}"
    );
    Ok(std::fs::write(out.join("node_modules.rs"), code)?)
}

fn scripts(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            scripts(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "js") {
            paths.push(path);
        }
    }
    Ok(())
}
