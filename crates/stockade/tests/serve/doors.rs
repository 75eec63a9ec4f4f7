//! Databases that the guest's own driver speaks to: real servers, and a guest that speaks their protocols by hand.
//! A test whose server is not installed is skipped with a message.

use serde_json::json;

use crate::client::run;
use crate::database_servers::{self, PASSWORD, Running};
use crate::server::{PATIENCE, PLAIN, Server, folder};

/// `/postgres`, `/mysql` and `/redis` ask for one value; `?by=driver` and `?by=node` connect to the host and the port of the
/// binding, as drivers for Workers and for Node do.
const GUEST: &str = r#"
import net from "node:net";
import { connect } from "cloudflare:sockets";

const encoder = new TextEncoder();

function opened(binding, by) {
  if (by === "node") {
    const socket = net.connect({ host: binding.host, port: binding.port });
    const readable = new ReadableStream({
      start(controller) {
        socket.on("data", (bytes) => controller.enqueue(bytes));
        socket.on("error", (error) => controller.error(error));
      },
    });
    const writer = { write: (bytes) => { socket.write(bytes); }, close: () => { socket.end(); } };
    return { writer, reader: readable.getReader() };
  }
  const socket = by === "driver"
    ? connect({ hostname: binding.host, port: binding.port })
    : binding.connect();
  return { writer: socket.writable.getWriter(), reader: socket.readable.getReader() };
}

function frame(type, body) {
  const bytes = encoder.encode(type + "\0\0\0\0" + body);
  new DataView(bytes.buffer).setUint32(type.length, bytes.length - type.length);
  return bytes;
}

async function postgres(binding, by, statement) {
  const { writer, reader } = opened(binding, by);
  const greeting = frame("", "\0\x03\0\0user\0" + binding.user + "\0database\0" + binding.database + "\0\0");
  await writer.write(greeting);
  let held = new Uint8Array();
  const until = async (last) => {
    const values = [];
    for (;;) {
      const view = new DataView(held.buffer, held.byteOffset, held.length);
      if (held.length >= 5 && held.length > view.getUint32(1)) {
        const end = view.getUint32(1) + 1;
        const type = String.fromCharCode(held[0]);
        // Of a row, its one value; of an error, its fields.
        if (type === "D") values.push(new TextDecoder().decode(held.subarray(11, end)));
        if (type === "E") throw new Error(new TextDecoder().decode(held.subarray(5, end)));
        held = held.slice(end);
        if (type === last) return values;
        continue;
      }
      const { value, done } = await reader.read();
      if (done) throw new Error("the connection has ended");
      const both = new Uint8Array(held.length + value.length);
      both.set(held);
      both.set(value, held.length);
      held = both;
    }
  };
  await until("Z");
  await writer.write(frame("Q", statement + "\0"));
  const values = await until("Z");
  await writer.write(frame("X", ""));
  await writer.close();
  return values;
}

async function mysql(binding, by, statement) {
  const { writer, reader } = opened(binding, by);
  let held = new Uint8Array();
  const packet = async () => {
    for (;;) {
      const length = held.length < 4 ? Infinity : held[0] | held[1] << 8 | held[2] << 16;
      if (held.length >= 4 + length) {
        const body = held.slice(4, 4 + length);
        held = held.slice(4 + length);
        if (body[0] === 0xff) throw new Error(new TextDecoder().decode(body.subarray(9)));
        return body;
      }
      const { value, done } = await reader.read();
      if (done) throw new Error("the connection has ended");
      const both = new Uint8Array(held.length + value.length);
      both.set(held);
      both.set(value, held.length);
      held = both;
    }
  };
  const send = async (number, body) => {
    const bytes = encoder.encode("\0\0\0\0" + body);
    new DataView(bytes.buffer).setUint32(0, bytes.length - 4 | number << 24, true);
    await writer.write(bytes);
  };
  await packet();
  // Protocol 4.1, a database, a password of its own kind; below 128 each, so that the text is the bytes.
  const greeting = "\x09\x02\x08\0\0\0\0\x01\x21" + "\0".repeat(23);
  await send(1, greeting + binding.user + "\0\0" + binding.database + "\0mysql_native_password\0");
  for (let answer = await packet(), number = 3; answer[0] !== 0; answer = await packet(), number += 2) await send(number, "");
  await send(0, "\x03" + statement);
  const columns = (await packet())[0];
  for (let i = 0; i < columns + 1; i++) await packet();
  const values = [];
  for (let row = await packet(); row[0] !== 0xfe; row = await packet()) values.push(new TextDecoder().decode(row.subarray(1)));
  await send(0, "\x01");
  await writer.close();
  return values;
}

async function redis(binding, by, command) {
  const { writer, reader } = opened(binding, by);
  const parts = command.split(" ").map((part) => `$${part.length}\r\n${part}\r\n`);
  await writer.write(encoder.encode(`*${parts.length}\r\n${parts.join("")}`));
  const { value } = await reader.read();
  await writer.close();
  return new TextDecoder().decode(value);
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const [by, text] = [url.searchParams.get("by"), url.searchParams.get("text")];
    try {
      switch (url.pathname) {
        case "/postgres": return Response.json(await postgres(env.DB, by, text));
        case "/mysql": return Response.json(await mysql(env.DB, by, text));
        // A door has no TLS of the guest's, and says so before anything is opened.
        case "/secure": {
          const { host, port } = env.DB;
          const socket = connect({ hostname: host, port }, { secureTransport: "on" });
          const why = async (promise) => await promise.then(() => "no error", (error) => String(error));
          return Response.json([await why(socket.opened), await why(socket.closed)]);
        }
        case "/redis": return Response.json(await redis(env.CACHE, by, text));
        default: return Response.json(env);
      }
    } catch (error) {
      return Response.json({ name: error.name, message: error.message });
    }
  },
};
"#;

/// Calls of the grant `DB` of PostgreSQL that have ended.
const CALLS: &str = "stockade_capability_calls_total{instance=\"site\",binding=\"DB\",kind=\"postgres\",method=\"connect\",outcome=\"ok\"}";

fn serve(kind: &str, name: &str, url: &str, more: &str) -> Server {
    serve_guest(GUEST, kind, name, url, more)
}

/// A site with the code of a guest and one grant.
pub(crate) fn serve_guest(guest: &str, kind: &str, name: &str, url: &str, more: &str) -> Server {
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    grants:
      {name}:
        {kind}:
          url: {{file: ./url.txt}}
{more}"
    );
    let files = [("main.js", guest), ("url.txt", url)];
    Server::start_in(folder(&config, &files), &Default::default())
}

/// PostgreSQL with a role for guests, and its URL.
pub(crate) fn shop() -> Option<(Running, String)> {
    let server = database_servers::postgres(&[])?;
    server.psql(&format!("create role app login password '{PASSWORD}'"));
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:{}/shop", server.port);
    Some((server, url))
}

#[test]
fn guest_asks_postgresql_without_the_password() {
    let Some((_database, url)) = shop() else {
        return;
    };
    let server = serve("postgres", "DB", &url, "");
    run(async {
        for by in ["binding", "driver", "node"] {
            let path = format!("/postgres?by={by}&text=select%201");
            assert_eq!(server.get("a", &path).await.json(), json!(["1"]), "{by}");
        }
        let path = "/postgres?text=select%20current_user||current_database()";
        assert_eq!(server.get("a", path).await.json(), json!(["appshop"]));
        // What the guest knows of it, none of which is the server's address or login.
        let env = server.get("a", "/env").await.json();
        let database = &env["DB"];
        assert_eq!(database["database"], "shop");
        assert_eq!(database["port"], 5432);
        let host = database["host"].as_str().unwrap();
        let string = format!("postgresql://guest:none@{host}:5432/shop?sslmode=disable");
        assert_eq!(database["connectionString"], string.as_str());
        server.until(CALLS, |count| count == 4.0).await;
    });
    assert!(!server.log_text().contains(PASSWORD));
}

#[test]
fn connection_to_a_door_with_tls_is_refused_with_its_reason() {
    // No server is needed: none is asked.
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:1/shop");
    let server = serve("postgres", "DB", &url, "");
    let refused = run(async { server.get("a", "/secure").await.json() });
    for why in refused.as_array().unwrap() {
        let why = why.as_str().unwrap();
        assert!(
            why.contains("env.DB") && why.contains("secureTransport: \"off\""),
            "{why}"
        );
    }
}

#[test]
fn guest_asks_mariadb_without_the_password() {
    let Some(database) = database_servers::mariadb(&[]) else {
        return;
    };
    database.mariadb(&format!(
        "create user app@'%' identified by '{PASSWORD}'; grant select, insert on shop.* to app@'%'"
    ));
    let url = format!("mysql://app:{PASSWORD}@127.0.0.1:{}/shop", database.port);
    let server = serve("mysql", "DB", &url, "          rows: 3\n");
    run(async {
        for by in ["binding", "driver", "node"] {
            let path = format!("/mysql?by={by}&text=select%201");
            assert_eq!(server.get("a", &path).await.json(), json!(["1"]), "{by}");
        }
        let path =
            "/mysql?text=select%20concat(substring_index(current_user(),%27@%27,1),database())";
        assert_eq!(server.get("a", path).await.json(), json!(["appshop"]));
        let within = server
            .get("a", "/mysql?text=select%201%20union%20select%202")
            .await;
        assert_eq!(within.json(), json!(["1", "2"]));
        let path =
            "/mysql?text=select%201%20union%20select%202%20union%20select%203%20union%20select%204";
        let beyond = server.get("a", path).await.json();
        assert!(
            beyond["message"]
                .as_str()
                .unwrap()
                .contains("more than the 3 rows"),
            "{beyond}"
        );
    });
    assert!(!server.log_text().contains(PASSWORD));
}

#[test]
fn limits_of_the_grant_hold_in_postgresql() {
    let Some((_database, url)) = shop() else {
        return;
    };
    let limits = "          rows: 10\n          limits: {handles: 2}\n";
    let server = serve("postgres", "DB", &url, limits);
    run(async {
        let path = |rows| format!("/postgres?text=select%20generate_series(1,{rows})");
        let within = server.get("a", &path(10)).await.json();
        assert_eq!(within.as_array().map(Vec::len), Some(10), "{within}");
        // The one session that there may be is over when its call is.
        server.until(CALLS, |count| count == 1.0).await;
        let beyond = server.get("a", &path(11)).await.json();
        let message = beyond["message"].as_str().unwrap();
        assert!(message.contains("more than the 10 rows"), "{message}");
    });
}

#[test]
fn killed_mirror_leaves_no_session_in_postgresql() {
    let Some((database, url)) = shop() else {
        return;
    };
    let more = "          statement: 10m\n          transaction: 10m\n";
    let server = serve("postgres", "DB", &url, more);
    let sessions = |state: &str| {
        database.psql(&format!(
            "select count(*) from pg_stat_activity where usename = 'app' and state = '{state}'"
        ))
    };
    let until = |state: &str, count: &str| {
        let begun = std::time::Instant::now();
        while sessions(state) != count {
            assert!(begun.elapsed() < PATIENCE, "{}", server.log_text());
        }
    };
    std::thread::scope(|scope| {
        // What becomes of the request is of no interest: its mirror is killed.
        scope.spawn(|| run(server.get("a", "/postgres?text=select%20pg_sleep(600)")));
        until("active", "1");
        for pid in server.processes() {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        until("active", "0");
    });
    assert_eq!(sessions("idle"), "0");
    // Another mirror takes its place.
    let next = run(server.get("a", "/postgres?text=select%201"));
    assert_eq!(next.json(), json!(["1"]));
}

#[test]
fn guest_asks_redis_and_is_refused_commands() {
    let Some(cache) = database_servers::redis(&[]) else {
        return;
    };
    let url = format!("redis://app:{PASSWORD}@127.0.0.1:{}/0", cache.port);
    let server = serve("redis", "CACHE", &url, "          refuse: [INCR]\n");
    run(async {
        for by in ["binding", "driver", "node"] {
            for (text, answer) in [
                ("SET%20shop:a%201", "+OK\r\n"),
                ("GET%20shop:a", "$1\r\n1\r\n"),
                (
                    "INCR%20shop:a",
                    "-NOPERM this grant does not allow the command INCR\r\n",
                ),
                (
                    "KEYS%20shop:*",
                    "-NOPERM this grant does not allow the command KEYS\r\n",
                ),
            ] {
                let path = format!("/redis?by={by}&text={text}");
                assert_eq!(server.get("a", &path).await.json(), answer, "{by} {text}");
            }
        }
    });
    assert!(!server.log_text().contains(PASSWORD));
}

#[test]
fn superuser_is_refused_unless_the_grant_allows_one() {
    let Some((database, _)) = shop() else {
        return;
    };
    let url = format!(
        "postgres://admin:{PASSWORD}@127.0.0.1:{}/shop",
        database.port
    );
    let path = "/postgres?text=select%201";
    for (more, is_allowed) in [("", false), ("          allow_superuser: true\n", true)] {
        let server = serve("postgres", "DB", &url, more);
        let answer = run(async { server.get("a", path).await.json() });
        assert_eq!(answer == json!(["1"]), is_allowed, "{answer}");
        if !is_allowed {
            let message = answer["message"].as_str().unwrap();
            assert!(
                message.contains("more rights than a guest may use"),
                "{message}"
            );
            assert!(!message.contains("admin"), "{message}");
        }
    }
}
