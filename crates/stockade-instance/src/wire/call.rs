//! The data of calls, which goes through the host with streams in it: from a guest to a capability, and back.
//!
//! The marks of streams are rewritten on the way, for each side numbers its own. The codec parses the data for
//! that: a mark that the next reader sees and this one did not would name a stream of somebody else.

use stockade_protocol::{MarksError, Payload};

use super::{AskError, Malformed};

impl From<MarksError> for AskError {
    fn from(error: MarksError) -> Self {
        match error {
            MarksError::Json(_) | MarksError::NamesNothing => {
                Self::Malformed(Malformed(error.to_string()))
            }
            // A guest's own code makes such data.
            MarksError::TooDeep => Self::Refused(error.to_string()),
        }
    }
}

/// Takes the streams out of data of a guest. `take` makes a body of a stream's id; the mark then names its
/// place among all bodies.
///
/// # Errors
/// When the data is not JSON, is nested too deeply, or has marks that name nothing, or `take` refuses.
pub(crate) fn import<T>(
    payload: Payload,
    mut take: impl FnMut(u64) -> Result<T, Malformed>,
) -> Result<(Payload, Vec<T>), AskError> {
    let mut streams = Vec::new();
    let payload = payload.rename_streams(|id| {
        streams.push(take(id)?);
        Ok::<_, AskError>(streams.len() as u64 - 1)
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
) -> Result<Payload, AskError> {
    let mut streams: Vec<Option<T>> = streams.into_iter().map(Some).collect();
    payload.rename_streams(|index| {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let stream = streams
            .get_mut(index)
            .and_then(Option::take)
            .ok_or_else(|| Malformed(format!("a mark names stream {index}, which there is not")))?;
        Ok(open(stream)?)
    })
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
    fn call_streams_get_other_numbers() {
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
    fn call_marks_that_name_nothing_are_refused() {
        for json in [
            r#"["\u0000b0"]"#,
            r#"["\u0000a9"]"#,
            r#"["\u0000x"]"#,
            r#"["\u0000"]"#,
            r#"["\u0000s"]"#,
            r#"["\u0000s-1"]"#,
            "[",
            "",
        ] {
            assert!(import(marked(json, 0), Ok).is_err(), "{json}");
        }
        let twice = marked(r#"["\u0000s0","\u0000s0"]"#, 0);
        assert!(export(twice, vec![()], |()| Ok(1)).is_err());
    }

    #[test]
    fn call_nested_too_deeply_is_refused_and_no_breach() {
        let deep = format!("{}\"\\u0000b0\"{}", "[".repeat(2000), "]".repeat(2000));
        let refused = import(marked(&deep, 1), Ok);
        assert!(matches!(refused, Err(AskError::Refused(_))), "{refused:?}");
    }
}
