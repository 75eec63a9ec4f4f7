//! Messages of JSON-RPC 2.0, one on each line.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use stockade_limits::without_value;

/// Bytes of an id of a client.
const MAX_ID_BYTES: usize = 256;

/// The id of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    Number(i64),
    Text(String),
}

/// What a client says.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Wants an answer where it has an id.
    Request {
        id: Option<Id>,
        method: String,
        params: Option<Box<RawValue>>,
    },
    /// Answers a request of the server.
    Answer {
        id: u64,
        result: Result<Box<RawValue>, AnswerError>,
    },
}

#[derive(Deserialize)]
struct Envelope {
    jsonrpc: String,
    id: Option<Id>,
    method: Option<String>,
    params: Option<Box<RawValue>>,
    /// `null` is a result.
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    error: Option<AnswerError>,
}

/// What a tool of the client threw.
#[derive(Debug, Deserialize)]
pub(super) struct AnswerError {
    pub(super) message: String,
    #[serde(default, deserialize_with = "known")]
    pub(super) data: Option<AnswerErrorData>,
}

/// Other keys are the client's own.
#[derive(Debug, Default, Deserialize)]
pub(super) struct AnswerErrorData {
    /// The class, such as `TypeError`.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// By what programs distinguish errors of one class, such as `ENOENT`.
    #[serde(default)]
    pub(super) code: Option<String>,
}

/// JSON-RPC leaves the form of an error's data to who sends it: one of another form is as good as none.
fn known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<AnswerErrorData>, D::Error> {
    let data = Box::<RawValue>::deserialize(from)?;
    Ok(serde_json::from_str(data.get()).ok())
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

/// Reads a line.
pub(super) fn read(line: &str) -> Result<Incoming, Fault> {
    let envelope: Envelope = serde_json::from_str(line).map_err(|error| {
        // A line that is JSON of another form is another error.
        match serde_json::from_str::<IgnoredAny>(line) {
            Ok(_) => Fault::invalid_request(&without_value(&error)),
            Err(error) => Fault::new(Kind::Parse, format!("the line is not JSON: {error}")),
        }
    })?;
    if envelope.jsonrpc != "2.0" {
        return Err(Fault::invalid_request("jsonrpc is not \"2.0\""));
    }
    if let Some(Id::Text(text)) = &envelope.id
        && text.len() > MAX_ID_BYTES
    {
        return Err(Fault::invalid_request("id is longer than 256 bytes"));
    }
    match envelope {
        Envelope {
            method: Some(method),
            id,
            params,
            result: None,
            error: None,
            ..
        } => Ok(Incoming::Request { id, method, params }),
        Envelope {
            method: None,
            id: Some(Id::Number(id)),
            result,
            error,
            ..
        } => {
            let id = u64::try_from(id)
                .map_err(|_| Fault::invalid_request("no request of the server has this id"))?;
            match (result, error) {
                (Some(result), None) => Ok(Incoming::Answer {
                    id,
                    result: Ok(result),
                }),
                (None, Some(error)) => Ok(Incoming::Answer {
                    id,
                    result: Err(error),
                }),
                _ => Err(Fault::invalid_request(
                    "an answer has either result or error",
                )),
            }
        }
        _ => Err(Fault::invalid_request(
            "it is neither a request nor an answer",
        )),
    }
}

/// The kinds of errors, and their codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Parse,
    InvalidRequest,
    UnknownMethod,
    InvalidParams,
    NoSuchSandbox,
    TooMany(usize),
    TooLarge(usize),
    RunExists,
}

/// An error as an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message }
    }

    fn invalid_request(why: &str) -> Self {
        let message = format!("the line is not a message of JSON-RPC 2.0: {why}");
        Self::new(Kind::InvalidRequest, message)
    }

    /// The message with this error.
    pub(super) fn answer(&self, id: Option<&Id>) -> String {
        let (code, kind, limit, fix) = match self.kind {
            Kind::Parse => (-32700, "parse", None, "write one JSON object on each line"),
            Kind::InvalidRequest => (
                -32600,
                "invalid_request",
                None,
                "see docs/internals/supervise.md for the messages",
            ),
            Kind::UnknownMethod => (
                -32601,
                "unknown_method",
                None,
                "the methods are initialize, open, run, cancel, close and stats",
            ),
            Kind::InvalidParams => (
                -32602,
                "invalid_params",
                None,
                "correct what the message names",
            ),
            Kind::NoSuchSandbox => (-32001, "no_such_sandbox", None, "open a sandbox first"),
            Kind::TooMany(limit) => (
                -32002,
                "too_many",
                Some(limit),
                "close or finish some first",
            ),
            Kind::TooLarge(limit) => (-32003, "too_large", Some(limit), "send less at a time"),
            Kind::RunExists => (
                -32004,
                "run_exists",
                None,
                "choose another name for the run",
            ),
        };
        let mut data = json!({ "kind": kind, "fix": fix });
        if let (Some(limit), Some(data)) = (limit, data.as_object_mut()) {
            data.insert("limit".to_owned(), limit.into());
        }
        let error = json!({ "code": code, "message": self.message, "data": data });
        json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
    }
}

/// The message with a result.
pub(super) fn answer(id: &Id, result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Answer<'a, T> {
        jsonrpc: &'static str,
        id: &'a Id,
        result: &'a T,
    }
    let answer = Answer {
        jsonrpc: "2.0",
        id,
        result,
    };
    // Every map in results has strings for keys, so JSON holds them.
    serde_json::to_string(&answer).unwrap_or_default()
}

/// A request or, without an id, a notification of the server.
pub(super) fn request(id: Option<u64>, method: &str, params: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Request<'a, T> {
        jsonrpc: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        method: &'a str,
        params: &'a T,
    }
    let request = Request {
        jsonrpc: "2.0",
        id,
        method,
        params,
    };
    serde_json::to_string(&request).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &str) -> Kind {
        read(line).unwrap_err().kind
    }

    #[test]
    fn read_lines_of_each_form() {
        let read = |line: &str| read(line).unwrap();
        let request = read(r#"{"jsonrpc":"2.0","id":"a","method":"open","params":{"x":1}}"#);
        let Incoming::Request { id, method, params } = request else {
            panic!("a request")
        };
        assert_eq!((id, &*method), (Some(Id::Text("a".to_owned())), "open"));
        assert_eq!(params.unwrap().get(), r#"{"x":1}"#);
        let answer = read(r#"{"jsonrpc":"2.0","id":7,"result":null}"#);
        assert!(
            matches!(answer, Incoming::Answer { id: 7, result: Ok(json) } if json.get() == "null")
        );
        let answer = read(r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}"#);
        assert!(
            matches!(answer, Incoming::Answer { result: Err(error), .. } if error.message == "no")
        );
        let answer = read(
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no","data":{"name":"RangeError","code":"E1","more":1}}}"#,
        );
        let Incoming::Answer {
            result: Err(error), ..
        } = answer
        else {
            panic!("an error")
        };
        let data = error.data.unwrap();
        assert_eq!(
            (data.name.as_deref(), data.code.as_deref()),
            (Some("RangeError"), Some("E1"))
        );
        for data in ["null", "\"a trace\"", "7", "[[]]", r#"{"code":7}"#] {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":7,"error":{{"code":1,"message":"no","data":{data}}}}}"#
            );
            assert!(
                matches!(read(&line), Incoming::Answer { result: Err(error), .. } if error.data.is_none()),
                "{data}"
            );
        }
    }

    #[test]
    fn read_lines_of_no_form_are_refused() {
        assert_eq!(kind("{\"jsonrpc\":"), Kind::Parse);
        assert_eq!(kind(""), Kind::Parse);
        for line in [
            "[]",
            "1",
            r#"{"id":1,"method":"open"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"open"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":-1,"result":1}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"open"}"#,
            r#"{"jsonrpc":"2.0","method":"open","result":1}"#,
            &format!(
                r#"{{"jsonrpc":"2.0","id":"{}","method":"open"}}"#,
                "a".repeat(300)
            ),
        ] {
            assert_eq!(kind(line), Kind::InvalidRequest, "{line}");
        }
    }

    #[test]
    fn fault_has_code_kind_limit_and_fix() {
        let text = Fault::new(Kind::TooMany(3), "x").answer(None);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["id"], serde_json::Value::Null);
        assert_eq!(value["error"]["code"], -32002);
        assert_eq!(value["error"]["data"]["limit"], 3);
        assert_eq!(value["error"]["data"]["kind"], "too_many");
    }
}
