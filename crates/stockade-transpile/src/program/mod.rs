//! Turns the text of a run into a script whose value is the promise of the run's result.
//!
//! The text has the syntax of a module of TypeScript. [`program`] compiles it and puts its statements into an asynchronous
//! function:
//!
//! - An import becomes `await import()`, before all other statements.
//! - The result is what a `return` gives, the default export, or the value of the last statement, if that is an expression.
//! - In a session, declarations become variables of the script, which live on: `let` before the function declares those
//!   that are new, and the declarations become assignments.
//!
//! Invariants: those of [`transpile`](crate::transpile), for any source. The code that is made consists of pieces of the
//! compiler's output and of short texts, and the source map follows each piece to its place.

use std::collections::HashSet;
use std::fmt::Write as _;

use oxc::allocator::Allocator;
use oxc::ast::ast::{
    Class, Declaration, ExportDefaultDeclarationKind, Expression, Function, ImportDeclaration,
    ImportDeclarationSpecifier, Statement, StringLiteral, VariableDeclaration,
    VariableDeclarationKind, WithClause,
};
use oxc::parser::{ParseOptions, Parser};
use oxc::span::{GetSpan, Span};
use oxc_sourcemap::SourceMap;

use crate::compile::{Options, transpile_body};
use crate::error::TranspileError;
use crate::language::Language;
use crate::pieces::Pieces;
use crate::{confine, weigh};

/// A script for V8 that runs a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// JavaScript. Its completion value is a promise of the result.
    pub code: String,
    /// A source map as JSON (ECMA-426), with the source inside.
    pub source_map: Vec<u8>,
    /// Names that the script declares and that were not declared before. Empty outside of sessions.
    pub declares: Vec<String>,
}

/// Makes the script of a run. `declared` are the names that earlier runs of the session declared; `None` if there is no
/// session.
///
/// Runs on the caller's thread and may be given anything. The time it takes is the caller's.
///
/// # Errors
/// As [`transpile`](crate::transpile).
pub fn program(
    source: &str,
    specifier: &str,
    declared: Option<&HashSet<String>>,
) -> Result<Program, TranspileError> {
    compile(source, specifier, declared, true)
}

/// Makes the script that runs before a run: as [`program`] without a session, and its promise resolves to `undefined`.
///
/// # Errors
/// As [`transpile`](crate::transpile).
pub fn prelude(source: &str, specifier: &str) -> Result<Program, TranspileError> {
    compile(source, specifier, None, false)
}

/// What models write around code. At the beginning of a program it is two empty templates, whose call always throws.
const FENCE: &str = "```";

fn compile(
    source: &str,
    specifier: &str,
    declared: Option<&HashSet<String>>,
    has_result: bool,
) -> Result<Program, TranspileError> {
    if source.trim_start().starts_with(FENCE) {
        let byte = source.find(FENCE).unwrap_or_default();
        let what = "the code is within a fence of Markdown; leave out the lines with ```";
        return Err(TranspileError::at_byte(
            source,
            specifier,
            byte,
            what.to_owned(),
        ));
    }
    let options = Options {
        specifier,
        language: Language::TypeScript,
        module: true,
    };
    // Later runs of a session may use what this one imports.
    let compiled = transpile_body(source, &options, declared.is_some())?;
    let whole = |message: String| TranspileError::whole(specifier, message);
    let code = compiled.code.as_str();
    let weight = weigh::weigh(code, false).map_err(|refused| whole(refused.to_string()))?;
    let stack = weight.levels.saturating_mul(weigh::BYTES_PER_LEVEL);
    let map = compiled.source_map.unwrap_or_default();
    let map = String::from_utf8_lossy(&map);
    let map = SourceMap::from_json_string(&map)
        .map_err(|error| whole(format!("the source map cannot be read: {error}")))?;
    confine::confined(stack, || wrap(code, map, declared, has_result))
        .unwrap_or_else(Err)
        .map_err(|error| whole(format!("the compiler failed: {error}")))
}

/// Puts the statements of the compiler's output into a function.
fn wrap(
    code: &str,
    map: SourceMap<'_>,
    declared: Option<&HashSet<String>>,
    has_result: bool,
) -> Result<Program, String> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, code, Language::JavaScript.source_type(true))
        .with_options(ParseOptions {
            allow_return_outside_function: true,
            ..ParseOptions::default()
        })
        .parse();
    if let Some(error) = parsed.diagnostics.iter().next() {
        return Err(error.message.to_string());
    }
    let program = parsed.program;
    let mut wrapper = Wrapper {
        code,
        session: declared.is_some(),
        has_result,
        first: Pieces::default(),
        body: Pieces::default(),
        names: Vec::new(),
        default: None,
        default_name: unused_name(code),
    };
    let last = wrapper.last_expression(&program.body);
    for (index, statement) in program.body.iter().enumerate() {
        match statement {
            Statement::ExpressionStatement(statement) if last == Some(index) => {
                let only = program.body.len() == 1 && program.directives.is_empty();
                wrapper.result(&statement.expression, only);
            }
            statement => wrapper.statement(statement),
        }
    }
    if let (true, Some(directive)) = (program.body.is_empty(), program.directives.last()) {
        // A text by itself is a directive to the parser.
        wrapper.body.text("return ");
        wrapper.body.source(directive.expression.span);
        wrapper.body.text(";\n");
    }
    Ok(wrapper.finish(map, declared))
}

/// A name that the code does not contain.
fn unused_name(code: &str) -> String {
    let mut name = "__default".to_owned();
    while code.contains(&name) {
        name.push('_');
    }
    name
}

struct Wrapper<'c> {
    code: &'c str,
    session: bool,
    /// The promise resolves to the value of the text, and not to `undefined`.
    has_result: bool,
    /// What comes before all other statements: imports, and functions of a session.
    first: Pieces,
    body: Pieces,
    /// Names that the statements of a session declare.
    names: Vec<String>,
    /// What the default export is called.
    default: Option<String>,
    default_name: String,
}

impl Wrapper<'_> {
    fn slice(&self, span: Span) -> &str {
        self.code
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }

    /// The statement whose value is the result, if there is one: the last, functions not counted.
    fn last_expression(&self, body: &[Statement<'_>]) -> Option<usize> {
        let default =
            body.iter().any(|statement| match statement {
                Statement::ExportDefaultDeclaration(_) => true,
                Statement::ExportNamedDeclaration(export) => (export.specifiers.iter())
                    .any(|specifier| specifier.exported.name() == "default"),
                Statement::ExportFromDeclaration(export) => (export.specifiers.iter())
                    .any(|specifier| specifier.exported.name() == "default"),
                _ => false,
            });
        if default {
            return None;
        }
        let counts = |statement: &Statement<'_>| match statement {
            Statement::FunctionDeclaration(_)
            | Statement::EmptyStatement(_)
            | Statement::ImportDeclaration(_)
            | Statement::ExportNamedDeclaration(_)
            | Statement::ExportFromDeclaration(_)
            | Statement::ExportAllDeclaration(_) => false,
            Statement::ExportDeclaration(export) => {
                !matches!(export.declaration, Declaration::FunctionDeclaration(_))
            }
            _ => true,
        };
        let (index, statement) = (body.iter().enumerate().rev()).find(|(_, s)| counts(s))?;
        matches!(statement, Statement::ExpressionStatement(_)).then_some(index)
    }

    /// Returns the value of an expression. A function that is the `only` thing in the text is called.
    fn result(&mut self, expression: &Expression<'_>, only: bool) {
        let is_function = matches!(
            expression.without_parentheses(),
            Expression::ArrowFunctionExpression(_) | Expression::FunctionExpression(_)
        );
        self.body.text("return (");
        self.body.source(expression.span());
        self.body.text(match only && is_function {
            true => ")();\n",
            false => ");\n",
        });
    }

    fn statement(&mut self, statement: &Statement<'_>) {
        match statement {
            Statement::ImportDeclaration(import) => self.import(import),
            Statement::ExportAllDeclaration(export) => {
                let with = export.with_clause.as_deref();
                self.imported(String::new(), &export.source, with, ";\n");
            }
            Statement::ExportFromDeclaration(export) => {
                let with = export.with_clause.as_deref();
                let mut specifiers = export.specifiers.iter();
                match specifiers.find(|specifier| specifier.exported.name() == "default") {
                    Some(specifier) => {
                        let name = quoted(&specifier.local.name());
                        let default = self.default_name.clone();
                        let before = format!("const {default} = (");
                        self.imported(before, &export.source, with, &format!(")[{name}];\n"));
                        self.default = Some(default);
                    }
                    None => self.imported(String::new(), &export.source, with, ";\n"),
                }
            }
            Statement::ExportNamedDeclaration(export) => {
                let mut specifiers = export.specifiers.iter();
                if let Some(it) = specifiers.find(|it| it.exported.name() == "default") {
                    self.default = Some(it.local.name().to_string());
                }
            }
            Statement::ExportDeclaration(export) => self.declaration(&export.declaration),
            Statement::ExportDefaultDeclaration(export) => {
                self.default_export(&export.declaration, export.declaration.span());
            }
            Statement::VariableDeclaration(variables) => self.variables(variables),
            Statement::FunctionDeclaration(function) => self.function(function),
            Statement::ClassDeclaration(class) => self.class(class),
            other => self.line(other.span()),
        }
    }

    fn declaration(&mut self, declaration: &Declaration<'_>) {
        match declaration {
            Declaration::VariableDeclaration(variables) => self.variables(variables),
            Declaration::FunctionDeclaration(function) => self.function(function),
            Declaration::ClassDeclaration(class) => self.class(class),
            other => self.line(other.span()),
        }
    }

    /// A statement as it is.
    fn line(&mut self, span: Span) {
        self.body.source(span);
        self.body.text(";\n");
    }

    fn default_export(&mut self, declaration: &ExportDefaultDeclarationKind<'_>, span: Span) {
        match declaration {
            ExportDefaultDeclarationKind::FunctionDeclaration(function) => {
                if let Some(id) = &function.id {
                    self.default = Some(id.name.to_string());
                    return self.function(function);
                }
            }
            ExportDefaultDeclarationKind::ClassDeclaration(class) => {
                if let Some(id) = &class.id {
                    self.default = Some(id.name.to_string());
                    return self.class(class);
                }
            }
            _ => {}
        }
        let name = self.default_name.clone();
        self.body.text(format!("const {name} = ("));
        self.body.source(span);
        self.body.text(");\n");
        self.default = Some(name);
    }

    fn variables(&mut self, variables: &VariableDeclaration<'_>) {
        let keeps = match variables.kind {
            VariableDeclarationKind::Var
            | VariableDeclarationKind::Let
            | VariableDeclarationKind::Const => self.session,
            // What is disposed of at the end of the run does not live on.
            VariableDeclarationKind::Using | VariableDeclarationKind::AwaitUsing => false,
        };
        if !keeps {
            return self.line(variables.span);
        }
        for variable in &variables.declarations {
            for name in variable.id.get_binding_identifiers() {
                self.names.push(name.name.to_string());
            }
            if variable.init.is_some() {
                self.body.text("(");
                self.body.source(variable.span);
                self.body.text(");\n");
            } else if variables.kind != VariableDeclarationKind::Var {
                self.body.source(variable.id.span());
                self.body.text(" = undefined;\n");
            }
        }
    }

    fn function(&mut self, function: &Function<'_>) {
        let Some(id) = function.id.as_ref().filter(|_| self.session) else {
            return self.line(function.span);
        };
        // Without its name, so that the code within finds the variable, which a later run may change.
        self.names.push(id.name.to_string());
        self.first.text(format!("{} = ", id.name));
        self.first
            .source(Span::new(function.span.start, id.span.start));
        self.first.source(Span::new(id.span.end, function.span.end));
        self.first.text(";\n");
    }

    fn class(&mut self, class: &Class<'_>) {
        let Some(id) = class.id.as_ref().filter(|_| self.session) else {
            return self.line(class.span);
        };
        self.names.push(id.name.to_string());
        self.body.text(format!("{} = ", id.name));
        self.line(class.span);
    }

    /// `await import(…)` of a module, between two texts. Its name is a piece of the source, so that an import that fails has the
    /// place where it stands.
    fn imported(
        &mut self,
        before: String,
        source: &StringLiteral<'_>,
        with: Option<&WithClause<'_>>,
        after: &str,
    ) {
        self.first.text(format!("{before}await import("));
        self.first.source(source.span);
        let mut text = String::new();
        if let Some(with) = with {
            text.push_str(", { with: { ");
            for entry in &with.with_entries {
                let (key, value) = (self.slice(entry.key.span()), self.slice(entry.value.span));
                // Writing to text does not fail.
                let _ = write!(text, "{key}: {value}, ");
            }
            text.push_str("} }");
        }
        text.push(')');
        text.push_str(after);
        self.first.text(text);
    }

    fn import(&mut self, import: &ImportDeclaration<'_>) {
        let with = import.with_clause.as_deref();
        let Some(specifiers) = import.specifiers.as_ref().filter(|list| !list.is_empty()) else {
            return self.imported(String::new(), &import.source, with, ";\n");
        };
        let mut namespace = None;
        let mut parts = Vec::new();
        for specifier in specifiers {
            let (imported, local) = match specifier {
                ImportDeclarationSpecifier::ImportSpecifier(it) => {
                    (Some(it.imported.name()), &it.local)
                }
                ImportDeclarationSpecifier::ImportDefaultSpecifier(it) => {
                    (Some("default".into()), &it.local)
                }
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(it) => (None, &it.local),
            };
            let local = local.name.to_string();
            if self.session {
                self.names.push(local.clone());
            }
            match imported {
                Some(imported) => parts.push(format!("{}: {local}", quoted(&imported))),
                None => namespace = Some(local),
            }
        }
        let parts = format!("{{ {} }}", parts.join(", "));
        let (before, after) = match (self.session, namespace) {
            (true, Some(name)) => (format!("{name} = "), format!("; ({parts} = {name});\n")),
            (true, None) => (format!("({parts} = "), ");\n".to_owned()),
            (false, Some(name)) => (format!("const {name} = "), format!(", {parts} = {name};\n")),
            (false, None) => (format!("const {parts} = "), ";\n".to_owned()),
        };
        self.imported(before, &import.source, with, &after);
    }

    /// The whole script.
    fn finish(mut self, map: SourceMap<'_>, declared: Option<&HashSet<String>>) -> Program {
        let mut seen = HashSet::new();
        let is_new = |name: &String| declared.is_some_and(|declared| !declared.contains(name));
        let mut declares = std::mem::take(&mut self.names);
        declares.retain(|name| is_new(name) && seen.insert(name.clone()));
        let mut all = Pieces::default();
        all.text("\"use strict\";");
        if !declares.is_empty() {
            all.text(format!("let {};", declares.join(",")));
        }
        // After the first `await` no frame of the script around the function is in stacks.
        all.text("(async () => {await 0;");
        all.append(self.first);
        all.append(self.body);
        if let Some(default) = &self.default {
            all.text(format!(
                "return typeof {default} === \"function\" ? {default}() : {default};\n"
            ));
        }
        all.text(match self.has_result {
            true => "})()",
            false => "})().then(() => {})",
        });
        let (code, map) = all.join(self.code, map);
        Program {
            code,
            source_map: map.to_json_string().into_bytes(),
            declares,
        }
    }
}

/// A name as a literal of JavaScript.
fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

#[cfg(test)]
mod tests;
