//! What `stockade init` writes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use stockade_config::Config;

use crate::types::{DECLARATIONS, ENV_FILE, env_types};
use crate::yaml::{SCHEMA_LINE, block};

/// A kind of project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// A site.
    Site,
    /// A host script and the plugins that it runs.
    Plugins,
    /// Functions that are called by JSON-RPC.
    Rpc,
    /// A host script that runs code of a language model.
    Agent,
}

/// The file in which a schema for editors is.
pub const SCHEMA_FILE: &str = "stockade.schema.json";

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../templates/", $folder, "/", $name)))),+]
    };
}

/// In each project. A name that begins with `dot-` begins with `.` there.
const EVERY: &[(&str, &str)] = files!("every": "dot-gitignore");

const SITE: &[(&str, &str)] = files!("site": "README.md", "package.json", "tsconfig.json", "stockade.yaml", "src/index.ts", "tests/index.test.ts");
const PLUGINS: &[(&str, &str)] = files!("plugins": "README.md", "package.json", "tsconfig.json", "main.ts", "plugins/shout.ts", "plugins/count.ts", "plugins/tsconfig.json", "plugins/tests/plugins.test.ts");
const RPC: &[(&str, &str)] =
    files!("rpc": "README.md", "package.json", "tsconfig.json", "src/api.ts", "tests/api.test.ts");
const AGENT: &[(&str, &str)] = files!("agent": "README.md", "package.json", "tsconfig.json", "main.ts", "run-code.ts", "guest/tools.ts", "guest/tsconfig.json", "guest/tests/tools.test.ts");

impl Template {
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Site => SITE,
            Self::Plugins => PLUGINS,
            Self::Rpc => RPC,
            Self::Agent => AGENT,
        }
    }

    /// The declarations that its code needs.
    fn declarations(self) -> &'static [&'static str] {
        match self {
            Self::Site => &["web.d.ts", "stockade-serve.d.ts", "stockade-test.d.ts"],
            Self::Rpc => &["web.d.ts", "worker.d.ts", "stockade-test.d.ts"],
            Self::Plugins | Self::Agent => {
                &["web.d.ts", "worker.d.ts", "host.d.ts", "stockade-test.d.ts"]
            }
        }
    }
}

/// Why a project was not written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Files are there already; none was written.
    #[error(
        "nothing was written to '{folder}': {} there already\n  fix: give another folder, or move what is there away",
        listed(.present)
    )]
    Present {
        /// Where.
        folder: String,
        /// The files.
        present: Vec<String>,
    },
    /// A file cannot be written.
    #[error("cannot write '{path}': {source}")]
    Unwritable {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

fn listed(names: &[String]) -> String {
    const MOST: usize = 5;
    let shown = names
        .iter()
        .take(MOST)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len() {
        0 | 1 => format!("{shown} is"),
        more if more > MOST => format!("{shown} and {} more are", more - MOST),
        _ => format!("{shown} are"),
    }
}

/// The files of a project by their names, in order.
#[must_use]
pub fn project_files(template: Template) -> Vec<(String, String)> {
    let all = EVERY.iter().chain(template.files());
    let mut files: Vec<(String, String)> = all
        .map(|(name, text)| (name.replace("dot-", "."), (*text).to_owned()))
        .collect();
    let wanted = template.declarations();
    let declarations = DECLARATIONS
        .iter()
        .filter(|(name, _)| wanted.contains(name));
    files.extend(declarations.map(|(name, text)| (format!("types/{name}"), (*text).to_owned())));
    if template == Template::Site {
        files.push((SCHEMA_FILE.to_owned(), schema_text()));
        files.extend(env_of(&files).map(|types| (ENV_FILE.to_owned(), types)));
    }
    files
}

/// The types of `env` of the configuration among these files.
fn env_of(files: &[(String, String)]) -> Option<String> {
    let (name, text) = files.iter().find(|(name, _)| name == "stockade.yaml")?;
    let loaded = Config::parse(text, name, Path::new("/")).ok()?;
    Some(env_types(&loaded.config))
}

/// The JSON Schema of configurations.
#[must_use]
pub fn schema_text() -> String {
    let mut text = serde_json::to_string_pretty(&stockade_config::schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// A configuration as the text of a stockade.yaml.
#[must_use]
pub fn configuration_text(configuration: &Value, came_from: &str, notes: &[String]) -> String {
    let mut text = String::from(SCHEMA_LINE);
    text.push_str(&format!("# Made from {came_from}.\n"));
    for note in notes {
        text.push_str(&format!("#   {}\n", note.replace(['\n', '\r'], " ")));
    }
    text.push_str(&block(configuration));
    text
}

/// Writes files into a folder, all of them or none, and never in the place of one that is there. Returns their paths.
///
/// # Errors
/// When one is there, or cannot be written; what was written before is removed then.
pub fn write_files(folder: &Path, files: &[(String, String)]) -> Result<Vec<PathBuf>, InitError> {
    let present: Vec<String> = files
        .iter()
        .filter(|(name, _)| folder.join(name).symlink_metadata().is_ok())
        .map(|(name, _)| name.clone())
        .collect();
    if !present.is_empty() {
        let folder = folder.display().to_string();
        return Err(InitError::Present { folder, present });
    }
    let mut written = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        if let Err(source) = write_new(&path, text) {
            for path in &written {
                let _ = fs::remove_file(path);
            }
            let path = path.display().to_string();
            return Err(InitError::Unwritable { path, source });
        }
        written.push(path);
    }
    Ok(written)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(path)?;
    let wrote = file.write_all(text.as_bytes());
    if wrote.is_err() {
        let _ = fs::remove_file(path);
    }
    wrote
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ALL: [Template; 4] = [
        Template::Site,
        Template::Plugins,
        Template::Rpc,
        Template::Agent,
    ];

    #[test]
    fn project_is_written_once_and_nothing_is_overwritten() {
        for template in ALL {
            let folder = tempfile::tempdir().unwrap();
            let files = project_files(template);
            let written = write_files(&folder.path().join("a/b"), &files).unwrap();
            assert_eq!(written.len(), files.len());
            let readme = folder.path().join("a/b/README.md");
            fs::write(&readme, "mine").unwrap();
            fs::remove_file(&written[0]).unwrap();
            let error = write_files(&folder.path().join("a/b"), &files).unwrap_err();
            assert!(error.to_string().contains("README.md"), "{error}");
            assert_eq!(fs::read_to_string(&readme).unwrap(), "mine");
            assert!(!written[0].exists());
        }
    }

    #[test]
    fn links_are_not_followed_and_what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink(at("target"), at("a")).unwrap();
        let file = |name: &str| (name.to_owned(), "x".to_owned());
        let error = write_files(folder.path(), &[file("a")]).unwrap_err();
        assert!(matches!(error, InitError::Present { .. }));
        assert!(!at("target").exists());
        fs::write(at("b"), "").unwrap();
        let error = write_files(folder.path(), &[file("c"), file("b/d")]).unwrap_err();
        assert!(matches!(error, InitError::Unwritable { .. }), "{error}");
        assert!(!at("c").exists());
    }

    #[test]
    fn configuration_of_the_template_is_valid_and_names_its_schema() {
        let files = project_files(Template::Site);
        let text = |name: &str| {
            let found = files.iter().find(|(known, _)| known == name);
            found.map(|(_, text)| text.clone()).unwrap()
        };
        let yaml = text("stockade.yaml");
        assert!(yaml.starts_with(SCHEMA_LINE), "{yaml}");
        let schema: Value = serde_json::from_str(&text(SCHEMA_FILE)).unwrap();
        assert!(schema["properties"]["instances"].is_object());
        let loaded = Config::parse(&yaml, "stockade.yaml", Path::new("/srv")).unwrap();
        assert!(loaded.warnings.is_empty());
        let env = text(ENV_FILE);
        assert!(env.contains("  readonly STATE: StateNamespace;"), "{env}");
    }

    #[test]
    fn configuration_of_a_wrangler_file_is_valid_as_text() {
        let converted = crate::wrangler::parse_wrangler(
            "name = 'a'\nmain = 'index.ts'\n[vars]\nX = \"a: b\"\n",
            true,
            "wrangler.toml",
        );
        let notes = ["x: two\nlines".to_owned()];
        let configuration = converted.unwrap().configuration;
        let text = configuration_text(&configuration, "wrangler.toml", &notes);
        assert!(
            Config::parse(&text, "stockade.yaml", Path::new("/srv")).is_ok(),
            "{text}"
        );
    }
}
