//! Arguments of the tools, as clients wrote them, and the tools' own descriptions.
//!
//! The descriptions are in the context of a model all the time, so they are short.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{Tool, ToolAnnotations};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::bounds::{DESCRIBE_TOOLS, QUERY_BYTES, RUN_FILES, SEARCH_RESULTS, SESSION_NAME_CHARS};
use crate::catalog::in_words;

pub(super) const RUN_CODE: &str = "run_code";
pub(super) const SEARCH_TOOLS: &str = "search_tools";
pub(super) const DESCRIBE_TOOLS_NAME: &str = "describe_tools";
pub(super) const LIST_SESSIONS: &str = "list_sessions";
pub(super) const CLOSE_SESSION: &str = "close_session";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RunCode {
    pub(super) code: String,
    pub(super) session: Option<String>,
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// Milliseconds.
    pub(super) timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchTools {
    #[serde(default)]
    pub(super) query: String,
    pub(super) server: Option<String>,
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DescribeTools {
    pub(super) names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CloseSession {
    pub(super) session: String,
}

/// Reads arguments. The error is for the model, which then tries again.
pub(super) fn read<T: DeserializeOwned>(
    arguments: Option<Map<String, Value>>,
) -> Result<T, String> {
    let arguments = Value::Object(arguments.unwrap_or_default());
    serde_json::from_value(arguments).map_err(|error| format!("wrong arguments: {error}"))
}

impl RunCode {
    /// Checks what the form does not state.
    pub(super) fn check(&self, most: Duration) -> Result<Duration, String> {
        if self.files.len() > RUN_FILES {
            return Err(format!("more than {RUN_FILES} files"));
        }
        if let Some(session) = &self.session {
            session_name(session)?;
        }
        match self.timeout_ms.map(Duration::from_millis) {
            Some(Duration::ZERO) => Err("timeoutMs is at least 1".to_owned()),
            Some(time) if time > most => Err(format!("timeoutMs is at most {}", most.as_millis())),
            Some(time) => Ok(time),
            None => Ok(most),
        }
    }
}

pub(super) fn session_name(name: &str) -> Result<(), String> {
    let fits = !name.is_empty()
        && name.chars().count() <= SESSION_NAME_CHARS
        && !name.chars().any(char::is_control);
    fits.then_some(())
        .ok_or_else(|| format!("a session's name has 1 to {SESSION_NAME_CHARS} characters"))
}

impl SearchTools {
    pub(super) fn check(&self) -> Result<usize, String> {
        if self.query.len() > QUERY_BYTES {
            return Err(format!("query has more than {QUERY_BYTES} bytes"));
        }
        Ok(self.limit.unwrap_or(10).clamp(1, SEARCH_RESULTS))
    }
}

impl DescribeTools {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.names.len() {
            0 => Err("names is empty; search_tools finds names".to_owned()),
            count if count > DESCRIBE_TOOLS => Err(format!("more than {DESCRIBE_TOOLS} names")),
            _ => Ok(()),
        }
    }
}

/// What the descriptions of the tools mention.
pub(super) struct Facts<'a> {
    pub(super) level: &'a str,
    pub(super) timeout: Duration,
    /// The upstream servers with the number of their tools, if there are servers.
    pub(super) servers: Option<String>,
    /// Whether code reaches anything outside of its sandbox: upstream servers, or hosts.
    pub(super) reaches_others: bool,
}

/// What clients pass on to the model about this server as a whole.
pub(super) fn instructions(has_servers: bool) -> &'static str {
    if has_servers {
        "Runs code in a sandbox. To use tools of other servers: search_tools, then describe_tools for their types, then one \
         run_code that calls them, loops and filters, and returns only what is needed. An error of a run is an answer: mend \
         the code and run it again."
    } else {
        "Runs code in a sandbox. Use it to compute, parse and transform, and return only what is needed. An error of a run is \
         an answer: mend the code and run it again."
    }
}

/// The schema of the answer to `run_code`. Models are given it by some clients, so it is short.
fn outcome_schema() -> Map<String, Value> {
    let Value::Object(schema) = json!({
        "type": "object",
        "properties": {
            "result": {},
            "error": { "type": "object", "properties": { "kind": { "type": "string" }, "message": { "type": "string" } } },
            "console": { "type": "array" },
            "usage": { "type": "object" },
        },
    }) else {
        return Map::new();
    };
    schema
}

/// All tools that a client can call.
pub(super) fn tools(facts: &Facts<'_>) -> Vec<Tool> {
    // What runs code, with what its description says about other servers.
    let mut run = format!(
        "Runs TypeScript or JavaScript in a new sandbox (level {}, {}) and returns JSON: result or error with line, \
         console, usage. It is a module: the result is `export default`, a top-level `return` or the last expression. \
         Web APIs only; no files, no Node, no network. `session` keeps globals between runs.",
        facts.level,
        in_words(facts.timeout),
    );
    if facts.servers.is_some() {
        run += " Tools of other servers: `await tools.SERVER.NAME(input)`. Find names with search_tools and types with \
                describe_tools, then do as much as possible in one run and return only what is needed.";
    }
    let text = json!({ "type": "string" });
    let mut all = vec![tool(
        RUN_CODE,
        &run,
        json!({
            "code": text,
            "session": text,
            "files": { "type": "object", "additionalProperties": text, "description": "Text by path, to import" },
            "timeoutMs": { "type": "integer" },
        }),
        &["code"],
        // It can do what the tools can do.
        ToolAnnotations::with_title("Run code")
            .read_only(false)
            .destructive(facts.servers.is_some())
            .open_world(facts.reaches_others),
    )
    .with_raw_output_schema(Arc::new(outcome_schema()))];
    // What finds tools of other servers.
    let reads = |title: &str| {
        ToolAnnotations::with_title(title)
            .read_only(true)
            .open_world(false)
    };
    if let Some(servers) = &facts.servers {
        all.push(tool(
            SEARCH_TOOLS,
            &format!("Finds tools for run_code by words; one line each. Servers: {servers}"),
            json!({ "query": text, "server": text, "limit": { "type": "integer" } }),
            &[],
            reads("Search tools"),
        ));
        all.push(tool(
            DESCRIBE_TOOLS_NAME,
            "TypeScript declarations of tools by name, such as `server.tool`",
            json!({ "names": { "type": "array", "items": text } }),
            &["names"],
            reads("Describe tools"),
        ));
    }
    // What is about sessions.
    all.push(tool(
        LIST_SESSIONS,
        "Lists the sessions of run_code",
        json!({}),
        &[],
        reads("List sessions"),
    ));
    all.push(tool(
        CLOSE_SESSION,
        "Ends a session and its state",
        json!({ "session": text }),
        &["session"],
        ToolAnnotations::with_title("Close session")
            .read_only(false)
            .open_world(false),
    ));
    all
}

fn tool(
    name: &'static str,
    description: &str,
    properties: Value,
    required: &[&str],
    annotations: ToolAnnotations,
) -> Tool {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), properties);
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    Tool::new(name, description.to_owned(), Arc::new(schema)).with_annotations(annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_arguments_are_named() {
        let read = |value: Value| {
            let Value::Object(map) = value else {
                panic!("not an object")
            };
            read::<RunCode>(Some(map))
        };
        assert!(
            read(json!({ "code": "1", "timeout": 3 }))
                .unwrap_err()
                .contains("`timeout`")
        );
        assert!(read(json!({})).unwrap_err().contains("`code`"));
        let run = read(json!({ "code": "1", "timeoutMs": 5000 })).unwrap();
        assert_eq!(
            run.check(Duration::from_secs(10)),
            Ok(Duration::from_secs(5))
        );
        assert!(run.check(Duration::from_secs(1)).is_err());
    }

    #[test]
    fn descriptions_are_short_however_many_tools_there_are() {
        let facts = Facts {
            level: "container",
            timeout: Duration::from_secs(30),
            servers: Some("github (120), files (80)".to_owned()),
            reaches_others: true,
        };
        let text = serde_json::to_string(&tools(&facts)).unwrap();
        // Some four characters are a token.
        assert!(text.len() < 3_000, "{}", text.len());
    }
}
