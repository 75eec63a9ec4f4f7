//! Runs scripts of the guest.

use std::collections::HashSet;

use deno_core::v8;
use stockade_limits::IsolateOptions;
use stockade_protocol::{GuestError, Position};
use stockade_realm::{RUN, guest_error};
use stockade_transpile::{Language, Options, excerpt, program, transpile};

use crate::error::syntax_error;
use crate::modules::GuestModules;

/// Why a script gave no value.
pub(crate) enum Stopped<'s> {
    /// It threw this.
    Threw(v8::Local<'s, v8::Value>),
    /// It did not run, or not to its end.
    Error(GuestError),
}

impl From<GuestError> for Stopped<'_> {
    fn from(error: GuestError) -> Self {
        Self::Error(error)
    }
}

/// Compiles and runs a script; JavaScript first, and what is not that as TypeScript.
///
/// # Errors
/// What the guest threw. A guest that was terminated gives an error that nobody will see.
pub(crate) fn run<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &GuestModules,
    name: &str,
    code: &str,
) -> Result<v8::Local<'s, v8::Value>, Stopped<'s>> {
    match compile(scope, name, code) {
        Ok(script) => {
            note_source_map(scope, modules, name, script);
            run_compiled(scope, script)
        }
        Err(Failed::Other(error)) => Err(error.into()),
        Err(Failed::Syntax) => {
            let options = Options {
                specifier: name,
                language: Language::TypeScript,
                module: false,
            };
            let mut done = transpile(code, &options).map_err(|error| syntax_error(&error, name))?;
            if let Some(map) = done.source_map {
                modules.source_maps.add(name.to_owned(), map);
            }
            modules.append_map(name, &mut done.code);
            match compile(scope, name, &done.code) {
                Ok(script) => run_compiled(scope, script),
                Err(Failed::Other(error)) => Err(error.into()),
                Err(Failed::Syntax) => Err(compile_error(scope, name, &done.code).into()),
            }
        }
    }
}

/// The code of errors of code that was not run, because it does not parse.
const SYNTAX: &str = "stockade:syntax";

/// A script that runs before the code of a run, compiled by the host.
pub(crate) struct Prelude {
    /// JavaScript, whose value is a promise.
    pub(crate) code: String,
    /// JSON (ECMA-426).
    pub(crate) source_map: Vec<u8>,
}

impl Prelude {
    /// What runs before the code of the first run, if there is anything.
    pub(crate) fn of(options: &IsolateOptions) -> Option<Self> {
        let prelude = options.env.get(RUN)?.get("prelude")?;
        let text = |key| Some(prelude.get(key)?.as_str()?.to_owned());
        Some(Self {
            code: text("code")?,
            source_map: text("map")?.into_bytes(),
        })
    }
}

/// Runs what comes before a run: its value is the promise of its end.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_prelude<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &GuestModules,
    name: &str,
    prelude: Prelude,
) -> Result<v8::Local<'s, v8::Value>, Stopped<'s>> {
    (modules.source_maps).add(name.to_owned(), prelude.source_map);
    match compile(scope, name, &prelude.code) {
        Ok(script) => run_compiled(scope, script),
        Err(Failed::Other(error)) => Err(error.into()),
        Err(Failed::Syntax) => Err(compile_error(scope, name, &prelude.code).into()),
    }
}

/// Runs the text of a run: its value is the promise of a result. `declared` are the names that runs of the session have
/// declared; `None` if there is no session.
///
/// # Errors
/// As [`run`]; a text that does not parse is an error with the code [`SYNTAX`].
pub(crate) fn run_program<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &GuestModules,
    name: &str,
    code: &str,
    declared: Option<&mut HashSet<String>>,
) -> Result<v8::Local<'s, v8::Value>, Stopped<'s>> {
    let refused = |error: GuestError| {
        Stopped::Error(GuestError {
            code: Some(SYNTAX.to_owned()),
            ..error
        })
    };
    let mut made = program(code, name, declared.as_deref())
        .map_err(|error| refused(syntax_error(&error, name)))?;
    modules.source_maps.add(name.to_owned(), made.source_map);
    modules.append_map(name, &mut made.code);
    match compile(scope, name, &made.code) {
        Ok(script) => {
            if let Some(declared) = declared {
                declared.extend(made.declares);
            }
            run_compiled(scope, script)
        }
        Err(Failed::Other(error)) => Err(error.into()),
        Err(Failed::Syntax) => {
            let error = compile_error(scope, name, &made.code);
            Err(refused(placed(error, modules, code)))
        }
    }
}

/// An error at a place of the code that was made, at the place of the code as it was given.
fn placed(error: GuestError, modules: &GuestModules, code: &str) -> GuestError {
    let Some(at) = &error.position else {
        return error;
    };
    let map = modules.source_map(&at.source);
    let token = map.as_ref().and_then(|map| {
        let (line, column) = (at.line.saturating_sub(1), at.column.saturating_sub(1));
        map.lookup_token(line, column)
    });
    let Some(token) = token else {
        return GuestError {
            position: None,
            ..error
        };
    };
    let Position { source, .. } = at;
    let line = token.get_src_line().saturating_add(1);
    let column = token.get_src_col().saturating_add(1);
    let excerpt = excerpt(code, line, column);
    crate::error::syntax(error.message, source, line, column, excerpt)
}

/// Keeps the source map that a bundle brings along, for stacks.
fn note_source_map(
    scope: &mut v8::PinScope<'_, '_>,
    modules: &GuestModules,
    name: &str,
    script: v8::Local<'_, v8::Script>,
) {
    let url = script
        .get_unbound_script(scope)
        .get_source_mapping_url(scope);
    if url.is_string() {
        let url = url.to_rust_string_lossy(scope);
        modules.source_maps.add_inline(name.to_owned(), url);
    }
}

enum Failed {
    Syntax,
    Other(GuestError),
}

fn compile<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    name: &str,
    code: &str,
) -> Result<v8::Local<'s, v8::Script>, Failed> {
    let too_long = || Failed::Other(GuestError::new("the script is longer than V8 allows"));
    let source = v8::String::new(scope, code).ok_or_else(too_long)?;
    let name = v8::String::new(scope, name).ok_or_else(too_long)?;
    v8::tc_scope!(let scope, scope);
    let origin = v8::ScriptOrigin::new(
        scope,
        name.into(),
        0,
        0,
        false,
        -1,
        None,
        false,
        false,
        false,
        None,
    );
    match v8::Script::compile(scope, source, Some(&origin)) {
        Some(script) => Ok(script),
        None if scope.has_terminated() => {
            Err(Failed::Other(GuestError::new("the isolate is ending")))
        }
        None => {
            let exception = scope.exception();
            scope.reset();
            match exception {
                Some(exception) if !is_syntax_error(scope, exception) => {
                    Err(Failed::Other(guest_error(scope, exception)))
                }
                _ => Err(Failed::Syntax),
            }
        }
    }
}

/// V8's own error objects: a guest has not touched one that comes from compiling.
fn is_syntax_error(scope: &mut v8::PinScope<'_, '_>, exception: v8::Local<'_, v8::Value>) -> bool {
    exception
        .to_detail_string(scope)
        .is_some_and(|text| text.to_rust_string_lossy(scope).starts_with("SyntaxError"))
}

/// Compiles again to learn what is wrong and where.
fn compile_error(scope: &mut v8::PinScope<'_, '_>, name: &str, code: &str) -> GuestError {
    let unknown = || GuestError {
        name: "SyntaxError".to_owned(),
        ..GuestError::new("cannot parse the script")
    };
    let Some(source) = v8::String::new(scope, code) else {
        return unknown();
    };
    v8::tc_scope!(let scope, scope);
    if v8::Script::compile(scope, source, None).is_some() {
        return unknown();
    }
    let Some(message) = scope.message() else {
        return unknown();
    };
    let line = message.get_line_number(scope).unwrap_or(1) as u32;
    let column = message.get_start_column() as u32 + 1;
    let text = message.get(scope).to_rust_string_lossy(scope);
    let text = text
        .trim_start_matches("Uncaught ")
        .trim_start_matches("SyntaxError: ")
        .to_owned();
    crate::error::syntax(text, name, line, column, excerpt(code, line, column))
}

fn run_compiled<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    script: v8::Local<'s, v8::Script>,
) -> Result<v8::Local<'s, v8::Value>, Stopped<'s>> {
    v8::tc_scope!(let scope, scope);
    match script.run(scope) {
        Some(value) => Ok(value),
        None if scope.has_terminated() => Err(GuestError::new("the isolate is ending").into()),
        None => {
            let exception = scope.exception();
            scope.reset();
            Err(exception.map_or_else(|| GuestError::default().into(), Stopped::Threw))
        }
    }
}
