//! Data with streams that goes through the host: from a guest to what is bound, and back.
//!
//! The marks of streams in it are rewritten on the way, for each side numbers its own. Data is parsed for
//! that, not searched: a mark that the next reader sees and this one did not would name a stream that is
//! somebody else's.

use serde_json::Value;
use stockade_protocol::Payload;

use super::{Malformed, number};

/// Nested values deeper than this are refused; the parser's own bound is 128.
const MAX_DEPTH: usize = 128;

/// Takes the streams out of data of a guest. `take` makes a body of a stream's id; the mark then names its
/// place among all bodies.
///
/// # Errors
/// When the data is no JSON, or has marks that name nothing, or `take` refuses.
pub(crate) fn import<T>(
    payload: Payload,
    take: impl FnMut(u64) -> Result<T, Malformed>,
) -> Result<(Payload, Vec<T>), Malformed> {
    let mut streams = Vec::new();
    let mut take = take;
    let payload = rewrite(payload, |id| {
        streams.push(take(id)?);
        Ok(streams.len() as u64 - 1)
    })?;
    Ok((payload, streams))
}

/// Puts streams into data for a guest. `open` gives the body at a place an id.
///
/// # Errors
/// As [`import`]; also when the data names a body twice, or one that there is not.
pub(crate) fn export<T>(
    payload: Payload,
    streams: Vec<T>,
    mut open: impl FnMut(T) -> Result<u64, Malformed>,
) -> Result<Payload, Malformed> {
    let mut streams: Vec<Option<T>> = streams.into_iter().map(Some).collect();
    rewrite(payload, |index| {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let stream = streams
            .get_mut(index)
            .and_then(Option::take)
            .ok_or_else(|| Malformed(format!("a mark names stream {index}, which there is not")))?;
        open(stream)
    })
}

fn rewrite(
    mut payload: Payload,
    mut stream: impl FnMut(u64) -> Result<u64, Malformed>,
) -> Result<Payload, Malformed> {
    if !payload.marked {
        payload.bytes = Vec::new();
        return Ok(payload);
    }
    let mut value: Value = serde_json::from_str(&payload.json)?;
    let parts = payload.bytes.len() as u64;
    walk(&mut value, 0, &mut |text| {
        let Some(rest) = text.strip_prefix('\0') else {
            return Ok(());
        };
        match rest.as_bytes().first() {
            Some(0) => Ok(()),
            Some(b'b' | b'a') if number(&rest[1..])? < parts => Ok(()),
            Some(b's') => {
                *text = format!("\0s{}", stream(number(&rest[1..])?)?);
                Ok(())
            }
            _ => Err(Malformed("a mark names nothing".to_owned())),
        }
    })?;
    payload.json = value.to_string();
    Ok(payload)
}

fn walk(
    value: &mut Value,
    depth: usize,
    text: &mut impl FnMut(&mut String) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed("data is nested too deeply".to_owned()));
    }
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|item| walk(item, depth + 1, text)),
        Value::Object(map) => map
            .iter_mut()
            .try_for_each(|(_, item)| walk(item, depth + 1, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(json: &str, parts: usize) -> Payload {
        Payload {
            json: json.to_owned(),
            bytes: vec![Vec::new(); parts],
            marked: true,
        }
    }

    #[test]
    fn parcel_streams_are_numbered_anew() {
        let data = marked(
            r#"[{"a":"\u0000s40"},"\u0000s7","\u0000b0","\u0000\u0000s1"]"#,
            1,
        );
        let (data, ids) = import(data, Ok).unwrap();
        assert_eq!(ids, [40, 7]);
        let expected = r#"[{"a":"\u0000s0"},"\u0000s1","\u0000b0","\u0000\u0000s1"]"#;
        assert_eq!(data.json, expected);
        let back = export(data, vec!["x", "y"], |name| {
            Ok(if name == "x" { 500 } else { 501 })
        });
        assert!(back.unwrap().json.contains(r#""\u0000s501""#));
    }

    #[test]
    fn parcel_mark_written_another_way_is_a_mark_all_the_same() {
        let (_, ids) = import(marked(r#"["\u0000\u0073\u0039"]"#, 0), Ok).unwrap();
        assert_eq!(ids, [9]);
    }

    #[test]
    fn parcel_marks_that_name_nothing_are_refused() {
        for json in [
            r#"["\u0000b0"]"#,
            r#"["\u0000a9"]"#,
            r#"["\u0000x"]"#,
            r#"["\u0000"]"#,
            r#"["\u0000s"]"#,
            r#"["\u0000s-1"]"#,
            "[",
            "",
            r#"["\ud800"]"#,
        ] {
            assert!(import(marked(json, 0), Ok).is_err(), "{json}");
        }
        let twice = marked(r#"["\u0000s0","\u0000s0"]"#, 0);
        assert!(export(twice, vec![()], |()| Ok(1)).is_err());
    }

    #[test]
    fn parcel_without_marks_passes_as_it_is() {
        let plain = Payload::from_json(r#"["\u0000s1"]"#.to_owned());
        let (data, ids) = import(plain.clone(), Ok::<u64, Malformed>).unwrap();
        assert_eq!(data, plain);
        assert!(ids.is_empty());
    }
}
