//! What a guest asks of its host (`fetch`, `binding.fetch`, `binding.call`, `binding.open` and `socket.connect`), and
//! the answers.

use std::borrow::Cow;
use std::fmt::{self, Write};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{Method, Request, Uri};
use hyper::ext::ReasonPhrase;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use stockade_capability::Part;
use stockade_protocol::{Attachment, Payload, push_string, push_text};

use super::request::push_value;
use super::response::{Flat, headers_of};
use super::{GuestBody, Malformed, Text, as_text, shared_json};
use crate::limits::InstanceLimits;
use crate::services::{ConnectRequest, SecureTransport, SocketProtocol};

/// One request of a guest.
#[derive(Debug)]
pub(crate) struct GuestRequest {
    pub(crate) ask: Ask,
    /// The number of the client's request that the guest works on, as far as the guest says.
    pub(crate) within: Option<u64>,
}

/// What a guest asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// To a server; `binding` names what is bound instead.
    Fetch {
        binding: Option<String>,
        head: http::request::Parts,
        body: GuestBody,
    },
    /// A method of what is bound.
    Call(BindingCall),
    /// A method of what is bound that opens a connection.
    Open(BindingCall),
    /// A connection to a server.
    Connect(ConnectRequest),
    /// Something of a target of another guest that this one holds.
    Target(TargetCall),
}

/// `stub.method(...args)`, `stub(...args)` or `await stub.property`.
#[derive(Debug)]
pub(crate) struct TargetCall {
    /// The target's number in this guest.
    pub(crate) id: u64,
    pub(crate) part: Part,
    /// A JSON array.
    pub(crate) args: Payload,
}

/// `env.binding.method(...args)`.
#[derive(Debug)]
pub(crate) struct BindingCall {
    pub(crate) binding: String,
    pub(crate) method: String,
    /// A JSON array.
    pub(crate) args: Payload,
}

#[derive(Deserialize)]
struct WireFetch<'a> {
    #[serde(default)]
    within: Option<u64>,
    #[serde(borrow, default)]
    binding: Option<Text<'a>>,
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(borrow)]
    method: Text<'a>,
    #[serde(borrow, default)]
    headers: Headers<'a>,
    #[serde(borrow, default)]
    body: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct WireCall<'a> {
    #[serde(default)]
    within: Option<u64>,
    #[serde(borrow)]
    binding: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireConnect<'a> {
    #[serde(default)]
    within: Option<u64>,
    #[serde(borrow)]
    host: Text<'a>,
    port: u16,
    #[serde(borrow)]
    secure: Cow<'a, str>,
    #[serde(borrow, default)]
    protocol: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    server_name: Option<Text<'a>>,
}

/// Bytes of a host in what a guest asks for: a name has at most 253, and an address in brackets fewer.
const MOST_HOST: usize = 255;

#[derive(Deserialize)]
struct WireTarget<'a> {
    #[serde(default)]
    within: Option<u64>,
    id: u64,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    property: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
}

/// Headers as an object or as a flat list, both as a flat list.
struct Headers<'a>(Flat<'a>);

impl Default for Headers<'_> {
    fn default() -> Self {
        Self(Flat {
            texts: Vec::new(),
            cut: false,
        })
    }
}

/// Headers of one request that are read; more are an error later.
const MOST_HEADERS: usize = 4096;

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Headers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers as an object or a flat array")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Headers::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while texts.len() < 2 * MOST_HEADERS {
                    let Some((name, value)) = map.next_entry::<Text<'de>, Text<'de>>()? else {
                        return Ok(Headers(Flat { texts, cut: false }));
                    };
                    texts.push(name);
                    texts.push(value);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Headers(Flat { texts, cut: true }))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Flat::deserialize(serde::de::value::SeqAccessDeserializer::new(seq)).map(Headers)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Why an ask is not carried out.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The guest's code asked for something impossible; it receives the reason.
    Refused(String),
    /// The runtime does not say this.
    Malformed(Malformed),
}

impl From<Malformed> for AskError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<serde_json::Error> for AskError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.into())
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

/// Reads a request of the guest; `None` for one that is nobody's here.
///
/// # Errors
/// When it cannot be carried out.
pub(crate) fn parse_ask(
    method: &str,
    mut payload: Payload,
    limits: &InstanceLimits,
) -> Result<Option<GuestRequest>, AskError> {
    let (ask, within) = match method {
        "fetch" | "binding.fetch" => {
            let json = shared_json(&mut payload);
            let wire: WireFetch<'_> = serde_json::from_str(as_text(&json)?)?;
            let (mut head, content_length) =
                request_head(&wire, limits).map_err(AskError::Refused)?;
            let within = wire.within;
            let binding = match (method, wire.binding) {
                ("fetch", _) => None,
                (_, Some(name)) => Some(name.into_string()),
                (_, None) => return Err(Malformed("binding.fetch names no binding".into()).into()),
            };
            let body = GuestBody::read(wire.body, payload.marked, &json, &mut payload.bytes)?;
            if let (Some(length), GuestBody::Stream(_)) = (content_length, &body) {
                head.headers.insert(CONTENT_LENGTH, length.into());
            }
            let ask = Ask::Fetch {
                binding,
                head,
                body,
            };
            (ask, within)
        }
        "binding.call" => {
            let (call, within) = binding_call(payload)?;
            (Ask::Call(call), within)
        }
        "binding.open" => {
            let (call, within) = binding_call(payload)?;
            (Ask::Open(call), within)
        }
        "socket.connect" => {
            let (request, within) = connect_request(&payload)?;
            (Ask::Connect(request), within)
        }
        "target.call" => {
            let (call, within) = target_call(payload)?;
            (Ask::Target(call), within)
        }
        _ => return Ok(None),
    };
    Ok(Some(GuestRequest { ask, within }))
}

fn binding_call(mut payload: Payload) -> Result<(BindingCall, Option<u64>), AskError> {
    let json = std::mem::take(&mut payload.json);
    let wire: WireCall<'_> = serde_json::from_str(&json)
        .map_err(|error| AskError::Refused(format!("the call cannot be read: {error}")))?;
    payload.json = wire.args.map_or("[]", RawValue::get).to_owned();
    let call = BindingCall {
        binding: wire.binding.into_owned(),
        method: wire.method.into_owned(),
        args: payload,
    };
    Ok((call, wire.within))
}

fn target_call(mut payload: Payload) -> Result<(TargetCall, Option<u64>), AskError> {
    let json = std::mem::take(&mut payload.json);
    let wire: WireTarget<'_> = serde_json::from_str(&json)
        .map_err(|error| AskError::Refused(format!("the call cannot be read: {error}")))?;
    payload.json = wire.args.map_or("[]", RawValue::get).to_owned();
    let part = match (wire.property, wire.method) {
        (Some(name), _) => Part::Property(name.into_owned()),
        (None, Some(name)) => Part::Method(name.into_owned()),
        (None, None) => Part::Itself,
    };
    let call = TargetCall {
        id: wire.id,
        part,
        args: payload,
    };
    Ok((call, wire.within))
}

fn connect_request(payload: &Payload) -> Result<(ConnectRequest, Option<u64>), AskError> {
    let wire: WireConnect<'_> = serde_json::from_str(&payload.json).map_err(Malformed::from)?;
    let secure = match &*wire.secure {
        "off" => SecureTransport::Off,
        "on" => SecureTransport::On,
        "starttls" => SecureTransport::StartTls,
        _ => return Err(Malformed("a connection is secure in no known way".to_owned()).into()),
    };
    let protocol = match wire.protocol.as_deref() {
        None | Some("tcp") => SocketProtocol::Tcp,
        Some("udp") if secure == SecureTransport::Off => SocketProtocol::Udp,
        Some(_) => return Err(Malformed("a connection of no known protocol".to_owned()).into()),
    };
    let host = |text: Text<'_>| {
        if text.as_str().len() > MOST_HOST {
            let why = format!("the host of a connection has at most {MOST_HOST} bytes");
            return Err(AskError::Refused(why));
        }
        Ok(text.into_string())
    };
    if wire.port == 0 {
        let why = "the port of a connection is from 1 to 65535".to_owned();
        return Err(AskError::Refused(why));
    }
    let request = ConnectRequest {
        host: host(wire.host)?,
        port: wire.port,
        protocol,
        secure,
        server_name: wire.server_name.map(host).transpose()?,
    };
    Ok((request, wire.within))
}

fn request_head(
    wire: &WireFetch<'_>,
    limits: &InstanceLimits,
) -> Result<(http::request::Parts, Option<u64>), String> {
    let url = wire.url.as_str();
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("invalid URL: {error}"))?;
    if uri.scheme().is_none() || uri.host().is_none() {
        return Err("the URL must begin with http:// or https:// and a host".to_owned());
    }
    let method = Method::from_bytes(wire.method.as_str().as_bytes())
        .map_err(|_| "invalid method".to_owned())?;
    let flat = &wire.headers.0;
    let (headers, content_length) = headers_of(&flat.texts, flat.cut, limits)
        .map_err(|why| format!("the request was refused: {why}"))?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.headers = headers;
    Ok((parts, content_length))
}

/// The body of an answer.
pub(crate) enum AnswerBody {
    None,
    Whole(Bytes),
    /// A stream of the host's, by its id.
    Stream(u64),
}

/// The answer to `fetch`: `{ status, statusText, headers: [[name, value], …], body }`.
pub(crate) fn answer_of(head: &http::response::Parts, body: AnswerBody) -> Payload {
    let mut json = String::with_capacity(512);
    let _ = write!(
        json,
        "{{\"status\":{},\"statusText\":",
        head.status.as_u16()
    );
    match head.extensions.get::<ReasonPhrase>() {
        // No such text begins with NUL, as a mark would.
        Some(reason) => push_value(&mut json, reason.as_bytes()),
        None => push_text(&mut json, head.status.canonical_reason().unwrap_or("")),
    }
    json.push_str(",\"headers\":");
    push_pairs(&mut json, &head.headers);
    json.push_str(",\"body\":");
    let mut bytes = Vec::new();
    let marked = !matches!(body, AnswerBody::None);
    match body {
        AnswerBody::None => json.push_str("null"),
        AnswerBody::Whole(whole) => {
            let _ = write!(json, "{}", Attachment::Bytes(0).json());
            bytes.push(whole.into());
        }
        AnswerBody::Stream(id) => {
            let _ = write!(json, "{}", Attachment::Stream(id).json());
        }
    }
    json.push('}');
    Payload {
        json,
        bytes,
        marked,
    }
}

fn push_pairs(out: &mut String, headers: &HeaderMap) {
    out.push('[');
    for (index, (name, value)) in headers.iter().enumerate() {
        out.push_str(if index > 0 { ",[" } else { "[" });
        push_string(out, name.as_str());
        out.push(',');
        push_value(out, value.as_bytes());
        out.push(']');
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, json: &str) -> Result<Option<Ask>, AskError> {
        let payload = Payload::from_json(json.to_owned());
        let parsed = parse_ask(method, payload, &InstanceLimits::default());
        Ok(parsed?.map(|request| request.ask))
    }

    #[test]
    fn ask_says_within_which_request_it_is_made() {
        let within = |method, json: &str| {
            let payload = Payload::from_json(json.to_owned());
            let parsed = parse_ask(method, payload, &InstanceLimits::default());
            parsed.unwrap().unwrap().within
        };
        let fetch = r#""url":"http://a/","method":"GET""#;
        assert_eq!(
            within("fetch", &format!("{{\"within\":7,{fetch}}}")),
            Some(7)
        );
        assert_eq!(within("fetch", &format!("{{{fetch}}}")), None);
        let call = r#"{"within":8,"binding":"STATE","method":"get","args":[]}"#;
        assert_eq!(within("binding.call", call), Some(8));
        let connect = r#"{"within":9,"host":"a","port":1,"secure":"off"}"#;
        assert_eq!(within("socket.connect", connect), Some(9));
        let target = r#"{"within":10,"id":1,"method":null,"property":null,"args":[]}"#;
        assert_eq!(within("target.call", target), Some(10));
    }

    #[test]
    fn ask_fetch_takes_headers_in_both_forms() {
        for headers in [r#"{"a":"1","b":"2"}"#, r#"["a","1","b","2"]"#] {
            let json = format!(
                r#"{{"url":"https://a.example/x?y#z","method":"PUT","headers":{headers},"body":"text","redirect":"manual"}}"#
            );
            let Ok(Some(Ask::Fetch {
                head,
                body,
                binding,
            })) = ask("fetch", &json)
            else {
                panic!("{headers}");
            };
            assert_eq!(head.uri, "https://a.example/x?y");
            assert_eq!(head.headers["b"], "2");
            assert_eq!(body, GuestBody::Whole("text".into()));
            assert_eq!(binding, None);
        }
    }

    #[test]
    fn ask_fetch_of_what_cannot_be_is_refused_with_a_reason() {
        for json in [
            r#"{"url":"/x","method":"GET"}"#,
            r#"{"url":"http://a b","method":"GET"}"#,
            r#"{"url":"http://a","method":"G T"}"#,
            r#"{"url":"http://a","method":"GET","headers":["a\nb","1"]}"#,
        ] {
            assert!(
                matches!(ask("fetch", json), Err(AskError::Refused(_))),
                "{json}"
            );
        }
        for json in ["", "[]", r#"{"url":1,"method":"GET"}"#] {
            assert!(
                matches!(ask("fetch", json), Err(AskError::Malformed(_))),
                "{json}"
            );
        }
    }

    #[test]
    fn answer_names_the_status_as_the_server_did() {
        let answer = |status: u16, reason: Option<&'static [u8]>| {
            let (mut head, ()) = http::Response::new(()).into_parts();
            head.status = status.try_into().unwrap();
            if let Some(reason) = reason {
                head.extensions.insert(ReasonPhrase::from_static(reason));
            }
            let json: serde_json::Value =
                serde_json::from_str(&answer_of(&head, AnswerBody::None).json).unwrap();
            json["statusText"].as_str().unwrap().to_owned()
        };
        assert_eq!(answer(404, None), "Not Found");
        assert_eq!(answer(404, Some(b"Gone fishing \xe9")), "Gone fishing é");
        assert_eq!(answer(299, None), "");
    }

    #[test]
    fn ask_call_keeps_its_arguments_as_they_are() {
        let json = r#"{"binding":"STATE","method":"put","args":[ {"b":1,"a":2} ]}"#;
        let Ok(Some(Ask::Call(call))) = ask("binding.call", json) else {
            panic!("a call");
        };
        let named = (call.binding.as_str(), call.method.as_str());
        assert_eq!(named, ("STATE", "put"));
        assert_eq!(call.args.json, r#"[ {"b":1,"a":2} ]"#);
        assert!(matches!(ask("binding.open", json), Ok(Some(Ask::Open(_)))));
        assert!(ask("other", "{}").unwrap_or(None).is_none());
    }

    #[test]
    fn ask_connect_names_a_host_and_a_port() {
        let json = r#"{"host":"db.example","port":5432,"secure":"starttls"}"#;
        let Ok(Some(Ask::Connect(request))) = ask("socket.connect", json) else {
            panic!("a connection");
        };
        assert_eq!((request.host.as_str(), request.port), ("db.example", 5432));
        assert_eq!(request.secure, SecureTransport::StartTls);
        let long = format!(
            r#"{{"host":"{}","port":1,"secure":"on"}}"#,
            "a".repeat(MOST_HOST + 1)
        );
        for refused in [long.as_str(), r#"{"host":"a","port":0,"secure":"on"}"#] {
            let refused = ask("socket.connect", refused);
            assert!(matches!(refused, Err(AskError::Refused(_))), "{refused:?}");
        }
        for malformed in [
            r#"{"host":"a","port":70000,"secure":"on"}"#,
            r#"{"host":"a","port":1,"secure":"maybe"}"#,
            r#"{"host":"a","port":1,"secure":"on","protocol":"udp"}"#,
            r#"{"host":"a","port":1,"secure":"off","protocol":"sctp"}"#,
            r#"{"host":"a","port":1}"#,
            "[]",
        ] {
            let malformed = ask("socket.connect", malformed);
            assert!(
                matches!(malformed, Err(AskError::Malformed(_))),
                "{malformed:?}"
            );
        }
    }
}
