//! JSON text of an isolate, into the host's heap.

use deno_core::v8;

/// Text from here on stays outside the heap while it is parsed.
const LONG: usize = 64 << 10;

/// Parses data as the engine does; empty text is `undefined`, `None` is not JSON.
pub fn parse<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    json: String,
) -> Option<v8::Local<'s, v8::Value>> {
    if json.is_empty() {
        return Some(v8::undefined(scope).into());
    }
    if let Some(number) = small_integer(&json) {
        return Some(v8::Integer::new(scope, number).into());
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

/// The number, where data is one of at most nine digits: reading it takes no parser.
fn small_integer(json: &str) -> Option<i32> {
    let digits = json.len() <= 9 && json.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (json.len() > 1 && json.starts_with('0')) {
        return None;
    }
    json.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_integer_is_what_json_writes_so_and_nothing_else() {
        assert_eq!(small_integer("0"), Some(0));
        assert_eq!(small_integer("999999999"), Some(999_999_999));
        for other in [
            "",
            "-0",
            "-1",
            "00",
            "01",
            "+1",
            "1.",
            "1e3",
            " 1",
            "1 ",
            "1000000000",
            "\u{661}",
        ] {
            assert_eq!(small_integer(other), None, "{other}");
        }
    }
}
