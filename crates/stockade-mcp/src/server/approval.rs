//! Questions to the user: whether code may call a tool whose mode is `ask`.
//!
//! The code chose the input that a question shows, and may want the user to overlook a part of it. Each argument therefore
//! has a line and a share of the room, and what hides or moves text is an escape.
//!
//! A question goes to the client as an elicitation of MCP. Clients of protocol versions up to 2025-11-25 are asked by a
//! request; later ones get the question as an incomplete result, and call the tool again with the answer.

use std::fmt::Write;

use rmcp::model::{
    ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, ProtocolVersion,
    RequestMetaObject,
};
use rmcp::service::{Peer, RequestContext, RoleServer};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::bounds::{QUESTION_ARGUMENTS, QUESTION_BYTES, QUESTION_TIME};
use crate::declare::is_hidden;

/// Whether the client speaks 2026-07-28 or later, where each request stands for itself.
pub(super) fn is_new(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// Whether and how a client can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// It cannot.
    Never,
    /// By a request.
    Request,
    /// By an incomplete result.
    Result,
}

impl Asking {
    pub(super) fn of(context: &RequestContext<RoleServer>) -> Self {
        let can = context
            .client_capabilities()
            .and_then(|capabilities| capabilities.elicitation);
        // A client that names no form of questions has that of forms.
        let can = can.is_some_and(|kinds| kinds.form.is_some() || kinds.url.is_none());
        match (can, is_new(context)) {
            (false, _) => Self::Never,
            (true, false) => Self::Request,
            (true, true) => Self::Result,
        }
    }
}

/// What the user decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The call may be made; further ones of the same tool in this run too, if `always`.
    Approved { always: bool },
    /// It may not be made, for this reason.
    Refused(String),
}

/// A question that waits.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) reply: oneshot::Sender<Decision>,
}

/// The text of a question about a call.
///
/// # Errors
///
/// If there are more arguments than the user would read.
pub(super) fn question(tool: &str, input: &Value) -> Result<String, String> {
    let lines: Vec<String> = match input {
        Value::Object(arguments) if arguments.len() > QUESTION_ARGUMENTS => {
            return Err(format!(
                "the input has {} members, more than the {QUESTION_ARGUMENTS} about which the user can be asked",
                arguments.len()
            ));
        }
        Value::Object(arguments) if !arguments.is_empty() => arguments
            .iter()
            .map(|(name, value)| format!("{}: {value}", Value::from(name.as_str())))
            .collect(),
        other => vec![other.to_string()],
    };
    let share = QUESTION_BYTES / lines.len().max(1);
    let mut shown = String::new();
    let mut is_cut = false;
    for line in &lines {
        let text = visible(line, share);
        // JSON ends with no such character.
        is_cut |= text.ends_with('…');
        shown.push('\n');
        shown += &text;
    }
    let note = if is_cut {
        ", of which only a part is shown"
    } else {
        ""
    };
    Ok(format!(
        "Code that a model wrote wants to call the tool {tool} with this input{note}:{shown}"
    ))
}

/// JSON with escapes for characters that hide or move text, and with `…` for what is beyond `most` bytes.
fn visible(json: &str, most: usize) -> String {
    let mut shown = String::new();
    for letter in json.chars() {
        if shown.len() > most {
            break;
        }
        if !is_hidden(letter) {
            shown.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    if shown.len() > most {
        shown.truncate(shown.floor_char_boundary(most));
        shown.push('…');
    }
    shown
}

/// The form of the answer: the user accepts or declines, and may accept further calls.
pub(super) fn params(text: &str) -> Result<ElicitRequestParams, String> {
    let schema = ElicitationSchema::builder()
        .optional_bool("allowRestOfRun", false)
        .build();
    Ok(ElicitRequestParams::FormElicitationParams {
        meta: None::<RequestMetaObject>,
        message: text.to_owned(),
        requested_schema: schema
            .map_err(|error| format!("the question cannot be made: {error}"))?,
    })
}

/// Asks by a request.
pub(super) async fn ask(peer: &Peer<RoleServer>, text: &str) -> Decision {
    let params = match params(text) {
        Ok(params) => params,
        Err(why) => return Decision::Refused(why),
    };
    match peer
        .create_elicitation_with_timeout(params, Some(QUESTION_TIME))
        .await
    {
        Ok(result) => decision(&result),
        Err(_) => Decision::Refused("the client did not answer the question".to_owned()),
    }
}

pub(super) fn decision(result: &ElicitResult) -> Decision {
    match result.action {
        ElicitationAction::Accept => {
            let always = result
                .content
                .as_ref()
                .and_then(|content| content.get("allowRestOfRun"));
            Decision::Approved {
                always: always == Some(&Value::Bool(true)),
            }
        }
        ElicitationAction::Decline => Decision::Refused("the user declined".to_owned()),
        _ => Decision::Refused("the user did not decide".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn question_is_bounded_and_printable() {
        let text = question(
            "shop.buy",
            &json!({ "what": "x\u{1b}[2J\u{202e}".repeat(10_000) }),
        )
        .unwrap();
        assert!(text.len() < QUESTION_BYTES + 200);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
        assert!(text.contains("only a part is shown"));
    }

    #[test]
    fn question_shows_each_argument_as_it_is() {
        let input =
            json!({ "a": "x".repeat(10_000), "path": "/etc\u{200b}/*/x\u{2028}y", "zone": 1 });
        let text = question("files.drop", &input).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].starts_with("\"a\": \"xxx") && lines[1].ends_with('…'));
        assert_eq!(lines[2], "\"path\": \"/etc\\u200b/*/x\\u2028y\"");
        assert_eq!(lines[3], "\"zone\": 1");
        assert!(!question("t", &json!({ "a": 1 })).unwrap().contains("part"));
        assert!(question("t", &json!({})).unwrap().ends_with(":\n{}"));
        let many: serde_json::Map<String, Value> = (0..=QUESTION_ARGUMENTS)
            .map(|number| (number.to_string(), Value::Null))
            .collect();
        assert!(question("t", &Value::Object(many)).is_err());
    }

    #[test]
    fn only_accepting_approves() {
        let of = |action, content: Option<Value>| {
            let mut result = ElicitResult::new(action);
            result.content = content;
            decision(&result)
        };
        assert_eq!(
            of(ElicitationAction::Accept, None),
            Decision::Approved { always: false }
        );
        let all = json!({ "allowRestOfRun": true });
        assert_eq!(
            of(ElicitationAction::Accept, Some(all.clone())),
            Decision::Approved { always: true }
        );
        assert!(matches!(
            of(ElicitationAction::Decline, Some(all)),
            Decision::Refused(_)
        ));
        assert!(matches!(
            of(ElicitationAction::Cancel, None),
            Decision::Refused(_)
        ));
    }
}
