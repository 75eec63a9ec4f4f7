//! The data of calls, which goes through the host with streams and targets in it: from a guest to a capability, and back.
//!
//! Their marks are rewritten on the way, for each side numbers its own. The codec parses the data for that: a mark
//! that the next reader sees and this one did not would name a stream or a target of somebody else.

use stockade_protocol::{Attachment, MarksError, Payload};

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

/// Takes the streams and targets out of data of a guest. `take_stream` and `take_target` make something of an id; the mark
/// then names its place among all of its kind.
///
/// # Errors
/// When the data is not JSON, is nested too deeply, or has marks that name nothing, or one is not taken.
pub(crate) fn import<S, T>(
    payload: Payload,
    mut take_stream: impl FnMut(u64) -> Result<S, AskError>,
    mut take_target: impl FnMut(u64) -> Result<T, AskError>,
) -> Result<(Payload, Vec<S>, Vec<T>), AskError> {
    let (mut streams, mut targets) = (Vec::new(), Vec::new());
    let payload = payload.rename_attachments(|attachment| {
        Ok::<_, AskError>(match attachment {
            Attachment::Stream(id) => {
                streams.push(take_stream(id)?);
                Attachment::Stream(streams.len() as u64 - 1)
            }
            Attachment::Target(id) => {
                targets.push(take_target(id)?);
                Attachment::Target(targets.len() as u64 - 1)
            }
            other => other,
        })
    })?;
    Ok((payload, streams, targets))
}

/// Puts streams and targets into data for a guest. `open_stream` and `open_target` give what is at a place an id.
///
/// # Errors
/// As [`import`]; also when the data names a place twice, or one that there is not.
pub(crate) fn export<S, T>(
    payload: Payload,
    streams: Vec<S>,
    targets: Vec<T>,
    mut open_stream: impl FnMut(S) -> Result<u64, Malformed>,
    mut open_target: impl FnMut(T) -> Result<u64, Malformed>,
) -> Result<Payload, AskError> {
    let mut streams: Vec<Option<S>> = streams.into_iter().map(Some).collect();
    let mut targets: Vec<Option<T>> = targets.into_iter().map(Some).collect();
    payload.rename_attachments(|attachment| {
        Ok(match attachment {
            Attachment::Stream(at) => Attachment::Stream(open_stream(take(&mut streams, at)?)?),
            Attachment::Target(at) => Attachment::Target(open_target(take(&mut targets, at)?)?),
            other => other,
        })
    })
}

/// Takes what is at a place; once.
fn take<T>(places: &mut [Option<T>], at: u64) -> Result<T, Malformed> {
    let place = usize::try_from(at).ok().and_then(|at| places.get_mut(at));
    let taken = place.and_then(Option::take);
    taken.ok_or_else(|| Malformed(format!("a mark names place {at}, where there is nothing")))
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
            r#"[{"a":"\u0000s40"},"\u0000r9","\u0000s7","\u0000b0","\u0000\u0000s1"]"#,
            1,
        );
        let (data, streams, targets) = import(data, Ok, Ok).unwrap();
        assert_eq!((streams, targets), (vec![40, 7], vec![9]));
        let expected = r#"[{"a":"\u0000s0"},"\u0000r0","\u0000s1","\u0000b0","\u0000\u0000s1"]"#;
        assert_eq!(data.json, expected);
        let stream = |name| Ok(if name == "x" { 500 } else { 501 });
        let back = export(data, vec!["x", "y"], vec!["z"], stream, |_| Ok(600)).unwrap();
        assert!(back.json.contains(r#""\u0000s501""#), "{}", back.json);
        assert!(back.json.contains(r#""\u0000r600""#), "{}", back.json);
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
            r#"["\u0000r-1"]"#,
            r#"["\u0000r"]"#,
            "[",
            "",
        ] {
            assert!(import(marked(json, 0), Ok, Ok).is_err(), "{json}");
        }
        for letter in ["s", "r"] {
            let give = |json: &str| {
                let data = marked(&json.replace('?', letter), 0);
                export(data, vec![()], vec![()], |()| Ok(1), |()| Ok(1))
            };
            assert!(give(r#"["\u0000?0"]"#).is_ok());
            assert!(give(r#"["\u0000?0","\u0000?0"]"#).is_err());
            assert!(give(r#"["\u0000?1"]"#).is_err());
        }
    }

    #[test]
    fn call_nested_too_deeply_is_refused_and_no_breach() {
        let deep = format!("{}\"\\u0000b0\"{}", "[".repeat(2000), "]".repeat(2000));
        let refused = import(marked(&deep, 1), Ok, Ok);
        assert!(matches!(refused, Err(AskError::Refused(_))), "{refused:?}");
    }
}
