//! `EventSource`: server-sent events that a site reads.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::guest::{Guest, Said};
use crate::{cases, same};

cases![
    events_are_received_and_the_source_connects_again,
    source_of_anything_else_fails_for_good,
    source_that_is_closed_asks_no_more,
];

/// Answers with what came once its source is closed.
const SITE: &str = "export default { fetch: () => new Promise((resolve) => {
    const seen = [];
    const source = new EventSource('https://a.example/events');
    const { CLOSED } = EventSource;
    source.onopen = () => seen.push('open ' + source.readyState);
    source.onmessage = ({ data, lastEventId, origin, isTrusted }) => {
        seen.push([data, lastEventId, origin, isTrusted]);
        if (data === 'close') { source.close(); resolve(Response.json(seen)); }
    };
    source.addEventListener('named', ({ data }) => seen.push('named ' + data));
    source.onerror = () => {
        seen.push('error ' + source.readyState);
        if (source.readyState === CLOSED) resolve(Response.json(seen));
    };
}) }";

/// The next `fetch`; answers it with a stream of this type.
async fn connect(guest: &mut Guest, kind: &str) -> Result<Value, Failed> {
    loop {
        match guest.next().await? {
            Said::Request(id, method, data) => {
                same!(method, "fetch");
                let headers = json!([["content-type", kind]]);
                let answer = json!({ "status": 200, "headers": headers, "body": "\0s4" });
                guest.answer_marked(id, &answer, Vec::new())?;
                return Ok(serde_json::from_str::<Value>(&data.json)?["headers"].take());
            }
            Said::Control(..) => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
}

fn say(guest: &Guest, bytes: &[u8]) -> Result<(), Failed> {
    let chunk = json!({ "id": 4, "chunk": "\0b0" });
    guest.send_control_marked("stream.chunk", &chunk, vec![bytes.to_vec()])
}

/// What the handler answers at last.
async fn seen(guest: &mut Guest) -> Result<Value, Failed> {
    loop {
        match guest.control().await? {
            (name, data) if name == "http.response" => {
                return Ok(serde_json::from_slice(&data.bytes[0])?);
            }
            _ => {}
        }
    }
}

async fn events_are_received_and_the_source_connects_again() -> Result<(), Failed> {
    let mut guest = Guest::start(SITE).await?;
    guest.get(1, "/")?;
    let headers = connect(&mut guest, "Text/Event-Stream; charset=utf-8").await?;
    same!(
        headers,
        json!({ "accept": "text/event-stream", "cache-control": "no-cache" })
    );
    let text = "\u{feff}retry:1\n: a comment\ndata: two\r\ndata:lines\r\rid: é7\nevent: named\ndata\n\n\
         event: forgotten\n\ndata:  tést\nunknown: x\n\ndata: cut off";
    // Lines and characters may be cut anywhere.
    for part in text.as_bytes().chunks(3) {
        say(&guest, part)?;
    }
    guest.send_control("stream.end", &json!({ "id": 4 }))?;
    let headers = connect(&mut guest, "text/event-stream").await?;
    // The id as UTF-8, a character for each byte.
    same!(headers["last-event-id"], "Ã©7");
    say(&guest, b"data: close\n\ndata: never\n\n")?;
    let origin = "https://a.example";
    same!(
        seen(&mut guest).await?,
        json!([
            "open 1",
            ["two\nlines", "", origin, true],
            "named ",
            [" tést", "é7", origin, true],
            "error 0",
            "open 1",
            ["close", "é7", origin, true],
        ])
    );
    Ok(())
}

async fn source_of_anything_else_fails_for_good() -> Result<(), Failed> {
    for kind in ["text/plain", "text/event-streams", ""] {
        let mut guest = Guest::start(SITE).await?;
        guest.get(1, "/")?;
        connect(&mut guest, kind).await?;
        same!(seen(&mut guest).await?, json!(["error 2"]));
    }
    Ok(())
}

async fn source_that_is_closed_asks_no_more() -> Result<(), Failed> {
    let code = "export default { async fetch() {
        const source = new EventSource('https://a.example/');
        source.onerror = () => console.log('error');
        source.close();
        let invalid;
        try { new EventSource('nowhere') } catch (error) { invalid = error.name }
        return Response.json([source.readyState, source.url, source.withCredentials, invalid, EventSource.OPEN]);
    } }";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/")?;
    same!(
        seen_after_requests(&mut guest).await?,
        json!([2, "https://a.example/", false, "SyntaxError", 1])
    );
    Ok(())
}

/// As [`seen`], whether the request has left by then or not.
async fn seen_after_requests(guest: &mut Guest) -> Result<Value, Failed> {
    loop {
        match guest.next().await? {
            Said::Control(name, data) if name == "http.response" => {
                return Ok(serde_json::from_slice(&data.bytes[0])?);
            }
            Said::Control(..) | Said::Request(..) => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
}
