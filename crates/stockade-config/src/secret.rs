//! Secrets: where they come from, and those of grants, which stay with the host.

use std::fmt;
use std::path::PathBuf;

use crate::fields::Fields;
use crate::keys::{Expect, Key, Kind, SECRET_FILE, VARIABLE, text};
use crate::section::{Record, section};
use crate::tree::{Message, Use};

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file; one line end at its end does not belong to the secret.
    File(PathBuf),
    /// An environment variable of the supervisor.
    Variable(String),
    /// The program that made the grant.
    Given,
}

/// A secret's text, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

section! {
    /// A secret of a grant, from `file` or from `variable`. It stays with the supervisor:
    /// no guest receives it.
    pub struct SecretRef "secret_ref" {
        /// A file that contains the secret, at most 64 KiB of text. One line break at
        /// its end is removed.
        key "file" = text(SECRET_FILE),
        /// An environment variable of the supervisor.
        key "variable" = text(VARIABLE),
        /// Where it comes from.
        pub source: SecretSource => source,
        /// The secret, where it was read.
        pub value: Option<SecretText> => |_| None,
    }
}

impl SecretRef {
    /// A key whose value is a secret.
    pub(crate) const fn key() -> Key {
        Key::of(Kind::Section(Self::SECTION))
    }

    /// The secret itself; empty where it was not read, which [`Config::load`](crate::Config::load) and
    /// [`parse_grants`](crate::parse_grants) make an error.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.value.as_ref().map_or("", SecretText::reveal)
    }

    /// Reads a key of a grant that is a secret. Plain text is for hosts that are programs, and refused in files.
    pub(crate) fn of(grant: &Fields<'_>, name: &str) -> Option<Self> {
        let Some(found) = grant.find(name) else {
            if grant.is_required(name) {
                grant.missing(name);
            }
            return None;
        };
        let reader = grant.reader();
        if let Some(text) = found.node.text() {
            reader.source.hide(found.node.span);
            if reader.plain_secrets {
                return Some(Self {
                    source: SecretSource::Given,
                    value: Some(SecretText::new(text.to_owned())),
                });
            }
            let what = "a secret must not be written in this file";
            let allowed = "{file: path} or {variable: NAME}";
            reader.refuse(&found, Message::allowed(what, allowed));
            return None;
        }
        let section = Fields::new(reader, Self::SECTION, &found)?;
        if !(section.has("file") ^ section.has("variable")) {
            let what = "a secret comes from one place";
            let allowed = "either file: or variable:";
            reader.refuse(&found, Message::allowed(what, allowed));
            return None;
        }
        Some(Self::read(&section))
    }

    /// The path of its file.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        match &self.source {
            SecretSource::File(path) => Some(path),
            _ => None,
        }
    }
}

/// Reads `file` or `variable` of a section.
pub(crate) fn source(secret: &Fields<'_>) -> SecretSource {
    let (file, variable): (Option<PathBuf>, Option<String>) =
        (secret.get("file"), secret.get("variable"));
    if let Some(file) = file {
        return SecretSource::File(file);
    }
    let variable = variable.unwrap_or_default();
    if let Some(at) = secret.find("variable") {
        secret.reader().source.use_of(Use {
            expect: Expect::Variable,
            subject: variable.clone().into(),
            span: at.node.span,
            path: at.path,
        });
    }
    SecretSource::Variable(variable)
}
