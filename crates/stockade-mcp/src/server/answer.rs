//! The answer to `run_code`: one JSON object, as text for models and as structured content for programs.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value, json};

use crate::bounds::ANSWER_BYTES;
use crate::run::RunOutcome;

/// The result of the call.
pub(super) fn of(mut outcome: RunOutcome) -> CallToolResult {
    let mut text = Value::Object(outcome.document.clone()).to_string();
    if text.len() > ANSWER_BYTES {
        outcome.failed = true;
        text = too_large(&mut outcome.document, text.len());
    }
    let content = vec![ContentBlock::text(text)];
    let mut result = if outcome.failed {
        CallToolResult::error(content)
    } else {
        CallToolResult::success(content)
    };
    result.structured_content = Some(Value::Object(outcome.document));
    result
}

/// Leaves out what is large, and gives the text.
fn too_large(document: &mut Map<String, Value>, bytes: usize) -> String {
    let message = format!(
        "the answer has {bytes} bytes, more than the limit of {ANSWER_BYTES}; return less, for example a summary or the \
         first rows"
    );
    document.remove("result");
    document.insert("console".to_owned(), json!([]));
    document.insert("consoleTruncated".to_owned(), json!(true));
    document.insert(
        "error".to_owned(),
        json!({ "kind": "answer_too_large", "message": message }),
    );
    Value::Object(document.clone()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_result_becomes_an_error_that_says_so() {
        let document = |letters: usize| {
            let Value::Object(document) =
                json!({ "result": "x".repeat(letters), "usage": { "cpuMs": 1 } })
            else {
                panic!("an object")
            };
            RunOutcome {
                failed: false,
                document,
            }
        };
        let small = of(document(10));
        assert_eq!(small.is_error, Some(false));
        let large = of(document(ANSWER_BYTES));
        assert_eq!(large.is_error, Some(true));
        let structured = large.structured_content.unwrap();
        assert_eq!(structured["error"]["kind"], "answer_too_large");
        assert_eq!(structured["usage"]["cpuMs"], 1);
        assert!(structured.get("result").is_none());
    }
}
