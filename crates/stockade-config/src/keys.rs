//! What a key is: its name, its kind, what holds without it, and its documentation.
//!
//! `section!` makes a table of keys for each section. The reader rejects keys that are in no table, and takes
//! defaults and ranges from the table; the JSON Schema and `docs/config.md` are made from the same tables.

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
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
    pub(crate) doc: &'static str,
    /// Values to show, as they would stand in the file.
    pub(crate) examples: &'static [&'static str],
    /// The name that the key had before; it still works, with a warning.
    pub(crate) old_name: Option<&'static str>,
    /// Whether a list that is there must have an entry: where a list that is not there allows everything, an empty
    /// one must not.
    pub(crate) nonempty: bool,
    /// Whether `defaults` may have this key of an instance.
    shared: bool,
}

/// Whether a key must be there, and what holds where it is not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    /// Without the key there is no limit, no feature. `none` says so where a wider default is to be undone.
    Optional,
    /// This value holds, as it would stand in the file.
    Default(&'static str),
    /// What holds depends on other keys, in these words.
    Derived(&'static str),
}

/// What a value may be.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Bool,
    /// Any JSON value.
    Any,
    Integer(u64, u64),
    Number(f64, f64),
    /// Bytes.
    Size(u64, u64),
    /// Milliseconds.
    Time(u64, u64),
    Enum(&'static [&'static str]),
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
    /// A directory.
    Folder,
    /// A module, or a directory with one.
    Code,
    /// Nothing yet; the directory it will be in.
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

    /// The key that had this name before.
    pub(crate) fn renamed(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.old_name == Some(name))
    }

    /// One of its keys, for the table of another section. A name that is in no table is an error of compilation.
    pub(crate) const fn take(&self, name: &str) -> Key {
        let mut at = 0;
        while !same(self.keys[at].name, name) {
            at += 1;
        }
        self.keys[at]
    }

    /// How many keys `defaults` may have too.
    pub(crate) const fn count_shared(&self) -> usize {
        let (mut at, mut count) = (0, 0);
        while at < self.keys.len() {
            count += self.keys[at].shared as usize;
            at += 1;
        }
        count
    }

    /// The keys that `defaults` may have too, of which there are `N`.
    pub(crate) const fn shared<const N: usize>(&self) -> [Key; N] {
        let mut out = [self.keys[0]; N];
        let (mut at, mut count) = (0, 0);
        while at < self.keys.len() {
            if self.keys[at].shared {
                out[count] = self.keys[at];
                count += 1;
            }
            at += 1;
        }
        out
    }
}

/// `==` of text, which no constant has yet.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

pub(crate) const fn boolean() -> Key {
    Key::of(Kind::Bool)
}

pub(crate) const fn integer(min: u64, max: u64) -> Key {
    Key::of(Kind::Integer(min, max))
}

pub(crate) const fn number(min: f64, max: f64) -> Key {
    Key::of(Kind::Number(min, max))
}

/// Bytes.
pub(crate) const fn size(min: u64, max: u64) -> Key {
    Key::of(Kind::Size(min, max))
}

/// A time between these milliseconds.
pub(crate) const fn time(min: u64, max: u64) -> Key {
    Key::of(Kind::Time(min, max))
}

pub(crate) const fn text(format: Format) -> Key {
    Key::of(Kind::Text(format))
}

pub(crate) const fn list(kind: &'static Kind) -> Key {
    Key::of(Kind::List(kind))
}

pub(crate) const fn map(names: Format, kind: &'static Kind) -> Key {
    Key::of(Kind::Map(names, kind))
}

pub(crate) const fn either(kinds: &'static [Kind]) -> Key {
    Key::of(Kind::Either(kinds))
}

impl Key {
    /// A key of this kind that need not be there.
    pub(crate) const fn of(kind: Kind) -> Self {
        Self {
            name: "",
            kind,
            presence: Presence::Optional,
            doc: "",
            examples: &[],
            old_name: None,
            nonempty: false,
            shared: false,
        }
    }

    pub(crate) const fn required(mut self) -> Self {
        self.presence = Presence::Required;
        self
    }

    /// What holds without the key, as it would stand in the file.
    pub(crate) const fn default(mut self, text: &'static str) -> Self {
        self.presence = Presence::Default(text);
        self
    }

    /// What holds without the key, in words.
    pub(crate) const fn derived(mut self, words: &'static str) -> Self {
        self.presence = Presence::Derived(words);
        self
    }

    /// Values to show.
    pub(crate) const fn like(mut self, examples: &'static [&'static str]) -> Self {
        self.examples = examples;
        self
    }

    /// The name that the key had before.
    pub(crate) const fn formerly(mut self, name: &'static str) -> Self {
        self.old_name = Some(name);
        self
    }

    /// A list that must have an entry where it is there.
    pub(crate) const fn nonempty(mut self) -> Self {
        self.nonempty = true;
        self
    }

    /// A key of an instance that `defaults` may have too.
    pub(crate) const fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// This key with its name and the text of its documentation comment.
    pub(crate) const fn named(mut self, name: &'static str, doc: &'static str) -> Self {
        self.name = name;
        self.doc = doc.trim_ascii();
        self
    }

    /// Whether `none` may stand for it.
    pub(crate) fn takes_none(&self) -> bool {
        self.presence == Presence::Optional
            && matches!(
                self.kind,
                Kind::Integer(..) | Kind::Number(..) | Kind::Size(..) | Kind::Time(..)
            )
    }
}
impl Kind {
    /// What is allowed, in words.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Any => "any value".to_owned(),
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
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
            Self::Enum(words) => join(words),
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
