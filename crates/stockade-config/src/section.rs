//! `section!` and `words!`: the one place where a key of the file is declared.
//!
//! A declaration has the key's name, the type that its value becomes, the values that are allowed, what holds
//! without the key, and its documentation. The field of the configuration, the reader, the JSON Schema and the row
//! in `docs/config.md` are made from it.

use crate::fields::Fields;
use crate::keys::{Kind, Section};
use crate::reader::{Located, Reader};

/// A type that a section becomes; `section!` implements it.
pub(crate) trait Record: Sized {
    /// The keys of the section.
    const SECTION: &'static Section;
    /// The kind of a value that is this section.
    const KIND: Kind = Kind::Section(Self::SECTION);

    /// Reads every key, and reports what is wrong with them.
    fn read(fields: &Fields<'_>) -> Self;
}

/// A type that a key becomes, from the nearest layer that has the key.
pub(crate) trait Setting: Sized {
    /// Reads the key, and reports what is wrong with it. A value that is wrong becomes the default, so that
    /// reading goes on; the diagnostic keeps the configuration from being used.
    fn setting(fields: &Fields<'_>, name: &str) -> Self;
}

/// A type that a single value becomes.
pub(crate) trait Parse: Sized {
    /// Reads the value, and reports one that is not of this kind.
    fn parse<'a>(reader: Reader<'a>, value: &Located<'a>, kind: &Kind) -> Option<Self>;
}

/// Declares a section of the file and the type that it becomes.
///
/// ```ignore
/// section! {
///     /// What the section is for. Documentation comments are the text of `docs/config.md` too.
///     pub struct Recycle "recycle" {
///         /// A field and its key, which have one name.
///         pub age: Option<Duration> = time(1000, 3_600_000).default("1h"),
///         /// A key whose value is read by a function of the section's fields.
///         pub index: String = text(TEXT).default("index.html") => index,
///         /// A key without a field: functions of other fields read it.
///         key "mirrors" = integer(1, 1000).default("1"),
///         /// A field without a key: the function makes it from several keys.
///         pub scaling: Scaling => scaling,
///     }
/// }
/// ```
macro_rules! section {
    // Where a declaration begins. `fields` is what the generated reader calls its parameter; it is passed on, since
    // each step of a macro has names of its own.
    ($(#[doc = $doc:literal])+ $vis:vis struct $Type:ident $name:literal { $($entries:tt)* }) => {
        $crate::section::section! { @step fields [$(#[doc = $doc])+ $vis $Type $name] {} {} {} $($entries)* }
    };
    // Each step moves one entry into the fields of the type, the keys of the section and the reader of the fields.
    // A field and its key.
    (@step $fields:ident $head:tt { $($field:tt)* } { $($key:tt)* } { $($read:tt)* }
        $(#[doc = $doc:literal])+ pub $name:ident: $ty:ty = $form:expr $(=> $by:expr)?, $($rest:tt)*) => {
        $crate::section::section! { @step $fields $head
            { $($field)* $(#[doc = $doc])+ pub $name: $ty, }
            { $($key)* $form.named(stringify!($name), concat!($($doc),+)), }
            { $($read)* $name: $crate::section::section!(@read $fields, stringify!($name), $ty $(, $by)?), }
            $($rest)*
        }
    };
    // A key without a field.
    (@step $fields:ident $head:tt { $($field:tt)* } { $($key:tt)* } { $($read:tt)* }
        $(#[doc = $doc:literal])+ key $name:literal = $form:expr, $($rest:tt)*) => {
        $crate::section::section! { @step $fields $head
            { $($field)* }
            { $($key)* $form.named($name, concat!($($doc),+)), }
            { $($read)* }
            $($rest)*
        }
    };
    // A field without a key.
    (@step $fields:ident $head:tt { $($field:tt)* } { $($key:tt)* } { $($read:tt)* }
        $(#[doc = $doc:literal])+ pub $name:ident: $ty:ty => $by:expr, $($rest:tt)*) => {
        $crate::section::section! { @step $fields $head
            { $($field)* $(#[doc = $doc])+ pub $name: $ty, }
            { $($key)* }
            { $($read)* $name: $crate::section::section!(@read $fields, stringify!($name), $ty, $by), }
            $($rest)*
        }
    };
    // The end.
    (@step $fields:ident [$(#[doc = $doc:literal])+ $vis:vis $Type:ident $name:literal]
        { $($field:tt)* } { $($key:tt)* } { $($read:tt)* }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $Type { $($field)* }

        impl $crate::section::Record for $Type {
            const SECTION: &'static $crate::keys::Section = &$crate::keys::Section {
                name: $name,
                doc: concat!($($doc),+).trim_ascii(),
                keys: &[$($key)*],
            };

            fn read($fields: &$crate::fields::Fields<'_>) -> Self {
                Self { $($read)* }
            }
        }
    };
    (@read $fields:ident, $name:expr, $ty:ty) => {
        <$ty as $crate::section::Setting>::setting($fields, $name)
    };
    (@read $fields:ident, $name:expr, $ty:ty, $by:expr) => {{
        let read: fn(&$crate::fields::Fields<'_>) -> $ty = $by;
        read($fields)
    }};
}

/// Declares an enum whose variants are words in the file, or gives the variants of another crate's enum their
/// words: `words! { impl Wx { Jit = "jit", Strict = "strict" } }`. The first one holds where a wrong word has no
/// default.
macro_rules! words {
    ($(#[$attr:meta])* pub enum $Type:ident { $($(#[$of:meta])* $Variant:ident = $word:literal,)+ }) => {
        $(#[$attr])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $Type { $($(#[$of])* $Variant,)+ }

        impl $Type {
            /// The word that stands for it in the file.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }
        }

        words! { impl $Type { $($Variant = $word,)+ } }
    };
    (impl $Type:ident { $($Variant:ident = $word:literal,)+ }) => {
        impl $crate::section::Words for $Type {
            const WORDS: &'static [&'static str] = &[$($word),+];
            const VALUES: &'static [Self] = &[$(Self::$Variant),+];
        }

        impl $crate::section::Parse for $Type {
            fn parse<'a>(
                reader: $crate::reader::Reader<'a>,
                value: &$crate::reader::Located<'a>,
                kind: &$crate::keys::Kind,
            ) -> Option<Self> {
                reader.word(value, kind, <Self as $crate::section::Words>::WORDS, <Self as $crate::section::Words>::VALUES)
            }
        }

        impl $crate::section::Setting for $Type {
            fn setting(fields: &$crate::fields::Fields<'_>, name: &str) -> Self {
                let [first, ..] = [$(Self::$Variant),+];
                Option::setting(fields, name).unwrap_or(first)
            }
        }
    };
}

pub(crate) use {section, words};

/// An enum whose variants are words in the file; `words!` implements it.
pub(crate) trait Words: Copy + 'static {
    const WORDS: &'static [&'static str];
    /// What the words stand for, in their order.
    const VALUES: &'static [Self];
    const KIND: Kind = Kind::Enum(Self::WORDS);
}

impl Fields<'_> {
    /// The value of a key, or its default.
    pub(crate) fn get<T: Setting>(&self, name: &str) -> T {
        T::setting(self, name)
    }
}

impl<T: Record> Setting for T {
    fn setting(fields: &Fields<'_>, name: &str) -> Self {
        Self::read(&fields.section(name))
    }
}

impl<T: Record> Parse for T {
    fn parse<'a>(reader: Reader<'a>, value: &Located<'a>, _: &Kind) -> Option<Self> {
        Fields::new(reader, Self::SECTION, value).map(|fields| Self::read(&fields))
    }
}

impl<T: Parse> Setting for Option<T> {
    fn setting(fields: &Fields<'_>, name: &str) -> Self {
        fields.value(name, T::parse)
    }
}

impl<T: Parse> Setting for Vec<T> {
    fn setting(fields: &Fields<'_>, name: &str) -> Self {
        fields.items(name, T::parse)
    }
}
