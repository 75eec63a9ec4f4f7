//! The reference in `docs/config.md`, made from the declarations of keys.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::config::Config;
use crate::keys::{Key, Kind, Presence, Section};
use crate::section::Record;

const BEGIN: &str = "<!-- The rest is made from the tables of crates/stockade-config. -->\n";

/// Every section, each once, the outer ones first.
fn sections() -> Vec<&'static Section> {
    fn inner(kind: &'static Kind, out: &mut Vec<&'static Section>) {
        match kind {
            Kind::Section(section) if !out.iter().any(|known| known.name == section.name) => {
                out.push(section);
            }
            Kind::List(kind) | Kind::Map(_, kind) => inner(kind, out),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| inner(kind, out)),
            _ => {}
        }
    }
    let mut out: Vec<&'static Section> = vec![Config::SECTION];
    let mut next = 0;
    while let Some(section) = out.get(next).copied() {
        section
            .keys
            .iter()
            .for_each(|key| inner(&key.kind, &mut out));
        next += 1;
    }
    out
}

fn value(kind: &Kind) -> String {
    let code = |text: &str| format!("`{text}`");
    match kind {
        Kind::Bool => "`true` or `false`".to_owned(),
        Kind::Enum(words) => words.iter().map(|w| code(w)).collect::<Vec<_>>().join(", "),
        Kind::Size(..) => kind.allowed().replace(
            "a size with its unit, as 512mb, 64 MiB or 1gb (powers of 1024), from",
            "size,",
        ),
        Kind::Time(..) => kind.allowed().replace(
            "a time with its unit, as 30s, 500ms or 1m30s, from",
            "time,",
        ),
        Kind::Integer(min, max) => format!("whole number, {min} to {max}"),
        Kind::Number(min, max) => format!("number, {min} to {max}"),
        Kind::Text(format) if format.expect.is_some() => "path".to_owned(),
        Kind::Text(format) => format.what.to_owned(),
        Kind::Any => "any value".to_owned(),
        Kind::Section(section) => format!("[{0}](#{0})", section.name),
        Kind::List(inner) => format!("list: {}", value(inner)),
        Kind::Map(_, inner) => format!("names to values: {}", value(inner)),
        Kind::Either(kinds) => kinds.iter().map(value).collect::<Vec<_>>().join("; or "),
    }
}

fn default(key: &Key) -> String {
    match key.presence {
        Presence::Required => "must be there".to_owned(),
        Presence::Optional if key.takes_none() => "`none`".to_owned(),
        Presence::Optional => String::new(),
        Presence::Default(text) => format!("`{text}`"),
        Presence::Derived(words) => words.to_owned(),
    }
}

fn reference() -> String {
    let cell = |text: String| text.replace('|', "\\|");
    let mut out = String::new();
    for section in sections() {
        writeln!(out, "\n### {}\n\n{}\n", section.name, section.doc).unwrap();
        out += "| key | value | default | |\n|---|---|---|---|\n";
        for key in section.keys {
            let examples: Vec<_> = key.examples.iter().map(|e| format!("`{e}`")).collect();
            let examples = match examples.as_slice() {
                [] => String::new(),
                all => format!(" As {}.", all.join(", ")),
            };
            let old = key.old_name.map_or_else(String::new, |old| {
                format!(" The old name `{old}` works too, with a warning.")
            });
            writeln!(
                out,
                "| `{}` | {} | {} | {}{}{old} |",
                key.name,
                cell(value(&key.kind)),
                cell(default(key)),
                cell(key.doc.to_owned()),
                cell(examples)
            )
            .unwrap();
        }
    }
    out
}

/// `UPDATE=1` writes it.
#[test]
fn reference_in_docs_is_made_from_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once(BEGIN).unwrap();
    let now = format!("{before}{BEGIN}{}", reference());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &now).unwrap();
        return;
    }
    assert!(
        now == text,
        "run this test with UPDATE=1, then review the difference"
    );
}

#[test]
fn tables_have_each_name_once_and_say_what_keys_are() {
    let mut names = BTreeSet::new();
    for section in sections() {
        assert!(
            names.insert(section.name),
            "{} is there twice",
            section.name
        );
        let mut keys = BTreeSet::new();
        for key in section.keys {
            assert!(keys.insert(key.name), "{}.{}", section.name, key.name);
            assert!(key.doc.ends_with('.'), "{}.{}", section.name, key.name);
        }
    }
    assert!(names.len() > 20, "{names:?}");
}
