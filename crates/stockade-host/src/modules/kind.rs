//! What a file is, by its name.

use std::path::Path;

use stockade_transpile::Language;

/// What a source file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Runs as it is.
    JavaScript,
    /// Must be transpiled first.
    Source(Language),
    /// Data, importable only `with { type: "json" }`.
    Json,
}

impl FileKind {
    /// By the ending; anything unknown is taken for JavaScript, as `deno run` does with a script that
    /// has no ending.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("ts" | "mts" | "cts") => Self::Source(Language::TypeScript),
            Some("tsx") => Self::Source(Language::Tsx),
            Some("jsx") => Self::Source(Language::Jsx),
            Some("json") => Self::Json,
            _ => Self::JavaScript,
        }
    }
}
