//! What a table of keys is made of.
//!
//! Each section of the file has one table, beside the type that it becomes. The reader refuses keys that
//! are in none, and takes defaults and ranges from here; the JSON Schema and `docs/config.md` are made
//! from the same tables.

use std::time::Duration;

use crate::units::{show_size, show_time};

/// A mapping whose keys are known.
pub(crate) struct Section {
    /// Its name in the schema and in the reference.
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
}

/// One key of a section.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What holds where the key is not there; text as it would stand in the file.
    pub(crate) default: Preset,
    pub(crate) doc: &'static str,
    /// Values to show, as they would stand in the file.
    pub(crate) examples: &'static [&'static str],
}

/// What holds where a key is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    /// It must be there.
    Needed,
    /// Nothing: no limit, no feature. `none` says so where a wider default is to be undone.
    Nothing,
    /// This, as it would stand in the file.
    Is(&'static str),
    /// Something that depends on other keys, in words.
    Derived(&'static str),
}

/// What a value may be.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Flag,
    /// Any JSON value.
    Any,
    Whole(u64, u64),
    Number(f64, f64),
    /// Bytes.
    Size(u64, u64),
    /// Milliseconds.
    Time(u64, u64),
    Words(&'static [&'static str]),
    Text(Format),
    Section(&'static Section),
    List(&'static Kind),
    /// Names to values.
    Map(Format, &'static Kind),
    /// The first kind that fits.
    Either(&'static [Kind]),
}

/// A kind of text: what it is called, an expression every such text matches, an example.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    pub(crate) what: &'static str,
    pub(crate) pattern: Option<&'static str>,
    /// What must be there where the text is a path.
    pub(crate) expect: Option<Expect>,
}

/// What must be at a path, or in the environment, before the file can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A file that can be read.
    File,
    /// A file with a secret.
    Secret,
    /// An environment variable.
    Variable,
    /// A folder.
    Folder,
    /// A module, or a folder with one.
    Code,
    /// Nothing yet; the folder it will be in.
    Parent,
}

/// Any text that is not empty.
pub(crate) const TEXT: Format = Format {
    what: "text",
    pattern: Some(r"\S"),
    expect: None,
};
/// A file that is there.
pub(crate) const FILE: Format = path(Expect::File);
/// A file with a secret.
pub(crate) const SECRET_FILE: Format = path(Expect::Secret);
/// A folder that is there.
pub(crate) const FOLDER: Format = path(Expect::Folder);
/// A module, or a folder with one.
pub(crate) const CODE: Format = path(Expect::Code);
/// A file or folder that is made where it is not there.
pub(crate) const NEW: Format = path(Expect::Parent);

const fn path(expect: Expect) -> Format {
    Format {
        what: "a path; a relative one begins at the folder of this file",
        pattern: Some(r"\S"),
        expect: Some(expect),
    }
}

/// A socket address.
pub(crate) const ADDRESS: Format = Format {
    what: "an IP address and a port, as 127.0.0.1:8080 or [::1]:8080",
    pattern: Some(r"^(\[[0-9a-fA-F:.%]+\]|[0-9.]+):[0-9]{1,5}$"),
    expect: None,
};
/// A network.
pub(crate) const NETWORK: Format = Format {
    what: "a network or an address, as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7",
    pattern: Some(r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"),
    expect: None,
};
/// A URL pattern.
pub(crate) const URL: Format = Format {
    what: "a host, a path or both, as https://a.example.com, *.example.com/api/* or /path",
    pattern: Some(r"^\S+$"),
    expect: None,
};
/// A cron expression.
pub(crate) const CRON: Format = Format {
    what: "five fields (minute, hour, day of month, month, day of week), UTC, as \"*/5 * * * *\"",
    pattern: Some(r"^\s*\S+(\s+\S+){4}\s*$"),
    expect: None,
};
/// A name in `env`.
pub(crate) const VARIABLE: Format = Format {
    what: "a name of letters, digits and _, not beginning with a digit, at most 128 long",
    pattern: Some(r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"),
    expect: None,
};
/// An instance's name.
pub(crate) const INSTANCE_NAME: Format = Format {
    what: "a name of lower case letters, digits and hyphens, beginning with a letter, at most 63 long",
    pattern: Some(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"),
    expect: None,
};
/// A header's name.
pub(crate) const HEADER: Format = Format {
    what: "the name of a header",
    pattern: Some(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
    expect: None,
};
/// A host name, maybe with a wildcard.
pub(crate) const HOST: Format = Format {
    what: "a host name, as api.example.com or *.example.com",
    pattern: Some(r"^\S+$"),
    expect: None,
};
/// An entry of an allow-list.
pub(crate) const TARGET: Format = Format {
    what: "a host or network, maybe with scheme and port, as api.example.com, *.example.org:443 or 10.0.0.0/8:5432",
    pattern: Some(r"^\S+$"),
    expect: None,
};
/// A port or a range.
pub(crate) const PORTS: Format = Format {
    what: "a port or a range, as 443 or 8000-8999",
    pattern: Some(r"^[0-9]{1,5}(-[0-9]{1,5})?$"),
    expect: None,
};
/// A method.
pub(crate) const METHOD: Format = Format {
    what: "a method, as GET",
    pattern: Some(r"^[A-Za-z-]+$"),
    expect: None,
};

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    /// A key that must be there.
    pub(crate) const fn needed(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self::new(name, kind, Preset::Needed, doc)
    }

    /// A key that means nothing where it is not there.
    pub(crate) const fn maybe(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self::new(name, kind, Preset::Nothing, doc)
    }

    /// A key with a default.
    pub(crate) const fn with(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self::new(name, kind, Preset::Is(default), doc)
    }

    /// A key whose default depends on other keys.
    pub(crate) const fn derived(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self::new(name, kind, Preset::Derived(default), doc)
    }

    const fn new(name: &'static str, kind: Kind, default: Preset, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            default,
            doc,
            examples: &[],
        }
    }

    /// The same with values to show.
    pub(crate) const fn like(mut self, examples: &'static [&'static str]) -> Self {
        self.examples = examples;
        self
    }

    /// Whether `none` may stand for it.
    pub(crate) fn takes_none(&self) -> bool {
        self.default == Preset::Nothing
            && matches!(
                self.kind,
                Kind::Whole(..) | Kind::Number(..) | Kind::Size(..) | Kind::Time(..)
            )
    }
}

impl Kind {
    /// What is allowed, in words.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Any => "any value".to_owned(),
            Self::Whole(min, max) => format!("a whole number from {min} to {max}"),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::Size(min, max) => format!(
                "a size with its unit, as 512mb, 64 MiB or 1gb (powers of 1024), from {} to {}",
                show_size(*min),
                show_size(*max)
            ),
            Self::Time(min, max) => format!(
                "a time with its unit, as 30s, 500ms or 1m30s, from {} to {}",
                show_time(Duration::from_millis(*min)),
                show_time(Duration::from_millis(*max))
            ),
            Self::Words(words) => join(words),
            Self::Text(format) => format.what.to_owned(),
            Self::Section(section) => {
                let keys: Vec<_> = section.keys.iter().map(|key| key.name).collect();
                format!("a mapping with the keys {}", keys.join(", "))
            }
            Self::List(kind) => format!("a list, each entry {}", kind.allowed()),
            Self::Map(name, kind) => {
                format!(
                    "a mapping, each key {}, each value {}",
                    name.what,
                    kind.allowed()
                )
            }
            Self::Either(kinds) => {
                let all: Vec<_> = kinds.iter().map(Self::allowed).collect();
                all.join("; or ")
            }
        }
    }
}

/// `a, b or c`
pub(crate) fn join(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
