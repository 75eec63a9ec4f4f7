//! A guest's modules from files: one module and what it imports, out of its own folder.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use stockade_limits::MAX_MODULE_BYTES;

use crate::imports::imports;
use crate::language::Language;
use crate::stream::STREAM_NAME;

/// Files that one module may lead to.
pub const MAX_MODULE_FILES: usize = 1000;

/// What a folder's own module may be called, the first that is there.
const INDEX: [&str; 5] = [
    "index.ts",
    "index.js",
    "index.tsx",
    "index.jsx",
    "index.mjs",
];

/// Endings of files that an import may have left out.
const ENDINGS: [&str; 6] = [".ts", ".js", ".tsx", ".jsx", ".mjs", ".json"];

/// A module's file and those it imports, read and ready to be the options `modules` and `main` of an isolate.
///
/// Imports are found in the sources: `import`, `export … from` and `import()` of a literal text. What is
/// not there, or is no relative path, is left out, and the guest that imports it gets an error. Nothing is
/// read from outside of the folder in which the module lies; symbolic links count as what they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleFiles {
    /// Names and sources.
    pub modules: BTreeMap<String, String>,
    /// The name of the module that was asked for: the option `main`.
    pub entry: String,
    /// The real path of the folder that all of them lie in.
    pub folder: PathBuf,
}

/// Why a module cannot be read. Paths are those that the user wrote.
#[derive(Debug, thiserror::Error)]
pub enum ModuleFilesError {
    /// The file, or one that it imports.
    #[error("cannot read '{name}': {reason}")]
    Unreadable {
        /// As written, or as imported.
        name: String,
        /// Why.
        reason: String,
    },
    /// An import leads out of the folder.
    #[error(
        "cannot import '{specifier}' in {importer}: it lies outside of the folder of the module\n  fix: move the module that is called to a folder that holds all it imports"
    )]
    Outside {
        /// As imported.
        specifier: String,
        /// By which module.
        importer: String,
    },
    /// More than an isolate may have.
    #[error("the module and what it imports are more than {MAX_MODULE_FILES} files or {} MiB", MAX_MODULE_BYTES >> 20)]
    TooMany,
}

impl ModuleFiles {
    /// Reads a module and what it imports. Of a folder it is the first of `index.ts`, `index.js`,
    /// `index.tsx`, `index.jsx` and `index.mjs`.
    ///
    /// # Errors
    /// When a file cannot be read, lies outside of the module's folder, or there are too many.
    pub fn read(path: &Path) -> Result<Self, ModuleFilesError> {
        let shown = path.display().to_string();
        let unreadable = |reason: String| ModuleFilesError::Unreadable {
            name: shown.clone(),
            reason,
        };
        let real = path
            .canonicalize()
            .map_err(|error| unreadable(reason(&error)))?;
        let real = if real.is_dir() {
            index_of(&real)
                .ok_or_else(|| unreadable(format!("the folder has none of {}", INDEX.join(", "))))?
        } else {
            real
        };
        let folder = real.parent().unwrap_or(Path::new("/")).to_owned();
        let file = real
            .file_name()
            .ok_or_else(|| unreadable("it is not a file".to_owned()))?;
        let entry = name_of(file);
        let mut reader = Reader {
            folder,
            bytes: 0,
            modules: BTreeMap::new(),
        };
        let source = reader.read(&real).map_err(&unreadable)?;
        reader.add(entry.clone(), source)?;
        reader.collect(&entry)?;
        Ok(Self {
            modules: reader.modules,
            entry,
            folder: reader.folder,
        })
    }

    /// Reads a module to its end, of which there is no file, with what it imports out of `folder`. In stacks
    /// it is called [`STREAM_NAME`]; `shown` is what messages call it.
    ///
    /// # Errors
    /// As [`ModuleFiles::read`].
    pub fn read_stream(
        shown: &str,
        input: impl Read,
        folder: &Path,
    ) -> Result<Self, ModuleFilesError> {
        let unreadable = |reason: String| ModuleFilesError::Unreadable {
            name: shown.to_owned(),
            reason,
        };
        let folder = folder
            .canonicalize()
            .map_err(|error| unreadable(format!("its folder: {}", reason(&error))))?;
        let entry = STREAM_NAME.to_owned();
        let mut reader = Reader {
            folder,
            bytes: 0,
            modules: BTreeMap::new(),
        };
        let source = reader.text(input).map_err(&unreadable)?;
        reader.add(entry.clone(), source)?;
        reader.collect(&entry)?;
        Ok(Self {
            modules: reader.modules,
            entry,
            folder: reader.folder,
        })
    }
}

/// The module that a folder stands for; `None` also where it leads out of the folder.
fn index_of(folder: &Path) -> Option<PathBuf> {
    INDEX
        .iter()
        .filter_map(|name| folder.join(name).canonicalize().ok())
        .find(|path| path.parent() == Some(folder))
}

/// The name of the module that was asked for; one that a URL would change is replaced.
fn name_of(file: &OsStr) -> String {
    let plain = |name: &&str| {
        name.chars()
            .all(|char| char.is_alphanumeric() || "._-+@~ ".contains(char))
    };
    let extension = Path::new(file).extension().and_then(OsStr::to_str);
    match file.to_str().filter(plain) {
        Some(name) => name.to_owned(),
        None => match extension.filter(plain) {
            Some(extension) => format!("module.{extension}"),
            None => "module.ts".to_owned(),
        },
    }
}

struct Reader {
    folder: PathBuf,
    bytes: usize,
    modules: BTreeMap<String, String>,
}

impl Reader {
    /// Follows imports until there is no new one.
    fn collect(&mut self, entry: &str) -> Result<(), ModuleFilesError> {
        let mut left = vec![entry.to_owned()];
        while let Some(importer) = left.pop() {
            let language = match Language::from_path(Path::new(&importer)) {
                _ if importer.ends_with(".json") => continue,
                Some(language) => language,
                None => Language::TypeScript,
            };
            let source = self.modules.get(&importer);
            let found = source.and_then(|source| imports(source, language));
            for specifier in found.unwrap_or_default() {
                if let Some(name) = self.import(&importer, &specifier)? {
                    left.push(name);
                }
            }
        }
        Ok(())
    }

    /// Reads what a module imports; gives its name where that is new.
    fn import(
        &mut self,
        importer: &str,
        specifier: &str,
    ) -> Result<Option<String>, ModuleFilesError> {
        let outside = || ModuleFilesError::Outside {
            specifier: specifier.to_owned(),
            importer: importer.to_owned(),
        };
        let name = match resolve(importer, specifier) {
            Resolved::Name(name) => name,
            Resolved::Outside => return Err(outside()),
            Resolved::Other => return Ok(None),
        };
        if self.modules.contains_key(&name) {
            return Ok(None);
        }
        // Importing what is not there fails in the guest, with what was probably meant.
        let Ok(real) = self.folder.join(&name).canonicalize() else {
            self.add_similar(&name)?;
            return Ok(None);
        };
        if !real.starts_with(&self.folder) {
            return Err(outside());
        }
        let source = self
            .read(&real)
            .map_err(|reason| ModuleFilesError::Unreadable {
                name: name.clone(),
                reason,
            })?;
        self.add(name.clone(), source)?;
        Ok(Some(name))
    }

    /// Adds a file whose name differs in its ending alone, so that an error can name it.
    fn add_similar(&mut self, name: &str) -> Result<(), ModuleFilesError> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        for stem in [name, stem] {
            for ending in ENDINGS {
                let name = format!("{stem}{ending}");
                let path = self.folder.join(&name);
                let inside = |real: &PathBuf| real.starts_with(&self.folder);
                if let Some(real) = path.canonicalize().ok().filter(inside)
                    && let Ok(source) = self.read(&real)
                {
                    return self.add(name, source);
                }
            }
        }
        Ok(())
    }

    fn read(&self, real: &Path) -> Result<String, String> {
        let kind = real.metadata().map_err(|error| reason(&error))?;
        if !kind.is_file() {
            return Err("it is not a file".to_owned());
        }
        let file = std::fs::File::open(real).map_err(|error| reason(&error))?;
        self.text(file)
    }

    /// All of it, or one byte more than may be: then it is too much.
    fn text(&self, input: impl Read) -> Result<String, String> {
        let mut source = String::new();
        let left = (MAX_MODULE_BYTES - self.bytes) as u64;
        input
            .take(left + 1)
            .read_to_string(&mut source)
            .map_err(|error| reason(&error))?;
        // Of the first module alone: of others it is all of them that are too many.
        if source.len() > MAX_MODULE_BYTES {
            let most = MAX_MODULE_BYTES >> 20;
            return Err(format!("it holds more than {most} MiB"));
        }
        Ok(source)
    }

    fn add(&mut self, name: String, source: String) -> Result<(), ModuleFilesError> {
        self.bytes = self.bytes.saturating_add(source.len());
        self.modules.insert(name, source);
        if self.bytes > MAX_MODULE_BYTES || self.modules.len() > MAX_MODULE_FILES {
            return Err(ModuleFilesError::TooMany);
        }
        Ok(())
    }
}

/// What the system said, without its number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// A path within the folder.
    Name(String),
    Outside,
    /// No relative path, or one that a URL would change.
    Other,
}

/// The name of what `specifier` means in `importer`: the rules are those of the guest's own modules, but
/// that nothing stops at the top.
pub(crate) fn resolve(importer: &str, specifier: &str) -> Resolved {
    let relative = ["./", "../", "/"]
        .iter()
        .any(|start| specifier.starts_with(start));
    if !relative || specifier.contains(['%', '?', '#', '\\', '\0']) {
        return Resolved::Other;
    }
    let mut path: Vec<&OsStr> = Vec::new();
    if !specifier.starts_with('/') {
        path.extend(
            Path::new(importer)
                .parent()
                .into_iter()
                .flat_map(Path::iter),
        );
    }
    for part in Path::new(specifier).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::ParentDir if path.pop().is_none() => return Resolved::Outside,
            _ => {}
        }
    }
    let path: PathBuf = path.into_iter().collect();
    match path.to_str() {
        Some(name) if !name.is_empty() => Resolved::Name(name.to_owned()),
        _ => Resolved::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Resolved {
        Resolved::Name(name.to_owned())
    }

    #[test]
    fn resolve_stays_within_the_folder() {
        assert_eq!(resolve("a.ts", "./b.ts"), named("b.ts"));
        assert_eq!(resolve("x/y/a.ts", "../b.ts"), named("x/b.ts"));
        assert_eq!(resolve("x/a.ts", "/b.ts"), named("b.ts"));
        assert_eq!(resolve("x/a.ts", "./.././x/./c.json"), named("x/c.json"));
        for specifier in ["../b.ts", "./../b.ts", "./x/../../b.ts", "/../b.ts"] {
            assert_eq!(resolve("a.ts", specifier), Resolved::Outside, "{specifier}");
        }
        for specifier in [
            "node:fs",
            "b.ts",
            "https://a/b.ts",
            "./a%2e.ts",
            "./a?b",
            "./a#b",
            "",
        ] {
            assert_eq!(resolve("a.ts", specifier), Resolved::Other, "{specifier}");
        }
    }

    #[test]
    fn read_holds_the_files_themselves_and_what_was_probably_meant() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        put("main.ts", "export {}");
        put(
            "add.ts",
            "import './b'; import './c.js'; import './none.ts'",
        );
        put("b.ts", "import './main.ts'");
        put("c.ts", "");
        let files = ModuleFiles::read(&folder.path().join("add.ts")).unwrap();
        assert_eq!(files.entry, "add.ts");
        let names: Vec<&str> = files.modules.keys().map(String::as_str).collect();
        assert_eq!(names, ["add.ts", "b.ts", "c.ts"]);
    }

    #[test]
    fn name_that_a_url_would_change_is_replaced() {
        assert_eq!(name_of(OsStr::new("add.ts")), "add.ts");
        assert_eq!(name_of(OsStr::new("a:b.js")), "module.js");
        assert_eq!(name_of(OsStr::new("a?b")), "module.ts");
    }

    #[test]
    fn read_folder_is_its_index() {
        let folder = tempfile::tempdir().unwrap();
        let error = ModuleFiles::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("index.ts"), "{error}");
        std::fs::write(folder.path().join("index.mjs"), "import './b.js'").unwrap();
        std::fs::write(folder.path().join("b.js"), "export {}").unwrap();
        let files = ModuleFiles::read(folder.path()).unwrap();
        assert_eq!(files.entry, "index.mjs");
        assert!(files.modules.contains_key("b.js"));
        assert_eq!(files.folder, folder.path().canonicalize().unwrap());
        std::fs::write(folder.path().join("index.ts"), "").unwrap();
        assert_eq!(ModuleFiles::read(folder.path()).unwrap().entry, "index.ts");
    }

    #[test]
    fn read_stream_imports_from_the_folder_and_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.js"), "export {}").unwrap();
        let read = |text: &[u8]| ModuleFiles::read_stream("-", text, folder.path());
        let files = read(b"import './b.js'; import '../c.js' with { type: 'json' }");
        assert!(matches!(files, Err(ModuleFilesError::Outside { .. })));
        let files = read(b"import './b.js'").unwrap();
        assert_eq!(files.entry, STREAM_NAME);
        assert!(files.modules.contains_key("b.js"));
        let error = read(b"\xff").unwrap_err().to_string();
        assert_eq!(error, "cannot read '-': it is not UTF-8 text");
        let endless = ModuleFiles::read_stream("-", std::io::repeat(b' '), folder.path());
        let error = endless.unwrap_err().to_string();
        assert_eq!(error, "cannot read '-': it holds more than 64 MiB");
    }
}
