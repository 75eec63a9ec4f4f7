//! The headers `traceparent` and `tracestate` (<https://www.w3.org/TR/trace-context/>).

use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The ids of a trace and of the sender's span.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What tracing systems add to the ids.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of `traceparent` in its version 00.
const PARENT_BYTES: usize = 55;

/// Bytes of `traceparent` in later versions, of which this one reads the same beginning.
const MOST_PARENT_BYTES: usize = 128;

/// Bytes of all `tracestate` headers together, and their entries: what the specification asks to propagate.
const MOST_STATE_BYTES: usize = 512;
const MOST_STATE_ENTRIES: usize = 32;

/// The context that these headers contain; none where it is not valid.
pub(crate) fn read(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?;
    let (trace_id, span_id, flags) = parse_parent(text)?;
    let state = read_state(headers).unwrap_or_default();
    let context = SpanContext::new(trace_id, span_id, flags, true, state);
    context.is_valid().then_some(context)
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, in lower case. Later versions may go on after another hyphen.
fn parse_parent(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let bytes = text.as_bytes();
    if !(PARENT_BYTES..=MOST_PARENT_BYTES).contains(&bytes.len()) {
        return None;
    }
    let head = &bytes[..PARENT_BYTES];
    let is_hyphen = |at: usize| matches!(at, 2 | 35 | 52);
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let shaped = |(at, byte): (usize, &u8)| {
        if is_hyphen(at) {
            *byte == b'-'
        } else {
            is_hex(*byte)
        }
    };
    if !head.iter().enumerate().all(shaped) {
        return None;
    }
    match (&text[..2], bytes.get(PARENT_BYTES)) {
        ("00", None) => {}
        ("00" | "ff", _) => return None,
        (_, None | Some(b'-')) => {}
        _ => return None,
    }
    let flags = u8::from_str_radix(&text[53..55], 16).ok()?;
    Some((
        TraceId::from_hex(&text[3..35]).ok()?,
        SpanId::from_hex(&text[36..52]).ok()?,
        TraceFlags::new(flags) & TraceFlags::SAMPLED,
    ))
}

fn read_state(headers: &HeaderMap) -> Option<TraceState> {
    let mut all = String::new();
    for value in headers.get_all(TRACESTATE) {
        let value = value.to_str().ok()?.trim();
        if value.is_empty() {
            continue;
        }
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(value);
        if all.len() > MOST_STATE_BYTES {
            return None;
        }
    }
    if all.split(',').count() > MOST_STATE_ENTRIES {
        return None;
    }
    TraceState::from_str(&all).ok()
}

/// `traceparent` of a context. Each request has one, whether it is sampled or not, so nothing is allocated.
fn parent_bytes(context: &SpanContext) -> [u8; PARENT_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let mut write = |at: usize, bytes: &[u8]| {
        let pairs = text[at..].chunks_exact_mut(2);
        for (pair, byte) in pairs.zip(bytes) {
            let digits = [byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)]);
            pair.copy_from_slice(&digits);
        }
    };
    write(3, &context.trace_id().to_bytes());
    write(36, &context.span_id().to_bytes());
    write(53, &[context.trace_flags().to_u8()]);
    text
}

/// `traceparent` of a context, as text.
pub(crate) fn parent(context: &SpanContext) -> String {
    parent_bytes(context).map(char::from).iter().collect()
}

/// `tracestate` of a context, where it has one.
pub(crate) fn state(context: &SpanContext) -> Option<String> {
    let state = context.trace_state().header();
    (!state.is_empty()).then_some(state)
}

/// Writes a context in place of one that is there.
pub(crate) fn write(context: &SpanContext, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_bytes(&parent_bytes(context)) {
        headers.insert(TRACEPARENT, value);
    }
    match state(context).map(HeaderValue::try_from) {
        Some(Ok(value)) => headers.insert(TRACESTATE, value),
        _ => headers.remove(TRACESTATE),
    };
}

/// Reads any bytes as a context, for fuzzing: one that is read is written and read alike.
///
/// # Panics
/// If it is not.
#[doc(hidden)]
pub fn parse_context(parent: &[u8], state: &[u8]) {
    let mut headers = HeaderMap::new();
    for (name, bytes) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
        if let Ok(value) = HeaderValue::from_bytes(bytes) {
            headers.append(name, value);
        }
    }
    if let Some(context) = read(&headers) {
        let mut written = HeaderMap::new();
        write(&context, &mut written);
        assert_eq!(read(&written), Some(context));
    }
}

/// Removes a context from headers.
pub fn remove_context(headers: &mut HeaderMap) {
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(all: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn context_is_read_and_written_alike() {
        let given = headers(&[
            (&TRACEPARENT, PARENT),
            (&TRACESTATE, "a=1,b@c=x y"),
            (&TRACESTATE, "d=2"),
        ]);
        let context = read(&given).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        let mut written = headers(&[(&TRACEPARENT, "old"), (&TRACESTATE, "old")]);
        write(&context, &mut written);
        assert_eq!(written[TRACEPARENT], PARENT);
        assert_eq!(written[TRACESTATE], "a=1,b@c=x y,d=2");
    }

    #[test]
    fn parent_of_another_form_is_none() {
        let check = |text: &str, valid: bool| {
            let read = read(&headers(&[(&TRACEPARENT, text)]));
            assert_eq!(read.is_some(), valid, "{text}");
        };
        check(PARENT, true);
        check(&PARENT.replace("-01", "-00"), true);
        check(&format!("01{}-later", &PARENT[2..]), true);
        check(&format!("01{}", &PARENT[2..]), true);
        check(&format!("01{}x", &PARENT[2..]), false);
        check(&format!("{PARENT}-later"), false);
        check(&format!("ff{}", &PARENT[2..]), false);
        check(&PARENT.to_uppercase(), false);
        check(&PARENT.replace('4', "+"), false);
        check(&PARENT.replace("4736-0", "473-60"), false);
        check(
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            false,
        );
        check(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            false,
        );
        check("", false);
        check(&"0".repeat(8000), false);
        check(&format!("01{}-{}", &PARENT[2..], "x".repeat(8000)), false);
        let twice = headers(&[(&TRACEPARENT, PARENT), (&TRACEPARENT, PARENT)]);
        assert!(read(&twice).is_none());
    }

    #[test]
    fn state_that_is_too_large_or_malformed_is_left_out() {
        let state = |text: &str| {
            let context = read(&headers(&[(&TRACEPARENT, PARENT), (&TRACESTATE, text)]));
            super::state(&context.unwrap())
        };
        assert_eq!(state("a=1").as_deref(), Some("a=1"));
        assert_eq!(state(&format!("a={}", "x".repeat(600))), None);
        let many: Vec<String> = (0..40).map(|at| format!("k{at}=1")).collect();
        assert_eq!(state(&many.join(",")), None);
        assert_eq!(state("no pair"), None);
    }
}
