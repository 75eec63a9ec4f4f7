//! Ops of `NETWORK`, of errors and of the console.

use std::rc::Rc;

use deno_core::error::JsError;
use deno_core::{OpState, op2, v8};
use deno_error::JsErrorBox;
use stockade_protocol::bounds::{
    MAX_CONSOLE_BYTES, MAX_ERROR_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGE_VALUES, MAX_NAME_BYTES,
    MAX_RELATED_BYTES, MAX_RELATED_DEPTH, MAX_RELATED_ERRORS,
};
use stockade_protocol::{
    Attachment, ConsoleLevel, FromIsolate, GuestError, Payload, Position, Related, harmless,
    harmless_line, harmless_piece, is_source_of_guest,
};

use crate::payload::collect_payload;
use crate::port::{GuestPort, Settings};

fn port(state: &OpState) -> Rc<dyn GuestPort> {
    Rc::clone(state.borrow::<Rc<dyn GuestPort>>())
}

fn checked(
    state: &mut OpState,
    name: &str,
    json: String,
    marked: bool,
) -> Result<Payload, JsErrorBox> {
    let data = collect_payload(state, json, marked);
    if name.len() > MAX_NAME_BYTES {
        return Err(JsErrorBox::range_error(format!(
            "a name of {} bytes is above the limit of {MAX_NAME_BYTES}",
            name.len()
        )));
    }
    if data.size() > MAX_MESSAGE_BYTES {
        return Err(JsErrorBox::range_error(format!(
            "a message of {} bytes is above the limit of {MAX_MESSAGE_BYTES}",
            data.size()
        )));
    }
    if let Err(values) = data.check_values(MAX_MESSAGE_VALUES) {
        return Err(JsErrorBox::range_error(format!(
            "a message whose values take {values} bytes of the receiver's heap is above the limit of {MAX_MESSAGE_VALUES}: send it in parts, or as bytes"
        )));
    }
    Ok(data)
}

fn send(state: &OpState, message: FromIsolate) -> Result<(), JsErrorBox> {
    port(state).send(message).map_err(JsErrorBox::generic)
}

#[op2(fast)]
pub(crate) fn op_guest_send(
    state: &mut OpState,
    #[string] name: String,
    #[string] json: String,
    marked: bool,
) -> Result<(), JsErrorBox> {
    let data = checked(state, &name, json, marked)?;
    send(state, FromIsolate::Event { name, data })
}

#[op2(fast)]
pub(crate) fn op_guest_control(
    state: &mut OpState,
    #[string] name: String,
    #[string] json: String,
    marked: bool,
) -> Result<(), JsErrorBox> {
    let data = checked(state, &name, json, marked)?;
    send(state, FromIsolate::Control { name, data })
}

/// Sends a chunk of a stream: `op_guest_control` with the message put together here, and the bytes read where they are.
#[op2(fast)]
pub(crate) fn op_guest_chunk(
    state: &mut OpState,
    #[number] id: u64,
    #[buffer] bytes: &[u8],
) -> Result<(), JsErrorBox> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(JsErrorBox::range_error(format!(
            "a chunk of {} bytes is above the limit of {MAX_MESSAGE_BYTES}",
            bytes.len()
        )));
    }
    let mark = Attachment::Bytes(0).json();
    let json = format!("{{\"id\":{id},\"chunk\":{mark}}}");
    port(state)
        .send_part("stream.chunk", json, bytes)
        .map_err(JsErrorBox::generic)
}

#[op2(fast)]
pub(crate) fn op_guest_request(
    state: &mut OpState,
    #[number] id: u64,
    #[string] method: String,
    #[string] json: String,
    marked: bool,
) -> Result<(), JsErrorBox> {
    let data = checked(state, &method, json, marked)?;
    send(state, FromIsolate::Request { id, method, data })
}

#[op2(fast)]
pub(crate) fn op_guest_listen(state: &mut OpState, #[string] name: &str) {
    port(state).listen(name);
}

#[op2(fast)]
pub(crate) fn op_guest_collect(state: &mut OpState, now: bool) {
    port(state).collect(now);
}

/// Whether the value was sent: where it is above a bound, that is the reply.
#[op2(nofast, reentrant)]
pub(crate) fn op_guest_reply<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: Rc<std::cell::RefCell<OpState>>,
    #[number] id: u64,
    ok: bool,
    #[string] json: String,
    marked: bool,
    thrown: v8::Local<'s, v8::Value>,
) -> Result<bool, JsErrorBox> {
    // Reading a guest's error runs its getters, which may call ops: no borrow is held meanwhile.
    let result = if ok {
        checked(&mut state.borrow_mut(), "", json, marked)
            .map_err(|error| GuestError::new(error.to_string()))
    } else {
        let error = guest_error(scope, thrown);
        let code = match marked {
            true => Some(NOT_JSON.to_owned()),
            // The engine gives the code of what is not found also to what does not compile.
            false => code_of(scope, thrown)
                .filter(|code| error.name != "SyntaxError" || code != NOT_FOUND),
        };
        Err(GuestError { code, ..error })
    };
    let port = port(&state.borrow());
    let sent = result.is_ok();
    port.send(FromIsolate::Reply { id, result })
        .map_err(JsErrorBox::generic)?;
    Ok(sent)
}

/// How the codes begin that the runtime itself gives to errors.
const RESERVED_CODES: &str = "stockade:";

/// The code of the error by which a run reports that its result is not JSON.
const NOT_JSON: &str = "stockade:not_json";

/// The code that the engine gives to the error of an import that fails.
const NOT_FOUND: &str = "ERR_MODULE_NOT_FOUND";

/// Bytes of the code of an error.
const MAX_CODE_BYTES: usize = 256;

/// The property `code` of what a guest threw, if it is a text or a number.
fn code_of<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    thrown: v8::Local<'s, v8::Value>,
) -> Option<String> {
    let thrown = v8::Local::<v8::Object>::try_from(thrown).ok()?;
    // A getter of the guest may throw.
    v8::tc_scope!(let scope, scope);
    let key = v8::String::new(scope, "code")?;
    let code = thrown.get(scope, key.into())?;
    let is_short = |text: v8::Local<'_, v8::String>| (1..=MAX_CODE_BYTES).contains(&text.length());
    if !code.is_string() && !code.is_number() {
        return None;
    }
    let code = code.to_string(scope).filter(|text| is_short(*text))?;
    let code = code.to_rust_string_lossy(scope);
    (!code.starts_with(RESERVED_CODES)).then(|| harmless(&code, MAX_CODE_BYTES))
}

#[op2(nofast, reentrant)]
pub(crate) fn op_guest_uncaught<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: Rc<std::cell::RefCell<OpState>>,
    error: v8::Local<'s, v8::Value>,
    _promise: bool,
) -> Result<(), JsErrorBox> {
    let error = guest_error(scope, error);
    let port = port(&state.borrow());
    port.send(FromIsolate::Uncaught(error))
        .map_err(JsErrorBox::generic)
}

/// `text` is the beginning of what is printed, which has `length` UTF-16 code units in all.
#[op2(fast)]
pub(crate) fn op_guest_console(
    state: &mut OpState,
    #[smi] level: u32,
    #[string] text: &str,
    #[number] length: u64,
) -> Result<(), JsErrorBox> {
    let text = console_line(text.strip_suffix('\n').unwrap_or(text), length);
    let level = ConsoleLevel::from_number(level);
    send(state, FromIsolate::Console { level, text })
}

/// The line as it goes to the host; one that is cut says so.
fn console_line(text: &str, length: u64) -> String {
    let (line, rest) = harmless_piece(text, MAX_CONSOLE_BYTES);
    if rest.is_empty() {
        return line;
    }
    let note = format!(
        "… [cut: {length} characters, of which at most {MAX_CONSOLE_BYTES} bytes are kept]"
    );
    let (kept, _) = harmless_piece(text, MAX_CONSOLE_BYTES - note.len());
    kept + &note
}

#[op2(fast)]
pub(crate) fn op_guest_console_piece(
    state: &mut OpState,
    #[smi] level: u32,
    #[string] text: &str,
) -> Result<(), JsErrorBox> {
    let level = ConsoleLevel::from_number(level);
    let mut left = text;
    while !left.is_empty() {
        let (text, rest) = harmless_piece(left, MAX_CONSOLE_BYTES);
        send(state, FromIsolate::Console { level, text })?;
        left = rest;
    }
    Ok(())
}

/// Calls a method of the console, and with the array that it gives the engine's method, which sends debuggers what they
/// show. Arguments: the method, the engine's method, and those of the guest. The engine reports the innermost JavaScript as
/// the place of a call, so no script of the realm may be between the guest and this function.
#[op2(reentrant)]
pub(crate) fn op_guest_console_call<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: Rc<std::cell::RefCell<OpState>>,
    #[varargs] args: Option<&v8::FunctionCallbackArguments<'s>>,
) -> v8::Local<'s, v8::Value> {
    let undefined: v8::Local<'s, v8::Value> = v8::undefined(scope).into();
    let Some(args) = args else { return undefined };
    let functions = (
        v8::Local::<v8::Function>::try_from(args.get(0)),
        v8::Local::<v8::Function>::try_from(args.get(1)),
    );
    let (Ok(own), Ok(engine)) = functions else {
        return undefined;
    };
    let given: Vec<_> = (2..args.length()).map(|at| args.get(at)).collect();
    // What it throws is the guest's to catch.
    let shown = own.call(scope, undefined, &given);
    let shown = shown.and_then(|shown| v8::Local::<v8::Array>::try_from(shown).ok());
    let Some(shown) = shown else { return undefined };
    let port = port(&state.borrow());
    if port.shows_debugger() {
        let shown: Option<Vec<_>> = (0..shown.length())
            .map(|at| shown.get_index(scope, at))
            .collect();
        if let Some(shown) = shown {
            engine.call(scope, undefined, &shown);
        }
    }
    undefined
}

/// By the engine's JSON parser, as all data comes: a number of any size is a number.
#[op2]
pub(crate) fn op_guest_settings<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: &mut OpState,
) -> Result<v8::Local<'s, v8::Value>, JsErrorBox> {
    let unread = || JsErrorBox::generic("the settings of the isolate cannot be read");
    let json = serde_json::to_string(state.borrow::<Settings>()).map_err(|_| unread())?;
    let text = v8::String::new(scope, &json).ok_or_else(unread)?;
    v8::json::parse(scope, text).ok_or_else(unread)
}

/// The texts of what a guest threw, bounded and harmless; any value may have been thrown.
pub fn guest_error<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    error: v8::Local<'s, v8::Value>,
) -> GuestError {
    if scope.is_execution_terminating() {
        return GuestError::new("the isolate is ending");
    }
    error_from_js(&JsError::from_v8_exception(scope, error))
}

/// The texts of an error that the engine has already taken apart, bounded and harmless, and of those that it
/// came of.
#[must_use]
pub fn error_from_js(js: &JsError) -> GuestError {
    let mut error = texts(js, MAX_ERROR_BYTES);
    relate(js, 1, &mut error.related);
    error
}

/// Lists what an error came of: first what it holds, then its cause.
fn relate(js: &JsError, depth: u8, list: &mut Vec<Related>) {
    if depth > MAX_RELATED_DEPTH {
        return;
    }
    let members = js.aggregated.iter().flatten().map(|error| (true, error));
    let cause = js.cause.as_deref().map(|error| (false, error));
    for (member, js) in members.chain(cause) {
        if list.len() == MAX_RELATED_ERRORS {
            return;
        }
        list.push(Related {
            depth,
            member,
            error: texts(js, MAX_RELATED_BYTES),
        });
        relate(js, depth + 1, list);
    }
}

/// How the engine begins the message of a module that it could not compile, in an error with the name `TypeError`.
const COMPILING: &str = "SyntaxError: ";

fn texts(js: &JsError, max: usize) -> GuestError {
    if js.name.as_deref() == Some("TypeError")
        && let Some(message) = js
            .message
            .as_deref()
            .unwrap_or_default()
            .strip_prefix(COMPILING)
        && let Some(place) = place_in_message(message)
    {
        return not_compiled(js, message, place, max);
    }
    let text = |text: &str| harmless(text, max);
    let position = js.frames.iter().find_map(|frame| {
        let source = (frame.file_name.as_deref()).filter(|name| is_source_of_guest(name))?;
        Some(Position {
            source: text(source),
            line: u32::try_from(frame.line_number?).ok()?,
            column: u32::try_from(frame.column_number?).ok()?,
        })
    });
    let name = js.name.as_deref().unwrap_or_default();
    let message = match &js.message {
        Some(message) => message.clone(),
        // Not an Error: `exception_message` is "Uncaught " and the value.
        None => js
            .exception_message
            .trim_start_matches("Uncaught ")
            .to_owned(),
    };
    let stack = js.stack.as_deref().map(|stack| match &position {
        // What cannot be compiled or linked has no frames.
        Some(at) if !stack.contains("\n    at ") => text(&format!(
            "{stack}\n    at {}:{}:{}",
            at.source, at.line, at.column
        )),
        _ => text(stack),
    });
    GuestError {
        name: text(name),
        message: text(&message),
        code: None,
        stack,
        position,
        related: Vec::new(),
    }
}

/// A module that was imported and does not compile: the place is in that module, and the frames are those of the import.
fn not_compiled(js: &JsError, message: &str, place: Position, max: usize) -> GuestError {
    let frames = js.stack.as_deref().unwrap_or_default();
    let frames = frames.strip_prefix("TypeError: ").unwrap_or(frames);
    GuestError {
        name: "SyntaxError".to_owned(),
        message: harmless(message, max),
        code: None,
        stack: Some(harmless(frames, max)),
        position: Some(place),
        related: Vec::new(),
    }
}

/// The place that the message of the compiler or of the module loader names: in a line of its own, or at the end of the first.
#[must_use]
pub fn place_in_message(message: &str) -> Option<Position> {
    let (_, place) = (message.rsplit_once("\n    at "))
        .or_else(|| message.lines().next()?.rsplit_once(" at "))?;
    let mut parts = place.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    let source = harmless_line(parts.next()?, MAX_ERROR_BYTES);
    Some(Position {
        source,
        line,
        column,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_from_js_of_a_module_that_does_not_compile_is_a_syntax_error_in_that_module() {
        let mut wrapped =
            js("SyntaxError: Unexpected token at guest:///a.ts:3:20\nx = ( => 5\n      ^");
        wrapped.name = Some("TypeError".to_owned());
        wrapped.stack = Some(format!(
            "TypeError: {}\n    at async main.ts:1:15",
            wrapped.message.as_deref().unwrap()
        ));
        let error = error_from_js(&wrapped);
        assert_eq!(error.name, "SyntaxError");
        let place = error.position.as_ref().unwrap();
        assert_eq!(
            (place.source.as_str(), place.line, place.column),
            ("guest:///a.ts", 3, 20)
        );
        assert_eq!(
            error.trace(),
            "SyntaxError: Unexpected token at guest:///a.ts:3:20\nx = ( => 5\n      ^\n    at async main.ts:1:15"
        );
        // What a guest throws is left as it is.
        assert_eq!(error_from_js(&js("SyntaxError: x")).name, "Error");
    }

    fn js(message: &str) -> JsError {
        JsError {
            name: Some("Error".to_owned()),
            message: Some(message.to_owned()),
            stack: None,
            cause: None,
            exception_message: String::new(),
            frames: Vec::new(),
            source_line: None,
            source_line_frame_index: None,
            aggregated: None,
            additional_properties: Vec::new(),
            stack_is_custom: false,
        }
    }

    fn shape(error: &GuestError) -> Vec<(u8, bool, &str)> {
        let each = error.related.iter();
        each.map(|related| {
            (
                related.depth,
                related.member,
                related.error.message.as_str(),
            )
        })
        .collect()
    }

    #[test]
    fn error_from_js_lists_members_and_causes_with_their_depth() {
        let mut inner = js("inner");
        inner.cause = Some(Box::new(js("of inner")));
        let mut outer = js("outer");
        outer.aggregated = Some(vec![inner, js("second")]);
        outer.cause = Some(Box::new(js("of outer")));
        assert_eq!(
            shape(&error_from_js(&outer)),
            [
                (1, true, "inner"),
                (2, false, "of inner"),
                (1, true, "second"),
                (1, false, "of outer"),
            ]
        );
    }

    #[test]
    fn error_from_js_bounds_what_a_guest_made_long_or_deep() {
        let mut wide = js("wide");
        wide.aggregated = Some(vec![js(&"x".repeat(MAX_RELATED_BYTES * 2)); 1000]);
        let wide = error_from_js(&wide);
        assert_eq!(wide.related.len(), MAX_RELATED_ERRORS);
        assert!(wide.related[0].error.message.len() <= MAX_RELATED_BYTES + '…'.len_utf8());
        let mut deep = js("deepest");
        for _ in 0..30 {
            deep = JsError {
                cause: Some(Box::new(deep)),
                ..js("above")
            };
        }
        assert_eq!(
            error_from_js(&deep).related.len(),
            usize::from(MAX_RELATED_DEPTH)
        );
    }
}
