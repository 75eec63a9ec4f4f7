//! Makes the host's startup snapshot, and a table of the extension scripts that are not in it: they
//! are compiled when a program first uses them.

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use deno_core::{Extension, ExtensionFileSource, ExtensionFileSourceCode};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let lazy_scripts = sources(|extension| &extension.lazy_loaded_js_files);
    let lazy_modules = sources(|extension| &extension.lazy_loaded_esm_files);
    let made = stockade_snapshot::make(
        stockade_host_realm::extensions(),
        Some(without_types),
        "",
        &out.join("host.snapshot"),
    )?;
    for file in made.files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let consumed: HashSet<String> = made.consumed.into_iter().collect();
    let mut table = String::new();
    write_table(&out, &mut table, "LAZY_SCRIPTS", lazy_scripts, &consumed)?;
    write_table(&out, &mut table, "LAZY_MODULES", lazy_modules, &consumed)?;
    fs::write(out.join("lazy_sources.rs"), table)?;
    Ok(())
}

/// Specifiers of one kind of lazily loaded source with their files, sorted as the engine wants them.
fn sources(kind: impl Fn(&Extension) -> &[ExtensionFileSource]) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for extension in &stockade_host_realm::extensions() {
        for file in kind(extension) {
            if let ExtensionFileSourceCode::LoadedFromFsDuringSnapshot(path) = &file.code {
                found.insert(file.specifier.to_string(), PathBuf::from(path));
            }
        }
    }
    found
}

/// Writes the sources next to the snapshot and a Rust table that includes them.
fn write_table(
    out: &Path,
    table: &mut String,
    name: &str,
    sources: BTreeMap<String, PathBuf>,
    consumed: &HashSet<String>,
) -> Result<()> {
    writeln!(table, "pub(crate) static {name}: &[(&str, &str)] = &[")?;
    let rest = sources.into_iter().filter(|(s, _)| !consumed.contains(s));
    for (specifier, path) in rest {
        println!("cargo:rerun-if-changed={}", path.display());
        let source = fs::read_to_string(&path)?;
        let code = without_types(&specifier, &source).unwrap_or(source);
        let file = format!("{}.js", specifier.replace([':', '/', '.'], "_"));
        fs::write(out.join(&file), ascii(&code))?;
        writeln!(
            table,
            "    ({specifier:?}, include_str!(concat!(env!(\"OUT_DIR\"), \"/{file}\"))),"
        )?;
    }
    writeln!(table, "];")?;
    Ok(())
}

/// The JavaScript of a TypeScript source; `None` for a source that is JavaScript already.
fn without_types(specifier: &str, source: &str) -> Option<String> {
    use oxc::codegen::Codegen;
    use oxc::parser::Parser;
    use oxc::semantic::SemanticBuilder;
    use oxc::span::SourceType;
    use oxc::transformer::{TransformOptions, Transformer};

    if !specifier.ends_with(".ts") {
        return None;
    }
    let allocator = oxc::allocator::Allocator::default();
    let kind = SourceType::ts().with_script(true);
    let mut program = Parser::new(&allocator, source, kind).parse().program;
    let scoping = SemanticBuilder::new()
        .build(&program)
        .semantic
        .into_scoping();
    let options = TransformOptions::default();
    Transformer::new(&allocator, Path::new(specifier), &options)
        .build_with_scoping(scoping, &mut program);
    Some(Codegen::new().build(&program).code)
}

/// The same program in ASCII, which the engine wants of sources that it does not copy.
fn ascii(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    for c in code.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}
