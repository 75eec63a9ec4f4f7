//! From source to JavaScript: parser, scopes, transformer, printer, each run once.

use std::path::{Path, PathBuf};

use oxc::allocator::Allocator;
use oxc::codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc::diagnostics::{Diagnostics, Severity};
use oxc::parser::{ParseOptions, Parser};
use oxc::semantic::SemanticBuilder;
use oxc::transformer::{HelperLoaderMode, JsxOptions, JsxRuntime, TransformOptions, Transformer};

use crate::confine::confined;
use crate::error::TranspileError;
use crate::language::Language;
use crate::{decorate, measure, weigh};

/// Length of the longest source that is processed, in bytes, in any language.
pub const MAX_SOURCE_BYTES: usize = 16 * 1024 * 1024;

/// Length of the longest source that is compiled, in bytes: what is not JavaScript.
///
/// A source may need up to 90 times its length in memory, and 350 times if every token is an error.
pub const MAX_COMPILED_BYTES: usize = 2 * 1024 * 1024;

/// Bytes by which lines of the code are indented together, at most: lines are not indented where it could be more.
pub(crate) const MAX_INDENTATION: usize = 64 * 1024 * 1024;

/// How to read a source.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Names the source in errors and in the source map.
    pub specifier: &'a str,
    /// What the source is written in.
    pub language: Language,
    /// Whether it is an ES module; otherwise a classic script.
    pub module: bool,
}

/// What V8 is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpiled {
    /// JavaScript.
    pub code: String,
    /// A source map as JSON (ECMA-426), with the source inside. `None` if `code` is the source itself.
    pub source_map: Option<Vec<u8>>,
}

/// Turns a source into JavaScript.
///
/// Runs on the caller's thread and may be given anything. The time it takes is the caller's.
///
/// # Errors
/// A syntax error, an early error such as a name declared twice, syntax that the compiler does not
/// support, or a source beyond [`MAX_SOURCE_BYTES`], [`MAX_COMPILED_BYTES`],
/// [`MAX_LEVELS`](crate::MAX_LEVELS) or [`MAX_WORK`](crate::MAX_WORK). JavaScript is not parsed and fails only for its length.
pub fn transpile(source: &str, options: &Options<'_>) -> Result<Transpiled, TranspileError> {
    if options.language == Language::JavaScript {
        check_length(source, options)?;
        return Ok(Transpiled {
            code: source.to_owned(),
            source_map: None,
        });
    }
    bounded(source, options, Body::Module)
}

/// As [`transpile`], for what becomes the body of a function: it may contain `return`. There is always a source map.
/// `keeps_imports`: also of names that the source does not use.
pub(crate) fn transpile_body(
    source: &str,
    options: &Options<'_>,
    keeps_imports: bool,
) -> Result<Transpiled, TranspileError> {
    bounded(source, options, Body::Function { keeps_imports })
}

/// What the statements of a source are the body of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Module,
    Function {
        /// Imports of names that are not used stay.
        keeps_imports: bool,
    },
}

fn check_length(source: &str, options: &Options<'_>) -> Result<(), TranspileError> {
    let whole = |message| TranspileError::whole(options.specifier, message);
    let (limit, what) = match options.language {
        Language::JavaScript => (MAX_SOURCE_BYTES, ""),
        _ => (
            MAX_COMPILED_BYTES,
            " for what must be compiled; split it into modules, or compile it to JavaScript before",
        ),
    };
    if source.len() > limit {
        let length = source.len();
        return Err(whole(format!(
            "source has {length} bytes, more than the limit of {limit}{what}"
        )));
    }
    Ok(())
}

fn bounded(source: &str, options: &Options<'_>, body: Body) -> Result<Transpiled, TranspileError> {
    let whole = |message| TranspileError::whole(options.specifier, message);
    check_length(source, options)?;
    let weight = weigh::weigh(source, options.language.has_jsx()).map_err(|refused| {
        TranspileError::at_byte(source, options.specifier, refused.byte, refused.to_string())
    })?;
    let stack = weight.levels.saturating_mul(weigh::BYTES_PER_LEVEL);
    // A bracket is four levels, and a line has two bytes of the source at least.
    let indentation = (weight.levels / 4).saturating_mul(source.len() / 2);
    let indents = indentation <= MAX_INDENTATION;
    confined(stack, || compile(source, options, body, indents))
        .unwrap_or_else(|panic| Err(whole(format!("the TypeScript compiler failed: {panic}"))))
}

/// `indents`: lines of the code begin with a tab for each block around them.
fn compile(
    source: &str,
    options: &Options<'_>,
    body: Body,
    indents: bool,
) -> Result<Transpiled, TranspileError> {
    let allocator = Allocator::default();
    let source_type = options.language.source_type(options.module);
    let parsed = Parser::new(&allocator, source, source_type)
        .with_options(ParseOptions {
            allow_return_outside_function: body != Body::Module,
            ..ParseOptions::default()
        })
        .parse();
    first_error(source, options, &parsed.diagnostics, Severity::Error)?;
    let mut program = parsed.program;
    measure::measure(&program).map_err(|excess| {
        let message = excess.message.to_owned();
        TranspileError::at_byte(source, options.specifier, excess.byte, message)
    })?;

    let scopes = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_enum_eval(true)
        .build(&program);
    first_error(source, options, &scopes.diagnostics, Severity::Error)?;
    let scoping = scopes.semantic.into_scoping();

    // The transformer uses the name only for React's development modes, which are off.
    let mut transform = transform_options(options.language);
    if let Body::Function { keeps_imports } = body {
        transform.typescript.only_remove_type_imports = keeps_imports;
    }
    let transformed = Transformer::new(&allocator, Path::new("source"), &transform)
        .build_with_scoping(scoping, &mut program);
    // Its warnings are about code that does not do what it seems to do.
    first_error(source, options, &transformed.diagnostics, Severity::Warning)?;

    let strict = program
        .directives
        .iter()
        .any(|directive| directive.directive == "use strict");
    let printed = Codegen::new()
        .with_options(CodegenOptions {
            source_map_path: Some(PathBuf::from(options.specifier)),
            indent_width: usize::from(indents),
            comments: CommentOptions {
                normal: false,
                jsdoc: false,
                ..CommentOptions::default()
            },
            ..CodegenOptions::default()
        })
        .build(&program);
    let mut code = printed.code;
    let mut map = printed.map.map(|map| map.to_json_string());
    if code.contains(decorate::OBJECT) {
        put_definition_before(&mut code, map.as_mut(), strict);
    }
    Ok(Transpiled {
        code,
        source_map: map.map(String::into_bytes),
    })
}

fn transform_options(language: Language) -> TransformOptions {
    let mut options = TransformOptions::default();
    options.decorator.legacy = true;
    options.helper_loader.mode = HelperLoaderMode::External;
    options.jsx = if language.has_jsx() {
        JsxOptions {
            runtime: JsxRuntime::Classic,
            ..JsxOptions::enable()
        }
    } else {
        JsxOptions::disable()
    };
    options
}

fn first_error(
    source: &str,
    options: &Options<'_>,
    diagnostics: &Diagnostics,
    least: Severity,
) -> Result<(), TranspileError> {
    let error = diagnostics.iter().find(|diagnostic| match least {
        Severity::Error => diagnostic.severity == Severity::Error,
        _ => diagnostic.severity != Severity::Advice,
    });
    let Some(error) = error else {
        return Ok(());
    };
    let byte = error
        .labels
        .first()
        .map_or(0, |label| label.offset() as usize);
    let message = error.message.to_string();
    Err(TranspileError::at_byte(
        source,
        options.specifier,
        byte,
        message,
    ))
}

/// Adds one line before the code, after a `#!` line, and adjusts the source map.
fn put_definition_before(code: &mut String, map: Option<&mut String>, strict: bool) {
    let at = if code.starts_with("#!") {
        code.find('\n').map_or(code.len(), |end| end + 1)
    } else {
        0
    };
    // A directive counts only before all else.
    let directive = if strict { "\"use strict\"; " } else { "" };
    code.insert_str(at, &format!("{directive}{}\n", decorate::DEFINITION));
    // The added line has no mappings; `;` ends a line of them. A quote inside a JSON string is
    // escaped, so this text is found only as the key itself.
    const KEY: &str = "\"mappings\":\"";
    if let Some(map) = map
        && let Some(start) = map.find(KEY)
    {
        map.insert(start + KEY.len(), ';');
    }
}

/// Compiles on the caller's stack, whatever its size.
#[cfg(test)]
pub(crate) fn compile_unconfined(
    source: &str,
    options: &Options<'_>,
) -> Result<Transpiled, TranspileError> {
    compile(source, options, Body::Module, true)
}
