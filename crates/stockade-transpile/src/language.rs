//! Kinds of source.

use std::path::Path;

use oxc::span::SourceType;

/// What kind of source a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// Passes through untouched.
    JavaScript,
    /// TypeScript without JSX.
    TypeScript,
    /// TypeScript with JSX.
    Tsx,
    /// JavaScript with JSX.
    Jsx,
}

impl Language {
    /// Determines the language by a file's extension; `None` if it is none of ours.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        Self::from_extension(path.extension()?.to_str()?)
    }

    /// Determines the language by an extension without its dot, such as `ts`; case does not matter.
    #[must_use]
    fn from_extension(extension: &str) -> Option<Self> {
        Some(match extension.to_ascii_lowercase().as_str() {
            "js" | "mjs" | "cjs" => Self::JavaScript,
            "ts" | "mts" | "cts" => Self::TypeScript,
            "tsx" => Self::Tsx,
            "jsx" => Self::Jsx,
            _ => return None,
        })
    }

    pub(crate) fn has_jsx(self) -> bool {
        matches!(self, Self::Tsx | Self::Jsx)
    }

    pub(crate) fn source_type(self, module: bool) -> SourceType {
        let source_type = match self {
            Self::JavaScript => SourceType::mjs(),
            Self::TypeScript => SourceType::ts(),
            Self::Tsx => SourceType::tsx(),
            Self::Jsx => SourceType::jsx(),
        };
        source_type.with_module(module).with_script(!module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_of_a_path_determines_the_language() {
        let of = |path: &str| Language::from_path(Path::new(path));
        assert_eq!(of("a/b.ts"), Some(Language::TypeScript));
        assert_eq!(of("a.d.MTS"), Some(Language::TypeScript));
        assert_eq!(of("a.tsx"), Some(Language::Tsx));
        assert_eq!(of("a.jsx"), Some(Language::Jsx));
        assert_eq!(of("a.cjs"), Some(Language::JavaScript));
        assert_eq!(of("a.json"), None);
        assert_eq!(of("ts"), None);
    }
}
