//! WebSockets of clients.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::guest::{Guest, Said};
use crate::{cases, holds, same};

cases![
    socket_echoes_text_and_bytes,
    socket_close_of_the_client_is_received,
    socket_close_of_the_handler_is_sent,
    socket_message_said_before_the_answer_follows_it,
    socket_keeps_its_order_while_a_blob_is_read,
    socket_behind_a_blob_has_its_bound,
    socket_message_before_accept_waits,
    socket_without_credit_waits_and_has_a_bound,
    socket_gives_credit_as_it_receives,
    socket_handed_over_is_not_usable,
    response_of_status_101_needs_a_socket,
    response_with_socket_needs_status_101,
    pair_within_the_isolate_talks_to_itself,
    socket_is_a_websocket_and_cannot_be_constructed,
    message_to_unknown_socket_is_ignored,
];

const ECHO: &str = "export default { fetch(r) {
    const { 0: client, 1: server } = new WebSocketPair();
    server.accept();
    server.addEventListener('message', (event) => {
        if (event.data === 'close') server.close(4000, 'asked');
        else server.send(event.data);
    });
    server.addEventListener('close', (event) => console.log('closed', event.code, event.reason, event.wasClean));
    return new Response(null, { status: 101, webSocket: client, headers: { 'sec-websocket-protocol': 'chat' } });
} }";

async fn open(guest: &mut Guest) -> Result<u64, Failed> {
    let answer = guest.fetch("/").await?;
    same!(answer.status, 101);
    Ok(answer.socket.ok_or("no socket")?)
}

async fn said(guest: &mut Guest, name: &str) -> Result<Value, Failed> {
    Ok(serde_json::from_str(&guest.expect(name).await?.json)?)
}

async fn line(guest: &mut Guest) -> Result<String, Failed> {
    match guest.next().await? {
        Said::Console(text) => Ok(text),
        other => Err(format!("{other:?}").into()),
    }
}

async fn socket_echoes_text_and_bytes() -> Result<(), Failed> {
    let mut guest = Guest::start(ECHO).await?;
    let answer = guest.fetch("/").await?;
    same!(answer.header("sec-websocket-protocol"), Some("chat"));
    let id = answer.socket.ok_or("no socket")?;
    guest.send_control("socket.message", &json!({ "id": id, "data": "hé" }))?;
    same!(
        said(&mut guest, "socket.message").await?,
        json!({ "id": id, "data": "hé" })
    );
    guest.send_control_marked(
        "socket.message",
        &json!({ "id": id, "data": "\0b0" }),
        vec![vec![1, 2]],
    )?;
    let data = guest.expect("socket.message").await?;
    same!(data.bytes, vec![vec![1, 2]]);
    Ok(())
}

async fn socket_close_of_the_client_is_received() -> Result<(), Failed> {
    let mut guest = Guest::start(ECHO).await?;
    for (code, text) in [
        (json!(4001), "closed 4001 bye true"),
        (json!(null), "closed 1005 bye true"),
        (json!(1006), "closed 1006 bye false"),
    ] {
        let id = open(&mut guest).await?;
        guest.send_control(
            "socket.close",
            &json!({ "id": id, "code": code, "reason": "bye" }),
        )?;
        same!(line(&mut guest).await?, text);
    }
    Ok(())
}

async fn socket_close_of_the_handler_is_sent() -> Result<(), Failed> {
    let mut guest = Guest::start(ECHO).await?;
    let id = open(&mut guest).await?;
    guest.send_control("socket.message", &json!({ "id": id, "data": "close" }))?;
    let close = said(&mut guest, "socket.close").await?;
    same!(close, json!({ "id": id, "code": 4000, "reason": "asked" }));
    // What comes until the client has answered is not for the handler any more.
    guest.send_control("socket.message", &json!({ "id": id, "data": "late" }))?;
    guest.send_control(
        "socket.close",
        &json!({ "id": id, "code": 4000, "reason": "asked" }),
    )?;
    same!(line(&mut guest).await?, "closed 4000 asked true");
    Ok(())
}

async fn socket_message_said_before_the_answer_follows_it() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        server.send('first');
        server.close();
        return new Response(null, { status: 101, webSocket: client });
    } }";
    let mut guest = Guest::start(code).await?;
    let id = open(&mut guest).await?;
    same!(said(&mut guest, "socket.message").await?["data"], "first");
    same!(
        said(&mut guest, "socket.close").await?,
        json!({ "id": id, "reason": "" })
    );
    Ok(())
}

async fn socket_keeps_its_order_while_a_blob_is_read() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const [client, server] = new WebSocketPair();
        server.accept();
        server.onmessage = () => {
            server.send(new Blob(['one']));
            server.send('two');
            server.send(new Blob(['three']));
            console.log(server.bufferedAmount);
            server.close(undefined, 'why');
            server.send('late');
        };
        return new Response(null, { status: 101, webSocket: client });
    } }";
    let mut guest = Guest::start(code).await?;
    let id = open(&mut guest).await?;
    guest.send_control("socket.message", &json!({ "id": id, "data": "go" }))?;
    same!(line(&mut guest).await?, "11");
    same!(
        guest.expect("socket.message").await?.bytes,
        vec![b"one".to_vec()]
    );
    same!(said(&mut guest, "socket.message").await?["data"], "two");
    same!(
        guest.expect("socket.message").await?.bytes,
        vec![b"three".to_vec()]
    );
    same!(
        said(&mut guest, "socket.close").await?,
        json!({ "id": id, "code": 1000, "reason": "why" })
    );
    Ok(())
}

async fn socket_behind_a_blob_has_its_bound() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const [client, server] = new WebSocketPair();
        server.accept();
        server.onmessage = () => {
            server.send(new Blob(['first']));
            const big = 'x'.repeat(1024 * 1024);
            try { for (let i = 0; i < 100; i++) server.send(big) } catch (error) { console.log(error.message) }
            const blob = new Blob([big]);
            try { for (let i = 0; i < 100; i++) server.send(blob) } catch (error) { console.log(error.message) }
        };
        return new Response(null, { status: 101, webSocket: client });
    } }";
    let mut guest = Guest::start(code).await?;
    let id = open(&mut guest).await?;
    guest.send_control("socket.message", &json!({ "id": id, "data": "go" }))?;
    holds!(line(&mut guest).await?, "reader is too slow");
    holds!(line(&mut guest).await?, "reader is too slow");
    same!(
        guest.expect("socket.message").await?.bytes,
        vec![b"first".to_vec()]
    );
    Ok(())
}

async fn socket_message_before_accept_waits() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const [client, server] = Object.values(new WebSocketPair());
        setTimeout(() => {
            server.onmessage = (event) => console.log(event.data);
            server.onclose = (event) => console.log('closed');
            server.accept();
        }, 20);
        return new Response(null, { status: 101, webSocket: client });
    } }";
    let mut guest = Guest::start(code).await?;
    let id = open(&mut guest).await?;
    for data in ["a", "b"] {
        guest.send_control("socket.message", &json!({ "id": id, "data": data }))?;
    }
    guest.send_control(
        "socket.close",
        &json!({ "id": id, "code": 1000, "reason": "" }),
    )?;
    for text in ["a", "b", "closed"] {
        same!(line(&mut guest).await?, text);
    }
    Ok(())
}

async fn socket_without_credit_waits_and_has_a_bound() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        server.onmessage = () => {
            for (let i = 0; i < 70; i++) server.send(String(i));
            console.log(server.bufferedAmount);
            const big = 'x'.repeat(1024 * 1024);
            try { for (let i = 0; i < 100; i++) server.send(big); } catch (error) { console.log(error.message); }
        };
        return new Response(null, { status: 101, webSocket: client });
    } }";
    let mut guest = Guest::start(code).await?;
    let id = open(&mut guest).await?;
    guest.send_control("socket.message", &json!({ "id": id, "data": "go" }))?;
    for n in 0..64 {
        same!(
            said(&mut guest, "socket.message").await?["data"],
            n.to_string()
        );
    }
    same!(line(&mut guest).await?, "12");
    holds!(line(&mut guest).await?, "reader is too slow");
    guest.send_control("socket.credit", &json!({ "id": id, "n": 6 }))?;
    for n in 64..70 {
        same!(
            said(&mut guest, "socket.message").await?["data"],
            n.to_string()
        );
    }
    Ok(())
}

async fn socket_gives_credit_as_it_receives() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const [client, server] = Object.values(new WebSocketPair());
        server.accept();
        return new Response(null, { status: 101, webSocket: client });
    } }";
    let mut guest = Guest::start(code).await?;
    let id = open(&mut guest).await?;
    for _ in 0..64 {
        guest.send_control("socket.message", &json!({ "id": id, "data": "" }))?;
    }
    for _ in 0..2 {
        same!(
            said(&mut guest, "socket.credit").await?,
            json!({ "id": id, "n": 32 })
        );
    }
    Ok(())
}

async fn socket_handed_over_is_not_usable() -> Result<(), Failed> {
    let code = "export default { fetch(r) {
        const [client, server] = Object.values(new WebSocketPair());
        if (r.url.endsWith('/accepted')) client.accept();
        const response = new Response(null, { status: 101, webSocket: client });
        setTimeout(() => {
            for (const what of ['accept', 'send', 'close']) {
                try { client[what]('x') } catch (error) { console.log(error.message) }
            }
        });
        return response;
    } }";
    let mut guest = Guest::start(code).await?;
    open(&mut guest).await?;
    for what in ["accept", "send", "close"] {
        let line = line(&mut guest).await?;
        holds!(line, what);
        holds!(line, "went to the client");
    }
    guest.get(1, "/accepted")?;
    holds!(guest.failure().await?.2, "is in use");
    Ok(())
}

async fn response_of_status_101_needs_a_socket() -> Result<(), Failed> {
    let mut guest =
        Guest::start("export default { fetch: () => new Response(null, { status: 101 }) }").await?;
    guest.get(1, "/")?;
    holds!(guest.failure().await?.2, "needs a webSocket");
    Ok(())
}

async fn response_with_socket_needs_status_101() -> Result<(), Failed> {
    let code = "export default { fetch: (r) => new Response(null, { webSocket:
        r.url.endsWith('/other') ? {} : new WebSocketPair()[0] }) }";
    let mut guest = Guest::start(code).await?;
    guest.get(1, "/")?;
    holds!(
        guest.failure().await?.2,
        "must have the status 101, not 200"
    );
    guest.get(1, "/other")?;
    holds!(guest.failure().await?.2, "one end of a WebSocketPair");
    Ok(())
}

async fn pair_within_the_isolate_talks_to_itself() -> Result<(), Failed> {
    let code = "export default { fetch: () => new Promise((resolve) => {
        const [a, b] = Object.values(new WebSocketPair());
        const seen = [];
        b.accept();
        b.onmessage = ({ data }) => b.send('re: ' + data);
        b.onclose = ({ code }) => seen.push('b ' + code);
        a.accept();
        a.addEventListener('message', ({ data }) => { seen.push(data); a.close(1000, 'done'); });
        a.onclose = ({ reason }) => { seen.push('a ' + reason, a.readyState, b.readyState); resolve(Response.json(seen)); };
        a.send('hello');
    }) }";
    let mut guest = Guest::start(code).await?;
    let seen: Value = serde_json::from_str(&guest.fetch("/").await?.text())?;
    same!(seen, json!(["re: hello", "b 1000", "a done", 3, 3]));
    Ok(())
}

async fn socket_is_a_websocket_and_cannot_be_constructed() -> Result<(), Failed> {
    let code = "export default { fetch() {
        const pair = new WebSocketPair();
        const [client] = Object.values(pair);
        const seen = [client instanceof WebSocket, client.readyState === WebSocket.OPEN, client.OPEN,
            client.url, client.protocol, client.binaryType, Object.keys(pair),
            new Response(null, { status: 101, webSocket: client }).webSocket === client,
            new Response('').webSocket];
        for (const attempt of [() => WebSocket.prototype.send.call(client, 'x'),
            () => Reflect.get(Object.getPrototypeOf(client), 'readyState', {}),
            () => pair[1].send('not accepted')]) {
            try { attempt(); seen.push('no error') } catch (error) { seen.push(error.name) }
        }
        return Response.json(seen);
    } }";
    let mut guest = Guest::start(code).await?;
    let seen: Value = serde_json::from_str(&guest.fetch("/").await?.text())?;
    same!(
        seen,
        json!([
            true,
            true,
            1,
            null,
            "",
            "arraybuffer",
            ["0", "1"],
            true,
            null,
            "no error",
            "TypeError",
            "InvalidStateError"
        ])
    );
    Ok(())
}

async fn message_to_unknown_socket_is_ignored() -> Result<(), Failed> {
    let mut guest = Guest::start(ECHO).await?;
    guest.send_control("socket.message", &json!({ "id": 9, "data": "" }))?;
    guest.send_control("socket.close", &json!({ "id": 9 }))?;
    guest.send_control("socket.credit", &json!({ "id": 9, "n": 1 }))?;
    open(&mut guest).await?;
    Ok(())
}
