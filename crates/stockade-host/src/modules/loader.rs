//! Reads modules, turns TypeScript into JavaScript, and keeps what stack traces need to name the
//! original lines.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deno_core::{
    ModuleLoadOptions, ModuleLoadReferrer, ModuleLoadResponse, ModuleLoader, ModuleResolveResponse,
    ModuleSource, ModuleSourceCode, ModuleSpecifier, ModuleType, RequestedModuleType,
    ResolutionKind,
};
use deno_error::JsErrorBox;

use super::kind::FileKind;
use super::resolve::resolve;

/// Loads the modules of one run.
#[derive(Default)]
pub(crate) struct Loader {
    /// What was transpiled, by specifier.
    transpiled: RefCell<HashMap<String, Rc<Original>>>,
    /// The main module, where it is not a file.
    given: Option<Given>,
}

/// A module whose source is known before anything is loaded.
struct Given {
    specifier: ModuleSpecifier,
    source: Vec<u8>,
}

/// A source before it was transpiled.
struct Original {
    source: String,
    source_map: Vec<u8>,
}

/// A module that could not be loaded.
#[derive(Debug, thiserror::Error, deno_error::JsError)]
pub(crate) enum LoadError {
    #[class(type)]
    #[error("cannot import '{}': no such file{}{imported}", path.display(), similar(path))]
    Missing { path: PathBuf, imported: String },
    #[class(type)]
    #[error("cannot import '{}': {reason}{imported}", path.display())]
    Unreadable {
        path: PathBuf,
        reason: String,
        imported: String,
    },
    #[class(type)]
    #[error("cannot import '{specifier}': {reason}")]
    Specifier { specifier: String, reason: String },
    #[class(type)]
    #[error(
        "cannot import '{}' without saying what it is{imported}\n  fix: import data from \"…\" with {{ type: \"json\" }}",
        path.display()
    )]
    JsonAsModule { path: PathBuf, imported: String },
    #[class(syntax)]
    #[error(
        "SyntaxError: {message}{}\n    at {specifier}:{line}:{column}",
        excerpt.as_ref().map(|lines| format!("\n{lines}")).unwrap_or_default()
    )]
    Syntax {
        message: String,
        excerpt: Option<String>,
        specifier: String,
        line: u32,
        column: u32,
    },
}

/// Where an import stands, for a message.
fn imported(referrer: Option<&ModuleLoadReferrer>) -> String {
    referrer.map_or_else(String::new, |at| {
        format!(
            "\n    at {}:{}:{}",
            at.specifier, at.line_number, at.column_number
        )
    })
}

/// A file that was probably meant: its name has another ending.
fn similar(path: &Path) -> String {
    let endings = ["ts", "js", "tsx", "jsx", "mjs", "json"];
    let mut longer = path.as_os_str().to_owned();
    longer.push(".x");
    [Path::new(&longer), path]
        .iter()
        .flat_map(|path| endings.iter().map(|ending| path.with_extension(ending)))
        .find(|path| path.is_file())
        .map_or_else(String::new, |path| {
            format!("; did you mean '{}'?", path.display())
        })
}

fn file_path(specifier: &ModuleSpecifier) -> Result<PathBuf, LoadError> {
    specifier.to_file_path().map_err(|()| LoadError::Specifier {
        specifier: specifier.to_string(),
        reason: "it is not a path of this machine".to_owned(),
    })
}

/// Bytes of a module that are read: V8 has no longer texts.
const MAX_MODULE: u64 = 512 << 20;

/// Reads the source of a module, and no more than one may have.
pub(crate) fn read_source(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_MODULE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_MODULE {
        true => Err(std::io::Error::other(format!(
            "it is larger than {} MiB",
            MAX_MODULE >> 20
        ))),
        false => Ok(bytes),
    }
}

fn read(path: &Path, referrer: Option<&ModuleLoadReferrer>) -> Result<Vec<u8>, LoadError> {
    let error = match File::open(path).and_then(read_source) {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error,
    };
    let path = path.to_owned();
    let imported = imported(referrer);
    Err(match error.kind() {
        std::io::ErrorKind::NotFound => LoadError::Missing { path, imported },
        std::io::ErrorKind::IsADirectory => LoadError::Unreadable {
            path,
            reason: "it is a directory".to_owned(),
            imported,
        },
        _ => LoadError::Unreadable {
            path,
            reason: error.to_string(),
            imported,
        },
    })
}

fn text(
    bytes: Vec<u8>,
    path: &Path,
    referrer: Option<&ModuleLoadReferrer>,
) -> Result<String, LoadError> {
    let text = String::from_utf8(bytes).map_err(|error| LoadError::Unreadable {
        path: path.to_owned(),
        reason: format!(
            "it is not UTF-8 text from byte {}",
            error.utf8_error().valid_up_to()
        ),
        imported: imported(referrer),
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

impl Loader {
    /// A loader that has this source for this module and reads all others.
    pub(crate) fn with_module(specifier: ModuleSpecifier, source: Vec<u8>) -> Self {
        Self {
            given: Some(Given { specifier, source }),
            ..Self::default()
        }
    }

    /// The source of a module, from what was given or from its file.
    fn bytes(
        &self,
        specifier: &ModuleSpecifier,
        path: &Path,
        referrer: Option<&ModuleLoadReferrer>,
    ) -> Result<Vec<u8>, LoadError> {
        match &self.given {
            Some(given) if given.specifier == *specifier => Ok(given.source.clone()),
            _ => read(path, referrer),
        }
    }

    fn source(
        &self,
        specifier: &ModuleSpecifier,
        referrer: Option<&ModuleLoadReferrer>,
        requested: &RequestedModuleType,
    ) -> Result<ModuleSource, LoadError> {
        if specifier.scheme() == "data" {
            return data_module(specifier);
        }
        let path = file_path(specifier)?;
        let bytes = self.bytes(specifier, &path, referrer)?;
        let (kind, code) = match requested {
            RequestedModuleType::Bytes => (
                ModuleType::Bytes,
                ModuleSourceCode::Bytes(bytes.into_boxed_slice().into()),
            ),
            RequestedModuleType::Text => (
                ModuleType::Text,
                ModuleSourceCode::String(text(bytes, &path, referrer)?.into()),
            ),
            RequestedModuleType::Json => (
                ModuleType::Json,
                ModuleSourceCode::String(text(bytes, &path, referrer)?.into()),
            ),
            _ => {
                let source = text(bytes, &path, referrer)?;
                let code = match FileKind::of(&path) {
                    FileKind::JavaScript => source,
                    FileKind::Source(language) => self.transpile(specifier, source, language)?,
                    FileKind::Json => {
                        return Err(LoadError::JsonAsModule {
                            path,
                            imported: imported(referrer),
                        });
                    }
                };
                (
                    ModuleType::JavaScript,
                    ModuleSourceCode::String(code.into()),
                )
            }
        };
        Ok(ModuleSource::new(kind, code, specifier, None))
    }

    fn transpile(
        &self,
        specifier: &ModuleSpecifier,
        source: String,
        language: stockade_transpile::Language,
    ) -> Result<String, LoadError> {
        let options = stockade_transpile::Options {
            specifier: specifier.as_str(),
            language,
            module: true,
        };
        let made = stockade_transpile::transpile(&source, &options).map_err(|error| {
            LoadError::Syntax {
                message: error.message,
                excerpt: error.excerpt,
                specifier: specifier.to_string(),
                line: error.line,
                column: error.column,
            }
        })?;
        let original = Original {
            source,
            source_map: made.source_map.unwrap_or_default(),
        };
        self.transpiled
            .borrow_mut()
            .insert(specifier.to_string(), Rc::new(original));
        Ok(made.code)
    }

    fn original(&self, file: &str) -> Option<Rc<Original>> {
        self.transpiled.borrow().get(file).cloned()
    }
}

/// A module inside its own specifier, always JavaScript.
fn data_module(specifier: &ModuleSpecifier) -> Result<ModuleSource, LoadError> {
    let wrong = |reason: &str| LoadError::Specifier {
        specifier: specifier.to_string(),
        reason: reason.to_owned(),
    };
    let (kind, body) = specifier
        .path()
        .split_once(',')
        .ok_or_else(|| wrong("a data: URL needs a comma before its data"))?;
    if kind.ends_with(";base64") {
        return Err(wrong("write the data: URL in text instead of base64"));
    }
    let source = percent_decoded(body).ok_or_else(|| wrong("it is not UTF-8 text"))?;
    let module_type = if kind.starts_with("application/json") {
        ModuleType::Json
    } else {
        ModuleType::JavaScript
    };
    let code = ModuleSourceCode::String(source.into());
    Ok(ModuleSource::new(module_type, code, specifier, None))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

impl ModuleLoader for Loader {
    fn resolve(
        &self,
        specifier: &str,
        referrer: &str,
        _kind: ResolutionKind,
    ) -> ModuleResolveResponse {
        resolve(specifier, referrer).map_err(JsErrorBox::from_err)
    }

    fn load(
        &self,
        specifier: &ModuleSpecifier,
        referrer: Option<&ModuleLoadReferrer>,
        options: ModuleLoadOptions,
    ) -> ModuleLoadResponse {
        let source = self.source(specifier, referrer, &options.requested_module_type);
        ModuleLoadResponse::Sync(source.map_err(JsErrorBox::from_err))
    }

    fn get_source_map(&self, file: &str) -> Option<Cow<'_, [u8]>> {
        let original = self.original(file)?;
        Some(Cow::Owned(original.source_map.clone()))
    }

    fn get_source_mapped_source_line(&self, file: &str, line: usize) -> Option<String> {
        if let Some(original) = self.original(file) {
            return original.source.lines().nth(line).map(str::to_owned);
        }
        // Only asked when an error is shown, so the file is read again instead of kept.
        let path = ModuleSpecifier::parse(file).ok()?.to_file_path().ok()?;
        let source = std::fs::read_to_string(path).ok()?;
        source.lines().nth(line).map(str::to_owned)
    }

    fn source_map_source_exists(&self, source: &str) -> Option<bool> {
        Some(self.original(source).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_file_differs_in_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.b.ts"), "").unwrap();
        let of = |name: &str| similar(&folder.path().join(name));
        assert!(of("a.b").ends_with("/a.b.ts'?"), "{}", of("a.b"));
        assert!(of("a.b.js").ends_with("/a.b.ts'?"), "{}", of("a.b.js"));
        assert_eq!(of("c"), "");
    }

    #[test]
    fn percent_decoded_data_url_is_text() {
        assert_eq!(percent_decoded("a%20b%c3%A9%").as_deref(), Some("a bé%"));
        assert_eq!(percent_decoded("%ff"), None);
    }
}
