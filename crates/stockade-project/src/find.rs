//! What a path of the command line means: a module, a folder, a configuration.

use std::path::{Path, PathBuf};

use crate::wrangler::WRANGLER_FILES;

/// Names of configurations, in the order in which they are taken.
const CONFIGURATIONS: [&str; 2] = ["stockade.yaml", "stockade.yml"];

/// Endings of code.
const CODE: [&str; 8] = ["ts", "mts", "cts", "tsx", "js", "mjs", "jsx", "cjs"];

/// Where the code of a folder without a configuration is.
const ENTRIES: [&str; 10] = [
    "index.ts",
    "index.js",
    "index.tsx",
    "index.jsx",
    "index.mjs",
    "src/index.ts",
    "src/index.js",
    "src/index.tsx",
    "src/index.jsx",
    "src/index.mjs",
];

/// Folders above a module in which its project may begin.
const MAX_FOLDERS: usize = 16;

/// What states the settings of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// Nothing: they are the defaults.
    None,
    /// A configuration of Stockade.
    Stockade(PathBuf),
    /// A file of wrangler.
    Wrangler(PathBuf),
}

/// A project to serve or to test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its folder: the nearest one above the code with a configuration or a package.json, else that of the code. It is
    /// absolute.
    pub root: PathBuf,
    /// What states its settings.
    pub settings: Settings,
    /// The code that the command line names, or that was found where nothing states it.
    pub code: Option<PathBuf>,
    /// A folder of files without code, where that was found.
    pub files: Option<PathBuf>,
    /// What it is called in messages.
    pub shown: PathBuf,
}

/// Why there is nothing to serve.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is no such file.
    #[error("cannot read '{path}': {why}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The folder has nothing to serve.
    #[error(
        "'{folder}' has nothing to serve\n  checked: stockade.yaml, {}, index.ts and index.js, here and in src, and index.html\n  \
         fix: stockade init site {folder}", WRANGLER_FILES.join(", ")
    )]
    Nothing {
        /// Which.
        folder: String,
    },
    /// The file is neither code nor a configuration.
    #[error("'{path}' is neither code nor a configuration\n  allowed: a .ts or .js file, a folder, stockade.yaml, {}", WRANGLER_FILES.join(", "))]
    Other {
        /// Which.
        path: String,
    },
}

/// Whether a file of this name is code.
pub(crate) fn is_code(path: &Path) -> bool {
    has_ending(path, &CODE)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(std::ffi::OsStr::to_str);
    ending.is_some_and(|ending| endings.contains(&ending))
}

/// The folder of the project that a real folder is in.
fn root_above(folder: &Path) -> PathBuf {
    let mut above = folder.ancestors().take(MAX_FOLDERS);
    let begins = |folder: &&Path| {
        settings_of(folder) != Settings::None || folder.join("package.json").is_file()
    };
    above.find(begins).unwrap_or(folder).to_owned()
}

/// The folder of the project that a file or a folder is in: the nearest one above with a configuration or a
/// package.json, else the folder itself. It is absolute.
///
/// # Errors
/// When there is no such file or folder.
pub fn project_root(path: &Path) -> std::io::Result<PathBuf> {
    let real = path.canonicalize()?;
    if real.is_dir() {
        return Ok(root_above(&real));
    }
    Ok(root_above(real.parent().unwrap_or(Path::new("/"))))
}

/// The configuration of a folder.
fn settings_of(folder: &Path) -> Settings {
    let first = |names: &[&str]| {
        let paths = names.iter().map(|name| folder.join(name));
        paths.into_iter().find(|path| path.is_file())
    };
    if let Some(path) = first(&CONFIGURATIONS) {
        return Settings::Stockade(path);
    }
    first(&WRANGLER_FILES).map_or(Settings::None, Settings::Wrangler)
}

impl Project {
    /// Finds what to serve.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn find(path: &Path) -> Result<Self, FindError> {
        let shown = path.to_owned();
        let unreadable = |error: std::io::Error| FindError::Unreadable {
            path: path.display().to_string(),
            why: match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
                _ => error.to_string(),
            },
        };
        let real = path.canonicalize().map_err(unreadable)?;
        if real.is_dir() {
            return Self::of_folder(real, shown);
        }
        let folder = real.parent().unwrap_or(Path::new("/")).to_owned();
        let settings = if has_ending(&real, &["yaml", "yml"]) {
            Some(Settings::Stockade(real.clone()))
        } else if has_ending(&real, &["toml", "json", "jsonc"]) {
            Some(Settings::Wrangler(real.clone()))
        } else {
            None
        };
        if let Some(settings) = settings {
            return Ok(Self {
                root: folder,
                settings,
                code: None,
                files: None,
                shown,
            });
        }
        if !is_code(&real) {
            let path = path.display().to_string();
            return Err(FindError::Other { path });
        }
        let root = root_above(&folder);
        Ok(Self {
            settings: settings_of(&root),
            root,
            code: Some(real),
            files: None,
            shown,
        })
    }

    fn of_folder(root: PathBuf, shown: PathBuf) -> Result<Self, FindError> {
        let settings = settings_of(&root);
        let mut project = Self {
            root,
            settings,
            code: None,
            files: None,
            shown,
        };
        if project.settings != Settings::None {
            return Ok(project);
        }
        let entries = ENTRIES.iter().map(|name| project.root.join(name));
        if let Some(code) = { entries }.find(|path| path.is_file()) {
            project.code = Some(code);
        } else if project.root.join("index.html").is_file() {
            project.files = Some(project.root.clone());
        } else {
            let folder = project.shown.display().to_string();
            return Err(FindError::Nothing { folder });
        }
        Ok(project)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn project_is_found_from_a_file_a_folder_and_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        let find = |name: &str| Project::find(&at(name));
        let error = find(".").unwrap_err().to_string();
        assert!(error.contains("stockade init site"), "{error}");
        assert!(
            find("none")
                .unwrap_err()
                .to_string()
                .contains("no such file")
        );
        symlink("loop", at("loop")).unwrap();
        assert!(matches!(find("loop"), Err(FindError::Unreadable { .. })));
        write(at("index.html"), "").unwrap();
        assert_eq!(find(".").unwrap().files, Some(root.clone()));
        assert!(matches!(find("index.html"), Err(FindError::Other { .. })));
        create_dir_all(at("src")).unwrap();
        write(at("src/index.ts"), "").unwrap();
        assert_eq!(find(".").unwrap().code, Some(at("src/index.ts")));
        assert_eq!(find("src/index.ts").unwrap().root, at("src"));
        write(at("package.json"), "").unwrap();
        assert_eq!(find("src/index.ts").unwrap().root, root);
        write(at("wrangler.toml"), "").unwrap();
        let wrangler = Settings::Wrangler(at("wrangler.toml"));
        assert_eq!(find("src/index.ts").unwrap().settings, wrangler);
        write(at("stockade.yaml"), "").unwrap();
        let found = find(".").unwrap();
        assert_eq!(found.settings, Settings::Stockade(at("stockade.yaml")));
        assert_eq!(found.code, None);
        assert_eq!(find("wrangler.toml").unwrap().settings, wrangler);
    }
}
