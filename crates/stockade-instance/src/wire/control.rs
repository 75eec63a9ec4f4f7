//! The guest's small messages.

use serde::Deserialize;
use serde_json::value::RawValue;
use stockade_http::SocketMessage;
use stockade_protocol::bounds::MAX_ERROR_BYTES;
use stockade_protocol::{GuestError, MarkedString, Payload};

use super::{GuestBody, Malformed, Text, as_text, shared_json};

/// Names in a list of the guest's that are kept, for an error's text.
const MOST_NAMES: usize = 32;

/// What any message about a stream, a socket or a request may hold.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Wire<'a> {
    #[serde(alias = "conn_id")]
    id: Option<u64>,
    n: Option<u64>,
    #[serde(borrow, alias = "chunk")]
    data: Option<Text<'a>>,
    #[serde(borrow, alias = "name")]
    message: Option<Text<'a>>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    code: Option<u16>,
}

/// The fields of one such message. Those that it does not have are empty.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) id: u64,
    pub(crate) n: Option<u64>,
    pub(crate) data: GuestBody,
    /// `data` is text.
    pub(crate) is_text: bool,
    pub(crate) message: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) code: Option<u16>,
}

/// Reads a message about a stream, a socket or a request.
///
/// # Errors
/// When it is none, or names nothing.
pub(crate) fn parse_fields(mut payload: Payload) -> Result<Fields, Malformed> {
    let json = shared_json(&mut payload);
    let wire: Wire<'_> = serde_json::from_str(as_text(&json)?)?;
    let id = wire
        .id
        .ok_or_else(|| Malformed("it has no id".to_owned()))?;
    let data = GuestBody::read(wire.data.clone(), payload.marked, &json, &mut payload.bytes)?;
    let is_text = wire.data.is_some_and(|text| {
        !payload.marked || matches!(MarkedString::read(text.as_str()), MarkedString::Text(_))
    });
    Ok(Fields {
        id,
        n: wire.n,
        data,
        is_text,
        message: wire.message.map(|text| text.shortened(MAX_ERROR_BYTES)),
        reason: wire.reason.map(|text| text.shortened(123)),
        code: wire.code,
    })
}

impl Fields {
    /// The data as a message of a WebSocket; `None` where it is neither text nor bytes.
    pub(crate) fn into_socket_message(self) -> Option<SocketMessage> {
        let GuestBody::Whole(data) = self.data else {
            return None;
        };
        if self.is_text {
            return String::from_utf8(data.into()).ok().map(SocketMessage::Text);
        }
        Some(SocketMessage::Binary(data))
    }

    /// The close that it asks for.
    pub(crate) fn close(&self) -> SocketMessage {
        SocketMessage::Close {
            code: closing_code(self.code),
            reason: shorten_reason(self.reason.clone().unwrap_or_default()),
        }
    }
}

/// A code that may be sent (RFC 6455, section 7.4); 1005 stands for none.
pub(crate) fn closing_code(code: Option<u16>) -> u16 {
    match code {
        None => 1005,
        Some(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => code,
        Some(_) => 1000,
    }
}

/// At most 123 bytes, which is what a close frame has room for.
fn shorten_reason(mut reason: String) -> String {
    while reason.len() > 123 {
        reason.pop();
    }
    reason
}

/// `http.failed`: `[id, name, message, stack]`.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) id: u64,
    pub(crate) error: GuestError,
}

#[derive(Deserialize)]
struct WireFailed<'a>(
    u64,
    #[serde(borrow)] Option<Text<'a>>,
    #[serde(borrow)] Option<Text<'a>>,
    #[serde(borrow, default)] Option<Text<'a>>,
);

fn error_of(
    name: Option<Text<'_>>,
    message: Option<Text<'_>>,
    stack: Option<Text<'_>>,
) -> GuestError {
    GuestError {
        name: name.map_or_else(|| "Error".to_owned(), |text| text.shortened(256)),
        message: message.map_or_else(String::new, |text| text.shortened(MAX_ERROR_BYTES)),
        stack: stack.map(|text| text.shortened(MAX_ERROR_BYTES)),
        ..GuestError::default()
    }
}

pub(crate) fn parse_failed(payload: &Payload) -> Result<Failed, Malformed> {
    let WireFailed(id, name, message, stack) = serde_json::from_str(&payload.json)?;
    Ok(Failed {
        id,
        error: error_of(name, message, stack),
    })
}

/// `http.settled`: `[id]`.
pub(crate) fn parse_settled(payload: &Payload) -> Result<u64, Malformed> {
    let [id] = serde_json::from_str(&payload.json)?;
    Ok(id)
}

/// `cron.done`: `[id, null | message]`.
#[derive(Debug)]
pub(crate) struct CronDone {
    pub(crate) id: u64,
    pub(crate) failure: Option<String>,
}

#[derive(Deserialize)]
struct WireCron<'a>(u64, #[serde(borrow)] Option<Text<'a>>);

pub(crate) fn parse_cron_done(payload: &Payload) -> Result<CronDone, Malformed> {
    let WireCron(id, failure) = serde_json::from_str(&payload.json)?;
    Ok(CronDone {
        id,
        failure: failure.map(|text| text.shortened(MAX_ERROR_BYTES)),
    })
}

/// `serve.ready` or `serve.failed`: whether the module can serve.
#[derive(Debug)]
pub(crate) enum Ready {
    /// It can.
    Yes {
        /// What it handles: `fetch`, `scheduled`.
        handlers: Vec<String>,
    },
    /// It cannot.
    No(GuestError),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireReady<'a> {
    #[serde(borrow)]
    handlers: Vec<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Text<'a>>,
    #[serde(borrow)]
    stack: Option<Text<'a>>,
}

pub(crate) fn parse_ready(failed: bool, payload: &Payload) -> Result<Ready, Malformed> {
    let wire: WireReady<'_> = serde_json::from_str(&payload.json)?;
    Ok(if failed {
        Ready::No(error_of(wire.name, wire.message, wire.stack))
    } else {
        let handlers = wire.handlers.into_iter().take(MOST_NAMES);
        Ready::Yes {
            handlers: handlers.map(|name| name.shortened(64)).collect(),
        }
    })
}

/// `ws.open`: a WebSocket that the guest wants to somewhere.
#[derive(Debug)]
pub(crate) struct SocketOpen {
    pub(crate) id: u64,
    pub(crate) url: String,
    pub(crate) protocols: Vec<String>,
    /// The request that the guest's code works on, where it is traced.
    pub(crate) within: Option<u64>,
}

#[derive(Deserialize)]
struct WireOpen<'a> {
    conn_id: u64,
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(borrow, default)]
    protocols: Vec<Text<'a>>,
    #[serde(borrow, default, rename = "headers")]
    _headers: Option<&'a RawValue>,
    #[serde(default)]
    within: Option<u64>,
}

pub(crate) fn parse_socket_open(payload: &Payload) -> Result<SocketOpen, Malformed> {
    let wire: WireOpen<'_> = serde_json::from_str(&payload.json)?;
    let protocols = wire.protocols.into_iter().take(MOST_NAMES);
    Ok(SocketOpen {
        id: wire.conn_id,
        url: wire.url.into_string(),
        protocols: protocols.map(|name| name.shortened(256)).collect(),
        within: wire.within,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Result<Fields, Malformed> {
        parse_fields(Payload::from_json(json.to_owned()))
    }

    #[test]
    fn fields_of_any_message_are_read() {
        let read = fields(r#"{"id":3,"n":8,"reason":"why","code":4000,"more":[1]}"#).unwrap();
        assert_eq!((read.id, read.n, read.code), (3, Some(8), Some(4000)));
        assert_eq!(read.reason.as_deref(), Some("why"));
        for bad in [
            "",
            "{}",
            "[]",
            "{\"id\":-1}",
            "{\"id\":\"a\"}",
            "{\"id\":1,\"code\":70000}",
        ] {
            assert!(fields(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_as_socket_message_keep_text_and_bytes_apart() {
        let text = fields(r#"{"id":1,"data":"hé"}"#).unwrap();
        assert_eq!(
            text.into_socket_message(),
            Some(SocketMessage::Text("hé".to_owned()))
        );
        let bytes = parse_fields(bytes_payload("data")).unwrap();
        assert_eq!(
            bytes.into_socket_message(),
            Some(SocketMessage::Binary(vec![9].into()))
        );
        assert_eq!(fields(r#"{"id":1}"#).unwrap().into_socket_message(), None);
    }

    fn bytes_payload(key: &str) -> Payload {
        super::super::bytes_message(1, key, vec![9])
    }

    #[test]
    fn closing_code_that_may_not_be_sent_is_1000() {
        assert_eq!(closing_code(None), 1005);
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(closing_code(Some(code)), 1000, "{code}");
        }
        assert_eq!(closing_code(Some(4001)), 4001);
    }

    #[test]
    fn failed_keeps_its_texts_within_bounds() {
        let long = "x".repeat(MAX_ERROR_BYTES + 10);
        let json = format!(r#"[5,"TypeError","{long}",null]"#);
        let failed = parse_failed(&Payload::from_json(json)).unwrap();
        assert_eq!(failed.id, 5);
        assert!(failed.error.message.len() <= MAX_ERROR_BYTES + 3);
        assert_eq!(failed.error.stack, None);
    }
}
