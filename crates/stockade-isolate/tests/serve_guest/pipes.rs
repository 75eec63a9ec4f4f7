//! `connect()`: the guest's end of connections.

use libtest_mimic::Failed;
use serde_json::{Value, json};
use stockade_protocol::GuestError;

use crate::guest::{Guest, Said};
use crate::{cases, holds, same};

cases![
    socket_writes_and_reads_and_ends_both_halves,
    socket_that_is_not_read_gives_no_credit,
    socket_without_credit_waits,
    socket_that_does_not_open_rejects_with_the_reason,
    socket_that_breaks_fails_its_streams,
    socket_closed_by_the_other_side_cannot_be_written,
    end_of_the_other_side_waits_for_what_is_being_sent,
    tls_starts_on_the_same_connection,
    socket_closed_before_it_is_open_gives_up,
    messages_of_unknown_pipes_are_ignored,
    connection_of_a_client_goes_to_the_handler,
    connection_without_a_handler_is_closed,
    modules_of_node_are_there_and_their_parts_are_not,
    modules_of_node_make_its_globals,
    module_of_the_site_goes_before_one_of_node,
    every_module_of_node_loads,
];

/// A site that runs `body` with `connect`, and answers with what it gives.
fn site(body: &str) -> String {
    format!(
        "import {{ connect }} from 'cloudflare:sockets';
        export default {{ async fetch() {{
            try {{ return Response.json(await (async () => {{ {body} }})()); }}
            catch (error) {{ return Response.json({{ thrown: String(error) }}); }}
        }} }}"
    )
}

async fn opened(guest: &mut Guest, id: u64) -> Result<Value, Failed> {
    let (request, data, _) = guest.asked("socket.connect").await?;
    guest.answer(
        request,
        &json!({ "id": id, "remoteAddress": "db.example:5432" }),
    )?;
    Ok(data)
}

async fn said(guest: &mut Guest, name: &str) -> Result<Value, Failed> {
    Ok(serde_json::from_str(&guest.expect(name).await?.json)?)
}

async fn sent(guest: &mut Guest) -> Result<Vec<u8>, Failed> {
    let data = guest.expect("pipe.data").await?;
    Ok(data.bytes.into_iter().next().ok_or("no bytes")?)
}

fn chunk(guest: &Guest, id: u64, bytes: &[u8]) -> Result<(), Failed> {
    let message = json!({ "id": id, "chunk": "\0b0" });
    guest.send_control_marked("pipe.data", &message, vec![bytes.to_vec()])
}

async fn answered(guest: &mut Guest) -> Result<Value, Failed> {
    Ok(serde_json::from_str(&guest.response().await?.text())?)
}

async fn socket_writes_and_reads_and_ends_both_halves() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const socket = connect({ hostname: 'db.example', port: 5432 }, { allowHalfOpen: true });
        const writer = socket.writable.getWriter();
        writer.write('hello');
        writer.close();
        const { remoteAddress } = await socket.opened;
        const answer = await new Response(socket.readable).text();
        await socket.closed;
        return [remoteAddress, answer];",
    ))
    .await?;
    guest.get(1, "/")?;
    let asked = opened(&mut guest, 5).await?;
    same!(asked["host"], "db.example");
    same!(asked["port"], 5432);
    same!(asked["secure"], "off");
    same!(sent(&mut guest).await?, b"hello");
    same!(said(&mut guest, "pipe.end").await?["id"], 5);
    chunk(&guest, 5, b"an ")?;
    chunk(&guest, 5, b"answer")?;
    guest.send_control("pipe.end", &json!({ "id": 5 }))?;
    guest.send_control("pipe.closed", &json!({ "id": 5 }))?;
    same!(
        answered(&mut guest).await?,
        json!(["db.example:5432", "an answer"])
    );
    Ok(())
}

async fn socket_that_is_not_read_gives_no_credit() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const socket = connect('db.example:1');
        await socket.opened;
        const reader = socket.readable.getReader();
        await reader.read();
        console.log('one');
        let bytes = 0;
        for (let i = 0; i < 3; i++) bytes += (await reader.read()).value.length;
        return bytes;",
    ))
    .await?;
    guest.get(1, "/")?;
    opened(&mut guest, 0).await?;
    for _ in 0..4 {
        chunk(&guest, 0, &[7; 60_000])?;
    }
    // One chunk is under the step at which credit is given back; more are above it.
    match guest.next().await? {
        Said::Console(line) => same!(line, "one"),
        other => return Err(format!("{other:?}").into()),
    }
    let credit = said(&mut guest, "pipe.credit").await?;
    same!(credit["n"], 3 * (60_000 + 256));
    same!(answered(&mut guest).await?, 180_000);
    Ok(())
}

async fn socket_without_credit_waits() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const writer = connect('db.example:1').writable.getWriter();
        await writer.write(new Uint8Array(2_000_000));
        return 'written';",
    ))
    .await?;
    guest.get(1, "/")?;
    opened(&mut guest, 0).await?;
    let (mut total, mut cost) = (0, 0);
    while total < 2_000_000 {
        let bytes = sent(&mut guest).await?.len();
        total += bytes;
        cost += bytes + 256;
        if cost > 512 << 10 {
            return Err(format!("{cost} without credit").into());
        }
        if cost > 400 << 10 {
            guest.send_control("pipe.credit", &json!({ "id": 0, "n": cost }))?;
            cost = 0;
        }
    }
    same!(answered(&mut guest).await?, "written");
    Ok(())
}

async fn socket_that_does_not_open_rejects_with_the_reason() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const socket = connect('db.example:1', { secureTransport: 'on' });
        const why = (promise) => promise.then(() => 'none', (error) => `${error.name}: ${error.message}`);
        return [await why(socket.opened), await why(socket.closed), await why(socket.writable.getWriter().ready),
            await why(socket.readable.getReader().read()), socket.secureTransport];",
    ))
    .await?;
    guest.get(1, "/")?;
    let (request, data, _) = guest.asked("socket.connect").await?;
    same!(data["secure"], "on");
    let refused = GuestError {
        name: "TimeoutError".to_owned(),
        ..GuestError::new("too slow")
    };
    guest.handle.answer(request, Err(refused))?;
    let why = "TimeoutError: too slow";
    same!(
        answered(&mut guest).await?,
        json!([why, why, why, why, "on"])
    );
    Ok(())
}

async fn socket_that_breaks_fails_its_streams() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const socket = connect('db.example:1');
        await socket.opened;
        const why = (promise) => promise.then(() => 'none', (error) => error.message);
        const reader = socket.readable.getReader();
        const { value } = await reader.read();
        return [value.length, await why(reader.read()), await why(socket.closed),
            await why(socket.writable.getWriter().write('x'))];",
    ))
    .await?;
    guest.get(1, "/")?;
    opened(&mut guest, 3).await?;
    // What came before the end is read before the failure.
    chunk(&guest, 3, b"abc")?;
    let failed = json!({ "id": 3, "name": "TypeError", "message": "reset" });
    guest.send_control("pipe.failed", &failed)?;
    same!(
        answered(&mut guest).await?,
        json!([3, "reset", "reset", "reset"])
    );
    Ok(())
}

async fn socket_closed_by_the_other_side_cannot_be_written() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const socket = connect('db.example:1');
        const { done } = await socket.readable.getReader().read();
        const why = await socket.writable.getWriter().write('x').then(() => 'none', (error) => error.message);
        return [done, why];",
    ))
    .await?;
    guest.get(1, "/")?;
    opened(&mut guest, 0).await?;
    guest.send_control("pipe.end", &json!({ "id": 0 }))?;
    said(&mut guest, "pipe.end").await?;
    let answer = answered(&mut guest).await?;
    same!(answer[0], true);
    holds!(answer[1].as_str().unwrap_or(""), "ended");
    Ok(())
}

async fn end_of_the_other_side_waits_for_what_is_being_sent() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const socket = connect('db.example:1');
        const writer = socket.writable.getWriter();
        await writer.write(new Uint8Array(600_000));
        await writer.close();
        return 'closed';",
    ))
    .await?;
    guest.get(1, "/")?;
    opened(&mut guest, 0).await?;
    let mut total = 0;
    while total < 500_000 {
        total += sent(&mut guest).await?.len();
    }
    // More waits for credit. The host ends a guest that sends anything after its end.
    guest.send_control("pipe.end", &json!({ "id": 0 }))?;
    guest.send_control("pipe.credit", &json!({ "id": 0, "n": 400_000 }))?;
    while total < 600_000 {
        total += sent(&mut guest).await?.len();
    }
    same!(said(&mut guest, "pipe.end").await?["id"], 0);
    same!(answered(&mut guest).await?, "closed");
    Ok(())
}

async fn tls_starts_on_the_same_connection() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const first = connect('db.example:1', { secureTransport: 'starttls' });
        const writer = first.writable.getWriter();
        await writer.write('start');
        writer.releaseLock();
        const socket = first.startTls({ expectedServerHostname: 'proven.example' });
        const again = (() => { try { first.startTls(); return 'no error'; } catch (error) { return error.name; } })();
        await socket.writable.getWriter().write('secret');
        await first.closed;
        const { value } = await socket.readable.getReader().read();
        return [first.upgraded, socket.upgraded, socket.secureTransport, again, new TextDecoder().decode(value)];",
    ))
    .await?;
    guest.get(1, "/")?;
    opened(&mut guest, 4).await?;
    same!(sent(&mut guest).await?, b"start");
    same!(
        said(&mut guest, "pipe.tls").await?,
        json!({ "id": 4, "name": "proven.example" })
    );
    // Nothing is said in between; what came in plain goes to no one.
    chunk(&guest, 4, b"injected")?;
    guest.send_control("pipe.secured", &json!({ "id": 4 }))?;
    same!(sent(&mut guest).await?, b"secret");
    chunk(&guest, 4, b"reply")?;
    same!(
        answered(&mut guest).await?,
        json!([true, false, "on", "TypeError", "reply"])
    );
    Ok(())
}

async fn socket_closed_before_it_is_open_gives_up() -> Result<(), Failed> {
    let mut guest = Guest::start(&site(
        "const socket = connect('db.example:1');
        await socket[Symbol.asyncDispose]();
        return await socket.opened.then(() => 'opened', (error) => error.name);",
    ))
    .await?;
    guest.get(1, "/")?;
    let (request, ..) = guest.asked("socket.connect").await?;
    same!(said(&mut guest, "request.cancel").await?["id"], request);
    same!(answered(&mut guest).await?, "TypeError");
    Ok(())
}

async fn messages_of_unknown_pipes_are_ignored() -> Result<(), Failed> {
    let mut guest = Guest::start(&site("return 1;")).await?;
    for name in [
        "pipe.end",
        "pipe.credit",
        "pipe.secured",
        "pipe.closed",
        "pipe.failed",
    ] {
        guest.send_control(name, &json!({ "id": 9, "n": 1e9 }))?;
    }
    chunk(&guest, 9, b"x")?;
    guest.get(1, "/")?;
    same!(answered(&mut guest).await?, 1);
    Ok(())
}

async fn connection_of_a_client_goes_to_the_handler() -> Result<(), Failed> {
    let code = "export default { async connect(socket, env, ctx) {
        ctx.waitUntil(Promise.resolve());
        const { remoteAddress } = await socket.opened;
        const writer = socket.writable.getWriter();
        await writer.write(`${remoteAddress} ${socket.secureTransport} ${env.A}`);
        await writer.close();
    } }";
    let mut guest = Guest::start_with(code, json!({ "A": 1 })).await?;
    let info = json!({ "id": 6, "remoteAddress": "192.0.2.7:1", "localAddress": "192.0.2.1:25" });
    guest.send_control("connect.run", &json!([3, info, "tls"]))?;
    same!(sent(&mut guest).await?, b"192.0.2.7:1 on 1");
    same!(said(&mut guest, "pipe.end").await?["id"], 6);
    same!(guest.expect("connect.done").await?.json, "[3,null]");
    Ok(())
}

async fn connection_without_a_handler_is_closed() -> Result<(), Failed> {
    let mut guest = Guest::start("export default { fetch() {}, connect: 5 }").await?;
    guest.send_control("connect.run", &json!([3, { "id": 6 }, "tcp"]))?;
    holds!(matches_uncaught(guest.next().await?)?, "no connect handler");
    same!(said(&mut guest, "pipe.close").await?["id"], 6);
    holds!(
        guest.expect("connect.done").await?.json,
        "no connect handler"
    );
    Ok(())
}

fn matches_uncaught(said: Said) -> Result<String, Failed> {
    match said {
        Said::Uncaught(error) => Ok(error.message),
        other => Err(format!("{other:?}").into()),
    }
}

async fn modules_of_node_are_there_and_their_parts_are_not() -> Result<(), Failed> {
    let code = "
        import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
        import { EventEmitter, once } from 'events';
        import { Readable } from 'node:stream';
        import { promisify, inspect } from 'node:util';
        import path from 'path';
        import { parse } from 'node:url';
        import zlib from 'node:zlib';
        import { setTimeout as sleep } from 'node:timers/promises';
        import { readFileSync } from 'node:fs';
        const fails = async (name) => await import(name).then(() => 'loaded', (error) => error.message.split(';')[0]);
        export default { async fetch() {
            const emitter = new EventEmitter();
            queueMicrotask(() => emitter.emit('a', 1));
            const [value] = await once(emitter, 'a');
            const parts = [];
            for await (const part of Readable.from(['a', 'b'])) parts.push(part);
            let code; try { readFileSync('/etc/passwd'); } catch (error) { code = error.code; }
            return Response.json([
                createHash('md5').update('a').digest('hex'),
                createHmac('sha256', 'k').update('a').digest('base64'),
                pbkdf2Sync('p', 's', 2, 8, 'sha512').toString('hex'),
                value, parts.join(''), path.join('/a', '../b'), parse('redis://u:p@h:1/2').hostname,
                zlib.inflateSync(zlib.deflateSync('text')).toString(), await sleep(1, 'slept'), code,
                await promisify((x, done) => done(null, x))(3), inspect({ a: [1] }),
                await fails('node:cluster'), await fails('internal:errors'), await fails('internal:vendor/util'),
            ]);
        } }";
    let mut guest = Guest::start(code).await?;
    let answer: Value = serde_json::from_str(&guest.fetch("/").await?.text())?;
    let expected = json!([
        "0cc175b9c0f1b6a831c399e269772661",
        "LPBFgHhYkjtGrCOmdCJU+bhTrPuR3XJ1tx37zkPd1CM=",
    ]);
    same!(answer[0], expected[0]);
    same!(answer[2].as_str().map(str::len), Some(16));
    same!(
        json!([
            answer[3], answer[4], answer[5], answer[6], answer[7], answer[8], answer[9],
            answer[10], answer[11]
        ]),
        json!([
            1,
            "ab",
            "/b",
            "h",
            "text",
            "slept",
            "ENOENT",
            3,
            "{ a: [ 1 ] }"
        ])
    );
    holds!(answer[12].as_str().unwrap_or(""), "no such module of Node");
    for part in [&answer[13], &answer[14]] {
        holds!(part.as_str().unwrap_or(""), "cannot import");
    }
    Ok(())
}

async fn modules_of_node_make_its_globals() -> Result<(), Failed> {
    let without = "export default { fetch: () => Response.json([typeof Buffer, typeof setImmediate, Object.keys(process.versions)]) }";
    let mut guest = Guest::start(without).await?;
    same!(
        guest.fetch("/").await?.text(),
        r#"["undefined","undefined",[]]"#
    );
    let with = "import 'node:net';
        export default { fetch: () => Response.json([Buffer.from('h\\u00e9').toString('base64url'), typeof setImmediate,
            Object.keys(process.versions), process.platform, navigator.userAgent]) }";
    let mut guest = Guest::start(with).await?;
    let text = guest.fetch("/").await?.text();
    same!(
        text,
        r#"["aMOp","function",["node"],"linux","Cloudflare-Workers"]"#
    );
    Ok(())
}

async fn module_of_the_site_goes_before_one_of_node() -> Result<(), Failed> {
    let main = "import { own } from 'path'; import path from 'node:path';
        export default { fetch: () => Response.json([own, typeof path.join]) }";
    let modules = [("main.js", main), ("path", "export const own = 'own';")];
    let mut guest = Guest::create(&modules, json!({})).await?;
    guest.control().await?;
    same!(guest.fetch("/").await?.text(), r#"["own","function"]"#);
    Ok(())
}

async fn every_module_of_node_loads() -> Result<(), Failed> {
    let imports: String = stockade_limits::NODE_MODULES
        .iter()
        .enumerate()
        .map(|(n, name)| format!("import * as m{n} from 'node:{name}';\n"))
        .collect();
    let code = format!(
        "{imports}
        import {{ createRequire, builtinModules }} from 'node:module';
        const require = createRequire('/');
        export default {{ fetch() {{
            for (const name of builtinModules) if (require(name) === undefined) return new Response(name);
            return Response.json(builtinModules.length);
        }} }}"
    );
    let mut guest = Guest::start(&code).await?;
    let text = guest.fetch("/").await?.text();
    // All but `node:module` itself.
    same!(text, (stockade_limits::NODE_MODULES.len() - 1).to_string());
    Ok(())
}
