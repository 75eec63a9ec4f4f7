//! `http.response`, as the guest wrote it.

use std::fmt;

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper::ext::ReasonPhrase;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use stockade_protocol::Payload;

use super::{GuestBody, Malformed, Text, as_text, shared_json};
use crate::limits::InstanceLimits;

/// The status of [`http.response`](parse_response) and what belongs to it, checked.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// What the guest calls the status, unless nothing.
    pub(crate) reason: Option<ReasonPhrase>,
    /// Without `content-length` and without what is only for one hop.
    pub(crate) headers: HeaderMap,
    pub(crate) content_length: Option<u64>,
}

/// One `http.response`. What is wrong with the head concerns the request, not the mirror.
#[derive(Debug)]
pub(crate) struct GuestResponse {
    pub(crate) id: u64,
    pub(crate) head: Result<Head, String>,
    pub(crate) body: GuestBody,
    pub(crate) socket: Option<u64>,
    /// Promises given to `waitUntil` are open.
    pub(crate) pending: bool,
}

/// The name that the status text has among the headers, in front of them: no header can be called so.
const REASON: &str = ":reason";

/// `[id, status, [name, value, …], body, socket, pending]`.
struct Wire<'a> {
    id: u64,
    status: u16,
    headers: Flat<'a>,
    body: Option<Text<'a>>,
    socket: Option<u64>,
    pending: bool,
}

/// A flat list of strings, cut at a bound.
pub(super) struct Flat<'a> {
    pub(super) texts: Vec<Text<'a>>,
    pub(super) cut: bool,
}

/// Headers that a gateway adds: room for them costs less than to grow for each. The library keeps the map of a response for
/// the next request of the connection, to which a gateway adds as many.
const ADDED: usize = 6;

/// Strings of a flat list that are kept; far above any limit on headers.
const MOST_TEXTS: usize = 8192;

impl<'de: 'a, 'a> Deserialize<'de> for Flat<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Flat<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Flat<'de>, A::Error> {
                let mut texts = Vec::with_capacity(16);
                while texts.len() < MOST_TEXTS {
                    match seq.next_element()? {
                        Some(text) => texts.push(text),
                        None => return Ok(Flat { texts, cut: false }),
                    }
                }
                let mut cut = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    cut = true;
                }
                Ok(Flat { texts, cut })
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Wire<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Wire<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[id, status, headers, body, socket, pending]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Wire<'de>, A::Error> {
                let missing = |at| A::Error::invalid_length(at, &Reader);
                Ok(Wire {
                    id: seq.next_element()?.ok_or_else(|| missing(0))?,
                    status: seq.next_element()?.ok_or_else(|| missing(1))?,
                    headers: seq.next_element()?.ok_or_else(|| missing(2))?,
                    body: seq.next_element()?.flatten(),
                    socket: seq.next_element()?.flatten(),
                    pending: seq.next_element()?.unwrap_or(false),
                })
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// Reads one `http.response`.
///
/// # Errors
/// When it is none, so that it is not even known which request it answers.
pub(crate) fn parse_response(
    mut payload: Payload,
    limits: &InstanceLimits,
) -> Result<GuestResponse, Malformed> {
    let json = shared_json(&mut payload);
    let wire: Wire<'_> = serde_json::from_str(as_text(&json)?)?;
    Ok(GuestResponse {
        id: wire.id,
        head: head(wire.status, &wire.headers, limits),
        body: GuestBody::read(wire.body, payload.marked, &json, &mut payload.bytes)?,
        socket: wire.socket,
        pending: wire.pending,
    })
}

fn head(status: u16, flat: &Flat<'_>, limits: &InstanceLimits) -> Result<Head, String> {
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|code| {
            *code == StatusCode::SWITCHING_PROTOCOLS || (200..600).contains(&code.as_u16())
        })
        .ok_or_else(|| format!("its status {status} is neither 101 nor from 200 to 599"))?;
    let (reason, texts) = match flat.texts.as_slice() {
        [name, reason, rest @ ..] if name.as_str() == REASON => (reason.as_str(), rest),
        all => ("", all),
    };
    let (headers, content_length) = headers_of(texts, flat.cut, limits)?;
    Ok(Head {
        status,
        reason: reason_phrase(reason, limits)?,
        headers,
        content_length,
    })
}

/// A guest's status text as HTTP/1 sends it (RFC 9112, section 4); one that is empty is none.
fn reason_phrase(text: &str, limits: &InstanceLimits) -> Result<Option<ReasonPhrase>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > limits.response_header_bytes {
        return Err(format!(
            "its status text has more than {} bytes",
            limits.response_header_bytes
        ));
    }
    let bytes = header_value(text).map(|value| value.as_bytes().to_vec());
    let reason = bytes.and_then(|bytes| ReasonPhrase::try_from(bytes).ok());
    match reason {
        Some(reason) => Ok(Some(reason)),
        None => Err("its status text has forbidden characters".to_owned()),
    }
}

/// Checks a flat list of headers, which goes on if it was `cut`, and takes out those that are only for one
/// hop.
pub(super) fn headers_of(
    texts: &[Text<'_>],
    cut: bool,
    limits: &InstanceLimits,
) -> Result<(HeaderMap, Option<u64>), String> {
    if cut || texts.len() / 2 > limits.response_headers {
        return Err(format!(
            "it has more than {} headers",
            limits.response_headers
        ));
    }
    let mut headers = HeaderMap::with_capacity(texts.len() / 2 + ADDED);
    let mut content_length = None;
    let mut bytes = 0;
    for pair in texts.chunks(2) {
        let [name, value] = pair else {
            return Err("a header has no value".to_owned());
        };
        let (name, value) = (name.as_str(), value.as_str());
        bytes += name.len() + value.len();
        if bytes > limits.response_header_bytes {
            return Err(format!(
                "its headers have more than {} bytes",
                limits.response_header_bytes
            ));
        }
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{} is not the name of a header", shown(name)))?;
        let value = header_value(value)
            .ok_or_else(|| format!("the value of its header {name} has forbidden characters"))?;
        if name == CONTENT_LENGTH {
            let length = length_of(&value)
                .filter(|length| content_length.is_none_or(|before| before == *length))
                .ok_or_else(|| {
                    "its content-length is not a number, or there are several".to_owned()
                })?;
            content_length = Some(length);
        } else if !is_hop_by_hop(&name) {
            headers
                .try_append(name, value)
                .map_err(|_| "it has too many headers".to_owned())?;
        }
    }
    Ok((headers, content_length))
}

/// Characters are bytes of the same number; none may be above 255.
fn header_value(text: &str) -> Option<HeaderValue> {
    if text.is_ascii() {
        return HeaderValue::from_str(text).ok();
    }
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

/// Digits only (RFC 9110, section 8.6).
fn length_of(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok()?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Whether a header concerns one connection only (RFC 9110, section 7.6.1): a guest has no say in that.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    ) || name.as_str().starts_with("proxy-")
}

/// A text of a guest for a log: short, on one line.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("{short:?}")
}

impl Head {
    /// Whether a response of this status to a request of this method has no body (RFC 9110, sections 6.4.1
    /// and 9.3.2).
    pub(crate) fn has_no_body(&self, method: &Method) -> bool {
        method == Method::HEAD || matches!(self.status.as_u16(), 101 | 204 | 205 | 304)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<GuestResponse, Malformed> {
        parse_response(
            Payload::from_json(json.to_owned()),
            &InstanceLimits::default(),
        )
    }

    fn refused(json: &str) -> String {
        parse(json).unwrap().head.unwrap_err()
    }

    #[test]
    fn response_with_text_is_read() {
        let response =
            parse(r#"[7,200,["Content-Type","text/plain","x-a","1"],"hé\"llo"]"#).unwrap();
        assert_eq!(response.id, 7);
        assert_eq!(response.body, GuestBody::Whole("hé\"llo".into()));
        assert_eq!(response.socket, None);
        assert!(!response.pending);
        let head = response.head.unwrap();
        assert_eq!(head.headers["content-type"], "text/plain");
        assert_eq!(head.headers.len(), 2);
    }

    #[test]
    fn response_with_marks_is_read() {
        let mut payload = Payload {
            json: r#"[1,200,[],"\u0000b0",null,true]"#.to_owned(),
            bytes: vec![vec![1, 2]],
            marked: true,
        };
        let limits = InstanceLimits::default();
        let response = parse_response(payload.clone(), &limits).unwrap();
        assert_eq!(response.body, GuestBody::Whole(vec![1, 2].into()));
        assert!(response.pending);
        payload.json = r#"[1,200,[],"\u0000s9",3]"#.to_owned();
        let response = parse_response(payload.clone(), &limits).unwrap();
        assert_eq!(response.body, GuestBody::Stream(9));
        assert_eq!(response.socket, Some(3));
        payload.json = r#"[1,200,[],"\u0000\u0000b0"]"#.to_owned();
        let response = parse_response(payload.clone(), &limits).unwrap();
        assert_eq!(response.body, GuestBody::Whole("\0b0".into()));
        for bad in [
            "\\u0000b1",
            "\\u0000b",
            "\\u0000s-1",
            "\\u0000x0",
            "\\u0000",
            "\\u0000bé",
        ] {
            payload.json = format!(r#"[1,200,[],"{bad}"]"#);
            assert!(parse_response(payload.clone(), &limits).is_err(), "{bad}");
        }
    }

    #[test]
    fn response_that_is_none_is_malformed() {
        for json in [
            "",
            "null",
            "{}",
            "[]",
            "[1]",
            "[1,200]",
            "[-1,200,[]]",
            "[1,70000,[]]",
            "[1,200,{}]",
            "[1,200,[1]]",
            "[1,200,[],1]",
            "[1,200,[],null,\"a\"]",
            "[1,200,[],null,null,1]",
            "[1.5,200,[]]",
            "[1,200,[]",
        ] {
            assert!(parse(json).is_err(), "{json}");
        }
    }

    #[test]
    fn response_head_out_of_bounds_is_refused() {
        assert!(refused("[1,100,[]]").contains("status 100"));
        assert!(refused("[1,199,[]]").contains("status 199"));
        assert!(refused("[1,600,[]]").contains("status 600"));
        assert!(refused(r#"[1,200,["a b","1"]]"#).contains("not the name"));
        assert!(refused(r#"[1,200,["a","1\r\nb: 2"]]"#).contains("forbidden"));
        assert!(refused(r#"[1,200,["a","ā"]]"#).contains("forbidden"));
        assert!(refused(r#"[1,200,["a"]]"#).contains("no value"));
        assert!(refused(r#"[1,200,["content-length","+1"]]"#).contains("content-length"));
        assert!(
            refused(r#"[1,200,["content-length","1","content-length","2"]]"#)
                .contains("content-length")
        );
        let many = vec![r#""a","1""#; 129].join(",");
        assert!(refused(&format!("[1,200,[{many}]]")).contains("more than 128 headers"));
        let endless = vec![r#""a","1""#; MOST_TEXTS].join(",");
        assert!(refused(&format!("[1,200,[{endless}]]")).contains("more than 128 headers"));
        let large = "a".repeat(65 << 10);
        assert!(refused(&format!(r#"[1,200,["a","{large}"]]"#)).contains("65536 bytes"));
    }

    #[test]
    fn response_status_text_is_checked_like_a_header() {
        let reason = |json: &str| parse(json).unwrap().head.unwrap().reason;
        let some = |text: &[u8]| Some(ReasonPhrase::try_from(text).unwrap());
        assert_eq!(
            reason(r#"[1,299,[":reason","Very odd","a","1"]]"#),
            some(b"Very odd")
        );
        assert_eq!(reason(r#"[1,299,[":reason","\u00e9"]]"#), some(b"\xe9"));
        assert_eq!(reason(r#"[1,299,[":reason",""]]"#), None);
        assert_eq!(reason(r#"[1,200,["a","1"]]"#), None);
        for text in ["a\\r\\nset-cookie: b", "\\u0000", "\\u007f", "ā"] {
            let why = refused(&format!(r#"[1,200,[":reason","{text}"]]"#));
            assert!(why.contains("status text"), "{text}: {why}");
        }
        let long = "a".repeat(65 << 10);
        assert!(refused(&format!(r#"[1,200,[":reason","{long}"]]"#)).contains("65536 bytes"));
        // Elsewhere, and without a value, it is a name that no header has.
        assert!(refused(r#"[1,200,["a","1",":reason","b"]]"#).contains("not the name"));
        assert!(refused(r#"[1,200,[":reason"]]"#).contains("no value"));
    }

    #[test]
    fn response_headers_of_one_hop_are_dropped() {
        let response = parse(
            r#"[1,200,["Connection","x","Transfer-Encoding","chunked","Proxy-Authenticate","a",
            "Content-Length","5","Set-Cookie","a=1","Set-Cookie","b=é"]]"#,
        );
        let head = response.unwrap().head.unwrap();
        assert_eq!(head.content_length, Some(5));
        assert_eq!(head.headers.len(), 2);
        let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies[1].as_bytes(), b"b=\xe9");
    }
}
