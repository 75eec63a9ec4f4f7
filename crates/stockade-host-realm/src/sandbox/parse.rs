//! JSON text of an isolate, into the host's heap.

use deno_core::v8;

/// Text from here on stays outside the heap while it is parsed.
const LONG: usize = 64 << 10;

/// Parses data as the engine does; empty text is `undefined`, `None` is no JSON.
pub fn parse<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    json: String,
) -> Option<v8::Local<'s, v8::Value>> {
    if json.is_empty() {
        return Some(v8::undefined(scope).into());
    }
    let text = if json.len() < LONG {
        v8::String::new(scope, &json)
    } else if json.is_ascii() {
        v8::String::new_external_onebyte(scope, json.into_bytes().into_boxed_slice())
    } else {
        v8::String::new_external_twobyte(scope, json.encode_utf16().collect())
    }?;
    v8::json::parse(scope, text)
}
