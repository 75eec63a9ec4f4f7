//! Syntax errors as guests and hosts see them.

use deno_error::JsErrorClass as _;
use stockade_protocol::bounds::MAX_ERROR_BYTES;
use stockade_protocol::{GuestError, Position, harmless};
use stockade_realm::place_in_message;
use stockade_transpile::TranspileError;

/// A syntax error with the line and a caret in its stack.
pub(crate) fn syntax(
    message: String,
    source: &str,
    line: u32,
    column: u32,
    excerpt: Option<String>,
) -> GuestError {
    let mut stack = format!("SyntaxError: {message}");
    if let Some(excerpt) = excerpt {
        stack.push('\n');
        stack.push_str(&excerpt);
    }
    stack.push_str(&format!("\n    at {source}:{line}:{column}"));
    GuestError {
        name: "SyntaxError".to_owned(),
        message: harmless(&message, MAX_ERROR_BYTES),
        code: None,
        stack: Some(harmless(&stack, MAX_ERROR_BYTES)),
        position: Some(Position {
            source: source.to_owned(),
            line,
            column,
        }),
        related: Vec::new(),
    }
}

/// A syntax error that the TypeScript compiler found.
pub(crate) fn syntax_error(error: &TranspileError, source: &str) -> GuestError {
    syntax(
        error.message.clone(),
        source,
        error.line,
        error.column,
        error.excerpt.clone(),
    )
}

/// An error that comes out of the engine's event loop or module loading.
pub(crate) fn core_error(error: &deno_core::error::CoreError) -> GuestError {
    let text = |text: &str| harmless(text, MAX_ERROR_BYTES);
    match error.as_kind() {
        deno_core::error::CoreErrorKind::Js(js) => stockade_realm::error_from_js(js),
        deno_core::error::CoreErrorKind::JsBox(error) => {
            let (name, message) = (error.get_class(), error.get_message());
            // The TypeScript compiler's errors say themselves what they are.
            let message = message
                .strip_prefix(&format!("{name}: "))
                .unwrap_or(&message);
            GuestError {
                name: text(&name),
                stack: Some(text(&format!("{name}: {message}"))),
                position: place_in_message(message),
                ..GuestError::new(text(message))
            }
        }
        other => GuestError::new(text(&other.to_string())),
    }
}

/// Whether the engine only says that a module waits in a top-level `await` for what no timer and no
/// operation will bring: a message of the host may. What a guest throws reads differently.
pub(crate) fn awaits_at_top_level(error: &deno_core::error::CoreError) -> bool {
    use deno_core::error::CoreErrorKind::{Js, ModuleEvaluationDeadlock};
    match error.as_kind() {
        Js(js) => js.exception_message == "Top-level await promise never resolved",
        ModuleEvaluationDeadlock => true,
        _ => false,
    }
}
