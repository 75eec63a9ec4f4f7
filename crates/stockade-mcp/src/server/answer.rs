//! The answer to `run_code`: one JSON object, as text for models and as structured content for programs.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value, json};

use crate::bounds::ANSWER_BYTES;
use crate::run::RunOutcome;

/// How V8 says that a member of `tools` or of one of its servers does not exist.
const NO_TOOL: [&str; 2] = ["is not a function", "of undefined"];

/// Adds to the error of code that called a tool that does not exist how tools are found.
pub(super) fn name_search(outcome: &mut RunOutcome, code: &str) {
    let error = outcome
        .document
        .get_mut("error")
        .and_then(Value::as_object_mut);
    let Some(error) = error.filter(|_| code.contains("tools.")) else {
        return;
    };
    let message = error.get("message").and_then(Value::as_str).unwrap_or("");
    if error.get("name") == Some(&json!("TypeError"))
        && NO_TOOL.iter().any(|text| message.contains(text))
    {
        let hint = "if this is about a tool: search_tools finds names";
        error.insert("hint".to_owned(), json!(hint));
    }
}

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
    fn wrong_name_of_a_tool_is_answered_with_how_to_find_it() {
        let hint = |code: &str, name: &str, message: &str| {
            let Value::Object(document) = json!({ "error": { "name": name, "message": message } })
            else {
                panic!("an object")
            };
            let mut outcome = RunOutcome {
                failed: true,
                document,
            };
            name_search(&mut outcome, code);
            outcome.document["error"].get("hint").is_some()
        };
        let wrong = "tools.shop.lst is not a function";
        assert!(hint("await tools.shop.lst({})", "TypeError", wrong));
        assert!(!hint("lst()", "TypeError", "lst is not a function"));
        assert!(!hint("await tools.shop.list({})", "Error", "no shop"));
    }

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
