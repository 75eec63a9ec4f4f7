//! Questions to the user: whether code may call a tool whose mode is `ask`.
//!
//! A question goes to the client as an elicitation of MCP. Clients of protocol versions up to 2025-11-25 are asked by a
//! request; later ones get the question as an incomplete result, and call the tool again with the answer.

use rmcp::model::{
    ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, ProtocolVersion,
    RequestMetaObject,
};
use rmcp::service::{Peer, RequestContext, RoleServer};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::bounds::{QUESTION_BYTES, QUESTION_TIME};
use crate::declare::printable;

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
        let is_new = context
            .protocol_version()
            .is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str());
        match (can, is_new) {
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
pub(super) fn question(tool: &str, input: &Value) -> String {
    let mut shown = serde_json::to_string(input).unwrap_or_else(|_| "…".to_owned());
    if shown.len() > QUESTION_BYTES {
        shown.truncate(shown.floor_char_boundary(QUESTION_BYTES));
        shown += &format!("… (only the first {QUESTION_BYTES} bytes are shown)");
    }
    format!(
        "Code that a model wrote wants to call the tool {tool} with this input:\n{}",
        printable(&shown)
    )
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
        );
        assert!(text.len() < QUESTION_BYTES + 200);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
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
