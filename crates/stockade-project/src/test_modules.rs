//! The modules of a test file: the file with what it imports, the library that it imports as `stockade:test`, and a
//! module that gives the program's calls to the library.

use std::path::{Path, PathBuf};

use stockade_transpile::{ModuleFiles, STREAM_NAME};

use crate::bundle::bundle;
use crate::make::without_bundler;

/// What a test imports.
const SPECIFIER: &str = "stockade:test";

/// The module that it gets. The name is as long as the specifier, so that no column of an error moves.
const LIBRARY: &str = "stockade.mjs";

/// The assertions, which the library imports.
const EXPECT: &str = "stockade-expect.js";

const LIBRARY_SOURCE: &str = include_str!("../test-library/library.js");
const EXPECT_SOURCE: &str = include_str!("../test-library/expect.js");

/// Where a bundle is.
const BUNDLE: &str = "stockade-test-bundle.js";

/// Endings of test files.
const ENDINGS: [&str; 6] = ["ts", "tsx", "js", "jsx", "mjs", "mts"];

/// Files and folders that a search visits.
const MAX_VISITED: usize = 100_000;

/// Test files of one run.
const MAX_FILES: usize = 1000;

/// Folders in folders of a search.
const MAX_SEARCH_DEPTH: usize = 32;

/// A test file, ready to run.
#[derive(Debug, Clone)]
pub struct TestModules {
    /// The modules. Their functions `list`, `select` and `run` are those of the library.
    pub files: ModuleFiles,
    /// Files of the developer that they were made of.
    pub sources: Vec<PathBuf>,
}

/// Whether a frame of a stack is in the library, and not in a test.
#[must_use]
pub fn is_of_test_library(name: &str) -> bool {
    [LIBRARY, EXPECT, STREAM_NAME].contains(&name)
}

/// Reads a test file, whose paths in stacks begin in `root`.
///
/// # Errors
/// Why it cannot run, for the developer.
pub fn test_modules(root: &Path, file: &Path) -> Result<TestModules, String> {
    let name = file.strip_prefix(root).ok().and_then(Path::to_str);
    let direct = match name.filter(|name| !name.contains(['"', '\\', '%', '?', '#'])) {
        Some(name) => {
            let main = main_module(name);
            let read = ModuleFiles::read_stream(name, main.as_bytes(), root);
            without_bundler(read.map(with_library))?
        }
        None => None,
    };
    if let Some(files) = direct {
        let names = files.modules.keys();
        let own = names.filter(|name| !is_of_test_library(name));
        let sources = own.map(|name| root.join(name)).collect();
        return Ok(TestModules { files, sources });
    }
    let made = bundle(root, file, &[]).map_err(|error| error.to_string())?;
    let mut files = ModuleFiles {
        modules: [(BUNDLE.to_owned(), made.code)].into(),
        entry: STREAM_NAME.to_owned(),
        folder: root.to_owned(),
    };
    files
        .modules
        .insert(STREAM_NAME.to_owned(), main_module(BUNDLE));
    let mut sources = made.sources;
    sources.push(file.to_owned());
    Ok(TestModules {
        files: with_library(files),
        sources,
    })
}

fn main_module(name: &str) -> String {
    format!(
        "import {{ list, run, select }} from \"/{LIBRARY}\";\nimport \"./{name}\";\nexport {{ list, run, select }};\n"
    )
}

fn with_library(mut files: ModuleFiles) -> ModuleFiles {
    for source in files.modules.values_mut() {
        for quote in ['"', '\''] {
            let specifier = format!("{quote}{SPECIFIER}{quote}");
            if source.contains(&specifier) {
                *source = source.replace(&specifier, &format!("{quote}/{LIBRARY}{quote}"));
            }
        }
    }
    let library = [(LIBRARY, LIBRARY_SOURCE), (EXPECT, EXPECT_SOURCE)];
    let library = library.map(|(name, text)| (name.to_owned(), text.to_owned()));
    files.modules.extend(library);
    files
}

/// Why test files were not found.
#[derive(Debug, thiserror::Error)]
pub enum TestFilesError {
    /// A path cannot be read.
    #[error("cannot read '{path}': {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is more than a run may have.
    #[error(
        "there are more than {MAX_FILES} test files, or {MAX_VISITED} files in all\n  fix: name the files or folders to test"
    )]
    TooMany,
    /// There is none.
    #[error("there is no test file\n  checked: names that end in .test.ts or _test.ts, or the same with {}", ENDINGS.join(", "))]
    None,
}

/// The test files among these paths: files as they are, and in folders those whose names end in `.test.ts` or
/// `_test.ts`, or the same with another ending of code. Folders of packages, and those whose names begin with a dot, are
/// left out; links are not followed. Absolute, in order.
///
/// # Errors
/// When a path cannot be read, or there are none, or too many.
pub fn find_test_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, TestFilesError> {
    let mut found = Vec::new();
    let mut visited = 0;
    for path in paths {
        let unreadable = |source| TestFilesError::Unreadable {
            path: path.clone(),
            source,
        };
        let real = path.canonicalize().map_err(unreadable)?;
        if !real.is_dir() {
            found.push(real);
            continue;
        }
        let mut folders = vec![(real, 0)];
        while let Some((folder, depth)) = folders.pop() {
            // A folder of others that cannot be read has no tests of this user's.
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                visited += 1;
                if visited > MAX_VISITED || found.len() > MAX_FILES {
                    return Err(TestFilesError::TooMany);
                }
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                let skipped = name.starts_with('.') || name == "node_modules";
                if kind.is_dir() && !skipped && depth < MAX_SEARCH_DEPTH {
                    folders.push((entry.path(), depth + 1));
                } else if kind.is_file() && is_test(&name) {
                    found.push(entry.path());
                }
            }
        }
    }
    found.sort();
    found.dedup();
    match found.len() {
        0 => Err(TestFilesError::None),
        files if files > MAX_FILES => Err(TestFilesError::TooMany),
        _ => Ok(found),
    }
}

fn is_test(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, ending)| {
        ENDINGS.contains(&ending) && (stem.ends_with(".test") || stem.ends_with("_test"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (name, text) in files {
            let path = root.join(name);
            create_dir_all(path.parent().unwrap()).unwrap();
            write(path, text).unwrap();
        }
        (folder, root)
    }

    #[test]
    fn test_may_import_all_of_its_project_and_the_library() {
        let (_folder, root) = project(&[
            ("src/a.ts", "export const a: number = 1"),
            (
                "tests/a.test.ts",
                "import { a } from '../src/a.ts'; import { test } from \"stockade:test\"; test('x', () => a)",
            ),
        ]);
        let made = test_modules(&root, &root.join("tests/a.test.ts")).unwrap();
        let names: Vec<&str> = made.files.modules.keys().map(String::as_str).collect();
        assert!(
            names.contains(&"src/a.ts") && names.contains(&LIBRARY),
            "{names:?}"
        );
        assert_eq!(
            made.sources,
            [root.join("src/a.ts"), root.join("tests/a.test.ts")]
        );
        let text = &made.files.modules["tests/a.test.ts"];
        assert!(text.contains("from \"/stockade.mjs\""), "{text}");
        assert_eq!(LIBRARY.len() + 1, SPECIFIER.len());
    }

    #[test]
    fn error_of_a_test_names_its_place() {
        let (_folder, root) = project(&[("a_test.ts", "\nlet a = ;")]);
        let error = test_modules(&root, &root.join("a_test.ts")).unwrap_err();
        assert!(error.starts_with("a_test.ts:2:9"), "{error}");
    }

    #[test]
    fn search_finds_tests_and_ends() {
        let (_folder, root) = project(&[
            ("a.test.ts", ""),
            ("b/c_test.mjs", ""),
            ("b/test.ts", ""),
            ("node_modules/x/d.test.ts", ""),
            (".hidden/e.test.ts", ""),
        ]);
        symlink(".", root.join("b/circle")).unwrap();
        symlink("none", root.join("none.test.ts")).unwrap();
        let found = find_test_files(std::slice::from_ref(&root)).unwrap();
        assert_eq!(found, [root.join("a.test.ts"), root.join("b/c_test.mjs")]);
        let named = find_test_files(&[root.join("b/test.ts"), root.clone()]).unwrap();
        assert_eq!(named.len(), 3);
        let error = find_test_files(&[root.join("node_modules/x")]);
        assert_eq!(error.unwrap().len(), 1);
        let error = find_test_files(&[root.join("b/circle/none")]).unwrap_err();
        assert!(matches!(error, TestFilesError::Unreadable { .. }));
        for number in 0..=MAX_FILES {
            std::fs::File::create(root.join(format!("b/{number}.test.js"))).unwrap();
        }
        let error = find_test_files(&[root]).unwrap_err();
        assert!(matches!(error, TestFilesError::TooMany));
    }
}
