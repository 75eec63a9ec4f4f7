//! The reference in `docs/config.md`, made from the tables; and whether the reader asks for all of them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::config::{Config, TOP};
use crate::fields::ASKED;
use crate::keys::{Key, Kind, Preset, Section};

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
    let mut out: Vec<&'static Section> = vec![&TOP];
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
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Words(words) => words.iter().map(|w| code(w)).collect::<Vec<_>>().join(", "),
        Kind::Size(..) => kind.allowed().replace(
            "a size with its unit, as 512mb, 64 MiB or 1gb (powers of 1024), from",
            "size,",
        ),
        Kind::Time(..) => kind.allowed().replace(
            "a time with its unit, as 30s, 500ms or 1m30s, from",
            "time,",
        ),
        Kind::Whole(min, max) => format!("whole number, {min} to {max}"),
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
    match key.default {
        Preset::Needed => "must be there".to_owned(),
        Preset::Nothing if key.takes_none() => "`none`".to_owned(),
        Preset::Nothing => String::new(),
        Preset::Is(text) => format!("`{text}`"),
        Preset::Derived(words) => words.to_owned(),
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
            writeln!(
                out,
                "| `{}` | {} | {} | {}{} |",
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
        "run this test with UPDATE=1, then look at the difference"
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

/// A file in which every section is there, so that a key nobody reads shows.
const ALL: &str = r#"
version: "1.0"
tls:
  certificates: [{cert: a, key: b}]
  client_auth: {mode: optional, ca: [a]}
  acme: {enabled: true, accept_terms: true}
listeners: [{address: "127.0.0.1:8443", tls: {certificates: [{cert: a, key: b}]}}]
network: {}
security: {wx_policy: {strict: true}}
scaling: {mirrors: 1}
defaults: {limits: {}}
metrics: {listen: "127.0.0.1:1"}
logging: {access: {}, console: {}, redact: {}}
instances:
  web:
    code: a.ts
    assets: {folder: a}
    bindings: {a: {instance: web}}
    secrets: {A: {file: a}, B: {variable: A}}
    state: {}
    files: [{path: a}]
    autoscale: {}
    recycle: {}
    data_guard: {rules: [{hosts: [a.b]}]}
"#;

#[test]
fn every_key_of_the_tables_is_read() {
    ASKED.with_borrow_mut(BTreeSet::clear);
    Config::parse(ALL, "a.yaml", Path::new("/")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let short = "version: \"1.0\"\ninstance: {}\n\
                 tls: {cert_path: a, key_path: b, enable_mtls: true, client_ca_path: c}\n";
    Config::parse(short, "a.yaml", Path::new("/")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let asked = ASKED.with_borrow(BTreeSet::clone);
    for section in sections() {
        // Its keys are read as those of an instance.
        if section.name == "defaults" {
            continue;
        }
        for key in section.keys {
            assert!(
                asked.contains(&(section.name, key.name)),
                "nobody reads {} of {}",
                key.name,
                section.name
            );
        }
    }
}
