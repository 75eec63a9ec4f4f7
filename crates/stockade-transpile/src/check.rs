//! What is wrong with a guest's modules that can be found without running them: code that does not compile, and
//! imports of what is not there.
//!
//! Followed is what the module that runs first leads to by `import` and `export … from`. What only `import()`
//! asks for may be meant to fail. Where something is not known, nothing is said.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use oxc::allocator::Allocator;
use oxc::diagnostics::Severity;
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::Span;
use oxc::syntax::module_record::{
    ExportExportName, ExportImportName, ImportImportName, ModuleRecord,
};

use crate::compile::{MAX_SOURCE_BYTES, Options, transpile};
use crate::confine::confined;
use crate::error::TranspileError;
use crate::files::{ModuleFiles, Resolved, resolve};
use crate::language::Language;
use crate::{measure, weigh};

/// Errors that are found, at most: each names its place, for which its source is read again.
const MAX_ERRORS: usize = 100;

/// Modules that are looked into for names that others import, at most, each as often as it is. What is imported beyond that
/// is not known.
const MAX_LOOKS: usize = 1_000_000;

/// One thing that is wrong with a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}:{}: {message}{}", .at.specifier, .at.line, .at.column, shown(.at))]
pub struct ModuleError {
    /// What.
    pub message: String,
    /// Where.
    pub at: Box<TranspileError>,
}

/// The lines of an excerpt, below a message.
fn shown(at: &TranspileError) -> String {
    at.excerpt.as_ref().map_or_else(String::new, |excerpt| {
        excerpt
            .lines()
            .map(|line| format!("\n    {line}"))
            .collect()
    })
}

/// Names that a module asks another one for, and where.
type Wanted = Vec<(String, Want, Span)>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
enum Want {
    /// The module itself.
    #[default]
    Module,
    Export(String),
}

/// What a module gives and wants when it runs.
#[derive(Default)]
struct Facts {
    wanted: Wanted,
    exports: BTreeSet<String>,
    /// Modules all of whose exports are its own, too.
    all_of: Vec<String>,
}

impl ModuleFiles {
    /// What is wrong with these modules. `known` are names besides theirs that may be imported.
    #[must_use]
    pub fn errors(&self, known: &[&str]) -> Vec<ModuleError> {
        let mut checker = Checker {
            files: self,
            facts: BTreeMap::new(),
            errors: Vec::new(),
            looks: Cell::new(0),
        };
        let mut left = vec![self.entry.clone()];
        while let Some(module) = left.pop() {
            if checker.facts.contains_key(&module) {
                continue;
            }
            let facts = checker.look_at(&module);
            if let Some(facts) = &facts {
                let names = facts.wanted.iter().map(|(specifier, ..)| specifier);
                left.extend(names.filter_map(|specifier| checker.find(&module, specifier)));
            }
            checker.facts.insert(module, facts);
        }
        checker.check_imports(known);
        checker.errors
    }
}

struct Checker<'a> {
    files: &'a ModuleFiles,
    /// By module; `None` where they are not known.
    facts: BTreeMap<String, Option<Facts>>,
    errors: Vec<ModuleError>,
    /// Modules that were looked into for names.
    looks: Cell<usize>,
}

impl Checker<'_> {
    fn source(&self, module: &str) -> &str {
        self.files.modules.get(module).map_or("", String::as_str)
    }

    /// The module that a specifier means, if it is there.
    fn find(&self, importer: &str, specifier: &str) -> Option<String> {
        match resolve(importer, specifier) {
            Resolved::Name(name) => self.files.modules.contains_key(&name).then_some(name),
            Resolved::Outside | Resolved::Other => None,
        }
    }

    fn report(&mut self, module: &str, byte: usize, message: String) {
        if self.errors.len() >= MAX_ERRORS {
            return;
        }
        let at = TranspileError::at_byte(self.source(module), module, byte, message.clone());
        self.errors.push(ModuleError {
            message,
            at: Box::new(at),
        });
    }

    /// Compiles a module and takes its facts.
    fn look_at(&mut self, module: &str) -> Option<Facts> {
        let source = self.source(module);
        if module.ends_with(".json") {
            return self.look_at_json(module);
        }
        let language = Language::from_path(Path::new(module)).unwrap_or(Language::TypeScript);
        let options = Options {
            specifier: module,
            language,
            module: true,
        };
        let looked = transpile(source, &options).and_then(|done| {
            let running = parse(&done.code, module, Language::JavaScript)?;
            // Positions are those of the source, which holds what runs and more.
            match (running, language) {
                (running, Language::JavaScript) => Ok(running),
                (Some(running), _) => Ok(Some(placed(running, parse(source, module, language)?))),
                (None, _) => Ok(None),
            }
        });
        match looked {
            Ok(facts) => facts,
            Err(error) => {
                self.errors.push(ModuleError {
                    message: format!("SyntaxError: {}", error.message),
                    at: Box::new(error),
                });
                None
            }
        }
    }

    fn look_at_json(&mut self, module: &str) -> Option<Facts> {
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(self.source(module)) {
            let before = self
                .source(module)
                .lines()
                .take(error.line().saturating_sub(1));
            let byte = before.map(|line| line.len() + 1).sum::<usize>() + error.column();
            self.report(
                module,
                byte.saturating_sub(1),
                format!("it is not JSON: {error}"),
            );
            return None;
        }
        Some(Facts {
            exports: BTreeSet::from(["default".to_owned()]),
            ..Facts::default()
        })
    }

    fn check_imports(&mut self, known: &[&str]) {
        let mut wrong = Vec::new();
        for (module, facts) in &self.facts {
            let wanted = facts.iter().flat_map(|facts| &facts.wanted);
            let mut missing = BTreeSet::new();
            for (specifier, want, span) in wanted {
                let byte = span.start as usize;
                if known.contains(&specifier.as_str()) {
                    continue;
                }
                let Some(found) = self.find(module, specifier) else {
                    if missing.insert(specifier) {
                        wrong.push((module.clone(), byte, self.not_there(module, specifier)));
                    }
                    continue;
                };
                if let Want::Export(name) = want
                    && self.exports(&found, name, &mut BTreeSet::new()) == Some(false)
                {
                    let message = format!("'{specifier}' has no export named '{name}'");
                    wrong.push((module.clone(), byte, message));
                }
            }
        }
        wrong.sort();
        for (module, byte, message) in wrong {
            self.report(&module, byte, message);
        }
    }

    /// Why there is nothing to import, and what to do.
    fn not_there(&self, importer: &str, specifier: &str) -> String {
        let why = match resolve(importer, specifier) {
            Resolved::Name(name) => match self.similar(&name, specifier) {
                Some(similar) => format!("no such file; did you mean '{similar}'?"),
                None => "no such file".to_owned(),
            },
            Resolved::Outside => "it lies outside of the folder of the code".to_owned(),
            Resolved::Other => {
                "guests import files of their own folder alone; bundle packages first".to_owned()
            }
        };
        format!("cannot import '{specifier}': {why}")
    }

    /// The specifier with the ending that a file has.
    fn similar(&self, name: &str, specifier: &str) -> Option<String> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let cut = specifier
            .get(..specifier.len().saturating_sub(name.len() - stem.len()))
            .unwrap_or(specifier);
        let names = self.files.modules.keys();
        names.into_iter().find_map(|there| {
            let (rest, start) = match there.strip_prefix(name) {
                Some(rest) => (rest, specifier),
                None => (there.strip_prefix(stem)?, cut),
            };
            (rest.starts_with('.') && !rest.contains('/')).then(|| format!("{start}{rest}"))
        })
    }

    /// Whether a module exports a name; `None` where that is not known.
    fn exports(&self, module: &str, name: &str, seen: &mut BTreeSet<String>) -> Option<bool> {
        self.looks.set(self.looks.get() + 1);
        if self.looks.get() > MAX_LOOKS {
            return None;
        }
        if !seen.insert(module.to_owned()) {
            return Some(false);
        }
        let facts = self.facts.get(module)?.as_ref()?;
        if facts.exports.contains(name) {
            return Some(true);
        }
        if name == "default" {
            return Some(false);
        }
        for specifier in &facts.all_of {
            let found = self.find(module, specifier)?;
            if self.exports(&found, name, seen)? {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// The facts of a source that compiles; none where it is beyond the bounds of what is parsed.
fn parse(source: &str, module: &str, language: Language) -> Result<Option<Facts>, TranspileError> {
    if source.len() > MAX_SOURCE_BYTES {
        return Ok(None);
    }
    let Ok(weight) = weigh::weigh(source, language.has_jsx()) else {
        return Ok(None);
    };
    let stack = weight.levels.saturating_mul(weigh::BYTES_PER_LEVEL);
    confined(stack, || parse_confined(source, module, language)).unwrap_or(Ok(None))
}

fn parse_confined(
    source: &str,
    module: &str,
    language: Language,
) -> Result<Option<Facts>, TranspileError> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, language.source_type(true)).parse();
    let mut first = (parsed.diagnostics.iter()).find(|found| found.severity == Severity::Error);
    let scopes;
    if first.is_none() {
        if measure::measure(&parsed.program).is_err() {
            return Ok(None);
        }
        scopes = SemanticBuilder::new()
            .with_check_syntax_error(true)
            .build(&parsed.program);
        first = (scopes.diagnostics.iter()).find(|found| found.severity == Severity::Error);
        if first.is_none() {
            return Ok(Some(facts(&parsed.module_record)));
        }
    }
    let Some(error) = first else { return Ok(None) };
    let byte = (error.labels.first()).map_or(0, |label| label.offset() as usize);
    let message = error.message.to_string();
    Err(TranspileError::at_byte(source, module, byte, message))
}

fn facts(record: &ModuleRecord<'_>) -> Facts {
    let mut facts = Facts::default();
    for (specifier, requests) in &record.requested_modules {
        if let Some(request) = requests.iter().find(|request| !request.is_type) {
            let wanted = (specifier.to_string(), Want::Module, request.span);
            facts.wanted.push(wanted);
        }
    }
    for entry in record.import_entries.iter().filter(|entry| !entry.is_type) {
        let (name, span) = match &entry.import_name {
            ImportImportName::Name(name) => (name.name.to_string(), name.span),
            ImportImportName::Default(span) => ("default".to_owned(), *span),
            ImportImportName::NamespaceObject => continue,
        };
        let specifier = entry.module_request.name.to_string();
        facts.wanted.push((specifier, Want::Export(name), span));
    }
    let exported = (record.local_export_entries.iter()).chain(&record.indirect_export_entries);
    for entry in exported.filter(|entry| !entry.is_type) {
        match &entry.export_name {
            ExportExportName::Name(name) => facts.exports.insert(name.name.to_string()),
            ExportExportName::Default(_) => facts.exports.insert("default".to_owned()),
            ExportExportName::Null => false,
        };
        if let (Some(request), ExportImportName::Name(name)) =
            (&entry.module_request, &entry.import_name)
        {
            let want = Want::Export(name.name.to_string());
            facts
                .wanted
                .push((request.name.to_string(), want, name.span));
        }
    }
    let stars = record.star_export_entries.iter();
    facts.all_of = stars
        .filter(|entry| !entry.is_type)
        .filter_map(|entry| Some(entry.module_request.as_ref()?.name.to_string()))
        .collect();
    facts
}

/// What runs, at the places where the source has it.
fn placed(mut running: Facts, source: Option<Facts>) -> Facts {
    let mut places = HashMap::new();
    for (specifier, want, span) in source.map(|facts| facts.wanted).unwrap_or_default() {
        // The first place where it is wanted.
        places.entry((specifier, want)).or_insert(span);
    }
    for wanted in &mut running.wanted {
        let (specifier, want, _) = std::mem::take(wanted);
        let key = (specifier, want);
        let span = places.get(&key).copied().unwrap_or_default();
        *wanted = (key.0, key.1, span);
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(modules: &[(&str, &str)]) -> Vec<String> {
        let files = ModuleFiles {
            modules: modules
                .iter()
                .map(|(name, source)| ((*name).to_owned(), (*source).to_owned()))
                .collect(),
            entry: modules[0].0.to_owned(),
            folder: "/".into(),
        };
        let found = files.errors(&["cloudflare:workers"]);
        found
            .iter()
            .map(|error| error.to_string().lines().next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn errors_of_modules_that_work_are_none() {
        let found = errors(&[
            (
                "main.ts",
                "import { a, type T } from './a.ts'; import b, { c as d } from './b.js';
                 import data from './c.json' with { type: 'json' }; import * as all from './a.ts';
                 import { env } from 'cloudflare:workers'; import { Shape } from './a.ts';
                 export default { fetch: () => [a, b, d, data, all, env] as unknown as Shape };
                 await import('./perhaps.js');",
            ),
            (
                "a.ts",
                "export * from './b.js'; export type T = 1; export interface Shape {}",
            ),
            (
                "b.js",
                "export const a = 1, c = 2; export { a as default }; export * from './a.ts';",
            ),
            ("c.json", "[1]"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn errors_name_the_module_and_the_place() {
        let found = errors(&[
            (
                "main.ts",
                "import { nope } from './a.ts';\nimport x from './b';\nimport './gone.ts';\nimport 'lodash';\nx(nope);",
            ),
            ("a.ts", "export const a: number = 1;"),
            ("b.ts", ""),
        ]);
        assert_eq!(
            found,
            [
                "main.ts:1:10: './a.ts' has no export named 'nope'",
                "main.ts:2:15: cannot import './b': no such file; did you mean './b.ts'?",
                "main.ts:3:8: cannot import './gone.ts': no such file",
                "main.ts:4:8: cannot import 'lodash': guests import files of their own folder alone; bundle packages first",
            ]
        );
    }

    #[test]
    fn errors_of_syntax_are_found_in_every_language() {
        for (name, source) in [
            ("main.js", "let a; let a;"),
            ("main.js", "export const f = (;"),
            ("main.ts", "const a: = 1;"),
            ("main.jsx", "export default <a>;"),
        ] {
            let found = errors(&[(name, source)]);
            assert_eq!(found.len(), 1, "{source}: {found:?}");
            assert!(found[0].contains("SyntaxError"), "{found:?}");
        }
        let found = errors(&[
            ("main.js", "import './a.json'"),
            ("a.json", "{\n  \"a\": 1,\n}"),
        ]);
        assert!(
            found[0].starts_with("a.json:3:1: it is not JSON"),
            "{found:?}"
        );
    }

    #[test]
    fn errors_of_what_cannot_be_known_are_none() {
        let found = errors(&[
            ("main.js", "import { x } from './a.js'; x;"),
            ("a.js", "export * from './b.js';"),
            ("b.js", "let = ;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("b.js:1:"), "{found:?}");
    }

    /// A module that imports many names.
    fn names(count: usize, from: &str) -> String {
        let import = |number| format!("import {{ n{number} }} from '{from}'; n{number};");
        (0..count).map(import).collect()
    }

    #[test]
    fn names_beyond_the_bound_are_not_looked_for() {
        let chain: Vec<_> = (0..200)
            .map(|number| {
                let (name, next) = (format!("m{number}.js"), number + 1);
                (name, format!("export * from './m{next}.js';"))
            })
            .collect();
        let found = |count| {
            let main = names(count, "./m0.js");
            let mut modules = vec![
                ("main.js", main.as_str()),
                ("m200.js", "export const a = 1;"),
            ];
            modules.extend(
                chain
                    .iter()
                    .map(|(name, code)| (name.as_str(), code.as_str())),
            );
            errors(&modules)
        };
        assert_eq!(found(3).len(), 3);
        assert_eq!(found(20_000).len(), MAX_ERRORS);
    }

    #[test]
    fn places_of_many_imports_are_found_in_one_pass() {
        let main = names(30_000, "./a.ts");
        let found = errors(&[("main.ts", &main), ("a.ts", "export const n0 = 1;")]);
        assert_eq!(found.len(), MAX_ERRORS);
        let second = format!(
            "main.ts:1:{}:",
            names(1, "./a.ts").len() + 1 + "import { ".len()
        );
        assert!(found[0].starts_with(&second), "{second} {}", found[0]);
    }

    #[test]
    fn scripts_with_names_in_too_many_scopes_are_not_judged() {
        let deep = |depth, code: &str| {
            let (open, close) = ("{".repeat(depth), "}".repeat(depth));
            format!("let a; {open}{code}{close}")
        };
        let long = "b;".repeat(1_000_000);
        assert_eq!(errors(&[("main.js", &deep(4000, &long))]), [""; 0]);
        assert_eq!(errors(&[("main.js", &deep(40, &long))]), [""; 0]);
        let wrong = deep(4, "let c; let c;");
        assert_eq!(errors(&[("main.js", &wrong)]).len(), 1);
    }
}
