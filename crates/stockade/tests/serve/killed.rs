//! What a mirror that is killed held open, with real servers: nothing of it is left on their side.
//! A kind whose server is not installed is left out with a message.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message, accept};

use crate::bindings::{EVALUATES, evaluate};
use crate::client::run;
use crate::database_servers::{self, PASSWORD};
use crate::server::{PATIENCE, PLAIN, Server, folder, stockade};

/// Kills all workers, and waits until nothing is left; how long that took.
#[expect(clippy::print_stdout, reason = "a test shows what it has measured")]
fn kill(server: &Server, what: &str, mut is_left: impl FnMut() -> bool) {
    assert!(is_left(), "{what}: nothing was held");
    let begun = Instant::now();
    for worker in server.processes() {
        let _ = kill_process(Pid::from_raw(worker.cast_signed()).unwrap(), Signal::KILL);
    }
    while is_left() {
        assert!(begun.elapsed() < PATIENCE, "{what}: {}", server.log_text());
        std::thread::sleep(Duration::from_millis(2));
    }
    println!("{what}: nothing is left after {:?}", begun.elapsed());
}

/// A site with this grant, which is asked to do this and holds it.
fn holding(grant: &str, files: &[(&str, &str)], code: &str) -> Server {
    let config = format!(
        "{PLAIN}instances:\n  site:\n    code: ./main.js\n    urls: [\"/*\"]\n    grants:\n      A: {grant}\n"
    );
    let mut all = vec![("main.js", EVALUATES)];
    all.extend(files);
    let server = Server::start_in(folder(&config, &all), &Default::default());
    let held = run(evaluate(&server, code));
    assert_eq!(held, "held", "{}", server.log_text());
    server
}

/// Opens a door, says this, and waits for an answer.
fn door(first: &str) -> String {
    format!(
        "const socket = env.A.connect(); globalThis.socket = socket;
         const reader = socket.readable.getReader(), writer = socket.writable.getWriter();
         {first}
         globalThis.ends = [reader, writer];
         return (await reader.read()).done ? 'ended' : 'held'"
    )
}

#[test]
fn killed_mirror_leaves_nothing_in_postgresql() {
    let Some(database) = database_servers::postgres(&[]) else {
        return;
    };
    database.psql(&format!("create role app login password '{PASSWORD}'"));
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:{}/shop", database.port);
    // In a transaction that it never ends.
    let first = r"const text = (type, body) => {
           const bytes = new TextEncoder().encode(type + '\0\0\0\0' + body);
           new DataView(bytes.buffer).setUint32(type.length, bytes.length - type.length);
           return bytes;
         };
         await writer.write(text('', '\0\x03\0\0user\0x\0database\0shop\0\0'));
         await reader.read();
         await writer.write(text('Q', 'begin\0'));";
    let grant = "{postgres: {url: {file: ./url.txt}}}";
    let server = holding(grant, &[("url.txt", &url)], &door(first));
    let open = "select count(*) from pg_stat_activity where usename = 'app' and state <> 'idle'";
    kill(&server, "postgres", || database.psql(open) != "0");
}

#[test]
fn killed_mirror_leaves_nothing_in_mariadb() {
    let Some(database) = database_servers::mariadb(&[]) else {
        return;
    };
    database.mariadb(&format!(
        "create user app@'%' identified by '{PASSWORD}'; grant select on shop.* to app@'%'"
    ));
    let url = format!("mysql://app:{PASSWORD}@127.0.0.1:{}/shop", database.port);
    // The statement's time is longer than anything here.
    let first = r"const packet = (number, body) => {
           const bytes = new TextEncoder().encode('\0\0\0\0' + body);
           new DataView(bytes.buffer).setUint32(0, bytes.length - 4 | number << 24, true);
           return bytes;
         };
         await reader.read();
         await writer.write(packet(1, '\x09\x02\x08\0\0\0\0\x01\x21' + '\0'.repeat(23) + 'x\0\0shop\0mysql_native_password\0'));
         await reader.read();
         await writer.write(packet(0, '\x03select sleep(600)'));
         globalThis.ends = [reader, writer];
         return 'held';";
    let grant = "{mysql: {url: {file: ./url.txt}, statement: 10m, transaction: 10m}}";
    let server = holding(grant, &[("url.txt", &url)], &door(first));
    let begun = Instant::now();
    let running = || {
        database.mariadb("select count(*) from information_schema.processlist where user = 'app' and command = 'Query'")
    };
    while running() == "0" {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log_text());
    }
    kill(&server, "mysql", || running() != "0");
}

#[test]
fn killed_mirror_leaves_nothing_in_redis() {
    let Some(cache) = database_servers::redis(&[]) else {
        return;
    };
    let url = format!("redis://app:{PASSWORD}@127.0.0.1:{}/0", cache.port);
    let first = r"await writer.write('*2\r\n$9\r\nSUBSCRIBE\r\n$6\r\nshop:a\r\n');";
    let grant = "{redis: {url: {file: ./url.txt}}}";
    let server = holding(grant, &[("url.txt", &url)], &door(first));
    kill(&server, "redis", || {
        cache.redis(&["PUBSUB", "CHANNELS"]).contains("shop:a")
    });
}

#[test]
fn killed_mirror_leaves_no_transaction_in_sqlite() {
    let code = "await env.A.exec('create table t (a)');
        return await new Promise((resolve) => {
          globalThis.held = env.A.transaction(async (tx) => {
            await tx.prepare('insert into t values (1)').run();
            resolve('held');
            await new Promise(() => {});
          });
        })";
    let grant = "{sqlite: {file: ./a.db, transaction: 10m}}";
    let server = holding(grant, &[], code);
    let handles = "stockade_capability_handles{instance=\"site\",binding=\"A\",kind=\"sqlite\"}";
    let open = || run(async { server.metric(handles).await }) > 0.0;
    kill(&server, "sqlite", open);
    // Another mirror writes at once, and nothing of the transaction is there.
    let code = "await env.A.exec('insert into t values (2)');
        return await env.A.prepare('select a from t').raw()";
    assert_eq!(run(evaluate(&server, code)), json!([[2]]));
}

#[test]
fn killed_mirror_leaves_no_connection_of_its_own_or_of_a_client() {
    const SITE: &str = "import { connect } from 'cloudflare:sockets';
      export default {
        async fetch(request) {
          const sockets = Array.from({ length: 5 }, () => connect(new URL(request.url).searchParams.get('to')));
          globalThis.held = sockets;
          await Promise.all(sockets.map((socket) => socket.opened));
          return Response.json('held');
        },
        async connect(socket) {
          await socket.writable.getWriter().write('h');
          await new Promise(() => {});
        },
      };";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let port = to.port();
    let config = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}, {{address: \"127.0.0.1:0\", connect: site}}]\ninstances:\n  site:\n    \
         code: ./main.js\n    urls: [\"/*\"]\n    sockets:\n      connect: [{{addresses: [127.0.0.1], ports: [{port}], tls: \
         off}}]\n      allow_private: [127.0.0.1]\n"
    );
    let server = Server::start(&config, &[("main.js", SITE)]);
    let held: Value = run(async { server.get("a", &format!("/?to={to}")).await.json() });
    assert_eq!(held, "held");
    let mut open: Vec<TcpStream> = (0..5).map(|_| listener.accept().unwrap().0).collect();
    let mut client = TcpStream::connect(server.addresses[1]).unwrap();
    client.read_exact(&mut [0]).unwrap();
    client.write_all(b"never read").unwrap();
    open.push(client);
    for stream in &open {
        stream.set_nonblocking(true).unwrap();
    }
    kill(&server, "sockets and a listener's client", || {
        open.retain_mut(|stream| match stream.read(&mut [0; 64]) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        });
        !open.is_empty()
    });
}

/// Scripts that an Electrum server on regtest has subscriptions to, by the connection. The server follows a script.
type Subscribed = Arc<Mutex<BTreeSet<(u16, String)>>>;

fn electrum_server() -> (u16, Subscribed) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let subscribed = Subscribed::default();
    let all = Arc::clone(&subscribed);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, all) = (stream.unwrap(), Arc::clone(&all));
            std::thread::spawn(move || electrum_connection(stream, &all));
        }
    });
    (port, subscribed)
}

fn electrum_connection(mut stream: TcpStream, all: &Subscribed) {
    const GENESIS: &str = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
    let client = stream.peer_addr().unwrap().port();
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let Ok(line) = line else { break };
        let question: Value = serde_json::from_str(&line).unwrap();
        let script = || {
            (
                client,
                question["params"][0]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            )
        };
        let result = match question["method"].as_str().unwrap() {
            "server.version" => json!(["scripted", "1.4"]),
            "server.features" => json!({ "genesis_hash": GENESIS }),
            "blockchain.headers.subscribe" => json!({ "height": 7, "hex": "00" }),
            "blockchain.scripthash.subscribe" => json!(all.lock().unwrap().insert(script())),
            "blockchain.scripthash.unsubscribe" => json!(all.lock().unwrap().remove(&script())),
            _ => json!("00"),
        };
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": result });
        if writeln!(stream, "{answer}").is_err() {
            break;
        }
    }
    all.lock().unwrap().retain(|(of, _)| *of != client);
}

#[test]
fn killed_mirror_leaves_no_subscription_with_an_electrum_server() {
    let (port, subscribed) = electrum_server();
    let code = "globalThis.readers = ['aa', 'bb'].map((text) =>
          env.A.subscribe('blockchain.scripthash.subscribe', text.repeat(32)).getReader());
        await Promise.all(readers.map((reader) => reader.read()));
        return 'held'";
    let grant =
        format!("{{electrum: {{servers: [\"tcp://127.0.0.1:{port}\"], network: regtest}}}}");
    let server = holding(&grant, &[], code);
    assert_eq!(subscribed.lock().unwrap().len(), 2);
    kill(&server, "electrum", || {
        !subscribed.lock().unwrap().is_empty()
    });
}

#[test]
fn killed_mirror_leaves_no_subscription_with_a_nostr_relay() {
    const SITE: &str = "export default { async fetch(_, env) {
      const [relay] = Object.keys(await env.ME.getRelays());
      const sockets = Array.from({ length: 3 }, () => new WebSocket(relay));
      globalThis.held = sockets;
      await Promise.all(sockets.map((socket) => new Promise((resolve, reject) => {
        socket.onerror = reject;
        socket.onopen = () => socket.send(JSON.stringify(['REQ', 'all', { kinds: [1] }]));
        socket.onmessage = ({ data }) => resolve(data);
      })));
      return Response.json('held');
    } };";
    // A relay with nothing stored, whose subscriptions last as long as their connections.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let subscribed = Arc::new(Mutex::new(BTreeSet::new()));
    let all = Arc::clone(&subscribed);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, all) = (stream.unwrap(), Arc::clone(&all));
            std::thread::spawn(move || {
                let client = stream.peer_addr().unwrap().port();
                let mut socket = accept(stream).unwrap();
                let asked: Value =
                    serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
                assert_eq!(asked[0], "REQ");
                all.lock().unwrap().insert(client);
                let stored = json!(["EOSE", asked[1]]).to_string();
                socket.send(Message::text(stored)).unwrap();
                while !matches!(
                    socket.read(),
                    Err(Error::ConnectionClosed
                        | Error::AlreadyClosed
                        | Error::Io(_)
                        | Error::Protocol(_))
                ) {}
                all.lock().unwrap().remove(&client);
            });
        }
    });
    let config = format!(
        "{PLAIN}instances:\n  site:\n    code: ./main.js\n    urls: [\"/*\"]\n    grants:\n      ME: {{nostr: {{key: \
         {{file: ./key.txt}}, permissions: [\"sign_event:1\"], relays: [\"ws://127.0.0.1:{port}\"]}}}}\n    data_guard:\n      rules: \
         [{{addresses: [127.0.0.1], ports: [{port}], schemes: [http]}}]\n      allow_private: [127.0.0.1]\n"
    );
    let files = [("main.js", SITE), ("key.txt", &*"01".repeat(32))];
    let server = Server::start(&config, &files);
    let held: Value = run(async { server.get("a", "/").await.json() });
    assert_eq!(held, "held", "{}", server.log_text());
    assert_eq!(subscribed.lock().unwrap().len(), 3);
    kill(&server, "nostr", || !subscribed.lock().unwrap().is_empty());
}

#[test]
fn guest_that_ended_leaves_nothing_though_its_host_script_computes() {
    const HOST: &str = "
      const sandbox = new V8Sandbox();
      const server = Deno.env.get('SERVER');
      const isolate = await sandbox.createIsolate({
        grants: { A: { electrum: { servers: [server], network: 'regtest' } } },
      });
      await isolate.evaluate(`(async () => {
        globalThis.reader = NETWORK.env.A.subscribe('blockchain.scripthash.subscribe', 'aa').getReader();
        await reader.read();
      })()`);
      console.log('held');
      isolate.destroy();
      for (;;);";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("host.js"), HOST).unwrap();
    for level in ["thread", "process", "container"] {
        let (port, subscribed) = electrum_server();
        let mut command = stockade();
        command.args(["run", &format!("--isolation={level}")]);
        command.arg(folder.path().join("host.js"));
        command.env("SERVER", format!("tcp://127.0.0.1:{port}"));
        let mut host = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(host.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let begun = Instant::now();
        let mut is_left = true;
        while is_left && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
            is_left = !subscribed.lock().unwrap().is_empty();
        }
        let computes = host.try_wait().unwrap().is_none();
        host.kill().unwrap();
        host.wait().unwrap();
        assert_eq!(
            (&*line, computes, is_left),
            ("held\n", true, false),
            "{level}"
        );
    }
}
