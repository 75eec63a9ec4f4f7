//! Chrome's DevTools and the mirrors of a running server, by `stockade inspect`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Method;
use serde_json::{Value, json};
use stockade_serve::AdminClient;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::admin::{address, events, key};
use crate::client::{get, run, send, with_body};
use crate::server::{PLAIN, Server, stockade};

const CODE: &str = "\
export default {
  fetch(request: Request): Response {
    const answer: number = 6 * 7;
    if (request.url.endsWith('/held')) debugger;
    return new Response(`${answer}`);
  },
};
";

fn start() -> Server {
    let config = format!(
        "{PLAIN}admin: {{listen: \"127.0.0.1:0\"}}\naudit: {{folder: ./audit}}\ninstances:\n  \
         site: {{code: ./a.ts, urls: [\"/*\"], inspect: true, limits: {{cpu: 500ms, wall: 1s, timeout: 1m}}}}\n  \
         closed: {{code: ./a.ts, urls: [closed.localhost]}}\n"
    );
    Server::start(&config, &[("a.ts", CODE)])
}

/// `stockade inspect`, and where its first mirror is.
struct Inspecting {
    child: Child,
    url: String,
}

impl Inspecting {
    fn start(server: &Server) -> Self {
        let mut command = stockade();
        command.args(["inspect", "--listen", "127.0.0.1:0"]);
        command
            .current_dir(server.folder.path())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("site, mirror 0, version file: ")
                .map(str::to_owned)
        });
        Self {
            child,
            url: first.unwrap(),
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        let authority = self.url.strip_prefix("ws://").unwrap();
        authority.split('/').next().unwrap().parse().unwrap()
    }

    async fn connect(&self) -> Debugger {
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(&self.url, stream)
            .await
            .unwrap();
        Debugger { socket, next: 1 }
    }
}

impl Drop for Inspecting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Debugger {
    socket: WebSocketStream<TcpStream>,
    next: u64,
}

impl Debugger {
    /// Sends a command and gives its number.
    async fn begin(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next;
        self.next += 1;
        let text = json!({ "id": id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text)).await.unwrap();
        id
    }

    /// Sends a command and gives its result.
    async fn send(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        self.until(|message| message["id"] == id).await["result"].clone()
    }

    /// The next message that fits.
    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.socket.next().await.unwrap().unwrap();
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if fits(&message) {
                return message;
            }
        }
    }
}

async fn mirror(server: &Server) -> Value {
    let client = AdminClient::at_socket(&server.path("stockade.sock"));
    let path = "/v1/instances/site";
    let site: Value = client.json(Method::GET, path, None).await.unwrap();
    assert_eq!(site["inspect"], true);
    site["mirrors"][0].clone()
}

#[test]
fn mirror_is_paused_read_and_resumed_and_its_clocks_stand_meanwhile() {
    let server = start();
    let inspecting = Inspecting::start(&server);
    let address = server.address();
    run(async {
        let mut debugger = inspecting.connect().await;
        debugger.send("Debugger.enable", json!({})).await;
        let held = tokio::spawn(send(address, get("any.example", "/held")));
        let paused = debugger
            .until(|message| message["method"] == "Debugger.paused")
            .await;
        let frame = &paused["params"]["callFrames"][0];
        assert_eq!(mirror(&server).await["debugged"], true);
        // Longer than the limits of CPU time and of elapsed time: that they stand is what this is about.
        let expression = "const end = Date.now() + 1500; while (Date.now() < end); answer + 1";
        let of = json!({ "callFrameId": frame["callFrameId"], "expression": expression });
        let value = debugger.send("Debugger.evaluateOnCallFrame", of).await;
        assert_eq!(value["result"]["value"], 43);

        // One debugger at a time, and no profile.
        let mut second = inspecting.connect().await;
        let ended = second.socket.next().await.unwrap().unwrap();
        assert!(ended.is_close(), "{ended:?}");
        let output = stockade()
            .args(["profile", "site", "--kind", "heap-statistics"])
            .current_dir(server.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("profiled already"), "{said}");

        debugger.send("Debugger.resume", json!({})).await;
        assert_eq!(held.await.unwrap().text(), "42");
        debugger.socket.close(None).await.unwrap();
        while mirror(&server).await["debugged"] == true {
            tokio::task::yield_now().await;
        }
        // It is the same mirror, and its limits hold again.
        assert_eq!(mirror(&server).await["mirror"], 0);
        assert_eq!(send(address, get("any.example", "/")).await.text(), "42");
        while events(&server, "debugger_detached").await.len() < 2 {
            tokio::task::yield_now().await;
        }
        let attached = &events(&server, "debugger_attached").await[0];
        assert_eq!(
            (&attached["instance"], &attached["mirror"]),
            (&json!("site"), &json!(0))
        );
        assert_eq!(attached["caller"], "local_user");
    });
}

#[test]
fn debugger_that_goes_away_lets_the_mirror_go_on() {
    let server = start();
    let inspecting = Inspecting::start(&server);
    let address = server.address();
    run(async {
        let mut debugger = inspecting.connect().await;
        debugger.send("Debugger.enable", json!({})).await;
        let held = tokio::spawn(send(address, get("any.example", "/held")));
        debugger
            .until(|message| message["method"] == "Debugger.paused")
            .await;
        // Killed, as by a crash: nothing is closed in order.
        drop(inspecting);
        assert_eq!(held.await.unwrap().text(), "42");
        assert_eq!(send(address, get("any.example", "/")).await.text(), "42");
    });
}

#[test]
fn debuggers_are_refused_without_the_key_from_afar_and_from_pages() {
    let server = start();
    let key = key(&server, "admin");
    let path = "/v1/instances/site/mirrors/0/debug";
    // Only where the configuration says so, and only on this machine.
    let refused = |arguments: &[&str]| {
        let mut command = stockade();
        command.arg("inspect").args(arguments);
        let output = command.current_dir(server.folder.path()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let closed = refused(&["closed"]);
    assert!(closed.contains("inspect: true"), "{closed}");
    assert!(refused(&["none"]).contains("no instance \"none\""));
    let open = refused(&["--listen", "0.0.0.0:0"]);
    assert!(
        open.contains("not an address of this machine alone"),
        "{open}"
    );
    run(async {
        // The listener of the admin API has no debugger for anybody, whatever the key.
        let listener = address(&server);
        let upgrade = [
            ("authorization", format!("Bearer {key}")),
            ("connection", "upgrade".to_owned()),
            ("upgrade", "websocket".to_owned()),
            ("sec-websocket-version", "13".to_owned()),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()),
        ];
        let mut request = with_body("GET", &listener.to_string(), path, "");
        for (name, value) in &upgrade {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let answer = send(listener, request).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
        let mut plain = get(&listener.to_string(), path);
        let authorization = format!("Bearer {key}").parse().unwrap();
        plain.headers_mut().insert("authorization", authorization);
        let answer = send(listener, plain).await;
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(events(&server, "debugger_attached").await.is_empty());

        // Where debuggers connect: a page of a site and a name that was made to lead here get nothing.
        let inspecting = Inspecting::start(&server);
        let at = inspecting.address();
        let target = inspecting.url.split_once("/ws/").unwrap().1.to_owned();
        for (header, value, status) in [
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
            ("host", "evil.example", 400),
            ("origin", "devtools://devtools", 200),
        ] {
            for path in ["/json/list", "/json/version"] {
                let mut request = get(&at.to_string(), path);
                request.headers_mut().insert(header, value.parse().unwrap());
                assert_eq!(send(at, request).await.status, status, "{header} {value}");
            }
        }
        let mut request = get(&at.to_string(), &format!("/ws/{target}"));
        for (name, value) in &upgrade[1..] {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let origin = "http://localhost:3000".parse().unwrap();
        request.headers_mut().insert("origin", origin);
        assert_eq!(send(at, request).await.status, 403);
        assert!(events(&server, "debugger_attached").await.is_empty());
    });
}

/// A figure of a process in MiB, such as `VmRSS` or `VmHWM`.
fn memory(pid: u32, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines().filter_map(|line| line.strip_prefix(figure));
    let size = lines.next().unwrap().trim_matches([':', ' ', '\t']);
    size.strip_suffix(" kB")
        .unwrap()
        .trim()
        .parse::<u64>()
        .unwrap()
        >> 10
}

/// The line, from 0, that a source map in a `data:` URL (ECMA-426) has for a place in the code.
fn written(url: &str, line: i64, column: i64) -> i64 {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (_, map) = url.split_once(";base64,").unwrap();
    let map: Value = serde_json::from_slice(&STANDARD.decode(map).unwrap()).unwrap();
    let mut of = [0; 5];
    let mut found = None;
    for (at, segments) in (0..).zip(map["mappings"].as_str().unwrap().split(';')) {
        of[0] = 0;
        for segment in segments.split(',').filter(|segment| !segment.is_empty()) {
            let (mut field, mut value, mut shift) = (0, 0, 0);
            for digit in segment.chars() {
                let digit = DIGITS.find(digit).unwrap();
                value |= (digit & 31) << shift;
                shift += 5;
                if digit & 32 == 0 {
                    let size = i64::try_from(value >> 1).unwrap();
                    of[field] += if value & 1 == 1 { -size } else { size };
                    (field, value, shift) = (field + 1, 0, 0);
                }
            }
            if at == line && of[0] <= column {
                found = Some(of[2]);
            }
        }
    }
    found.unwrap()
}

#[test]
fn guests_console_is_in_the_debuggers_with_its_place_in_the_typescript() {
    // Types are left out of the code that runs, which moves what follows them.
    const TYPED: &str = "\
interface Greeting {
  text: string;
  to: { names: string[] };
}

type Greeter = (greeting: Greeting) => void;

const greet: Greeter = (greeting) => {
  console.log('greeting', greeting);
};

export default {
  fetch(): Response {
    greet({ text: 'hello', to: { names: ['world'] } });
    return new Response('done');
  },
};
";
    let config =
        format!("{PLAIN}instances:\n  site: {{code: ./a.ts, urls: [\"/*\"], inspect: true}}\n");
    let server = Server::start(&config, &[("a.ts", TYPED)]);
    let inspecting = Inspecting::start(&server);
    let address = server.address();
    run(async {
        // Without a debugger nothing is kept for one.
        assert_eq!(send(address, get("a", "/")).await.text(), "done");
        let mut debugger = inspecting.connect().await;
        debugger.begin("Debugger.enable", json!({})).await;
        let is_parsed = |one: &Value| one["params"]["url"] == "guest:///a.ts";
        let script = debugger.until(is_parsed).await;
        debugger.send("Runtime.enable", json!({})).await;
        assert_eq!(send(address, get("a", "/")).await.text(), "done");
        let called = debugger
            .until(|one| one["method"] == "Runtime.consoleAPICalled")
            .await;
        let called = &called["params"];
        assert_eq!(called["type"], "log");
        assert_eq!(called["args"][0]["value"], "greeting");
        let shown = &called["args"][1]["preview"]["properties"];
        assert_eq!(shown[0]["value"], "hello");
        let of = json!({ "objectId": called["args"][1]["objectId"], "ownProperties": true });
        let members = debugger.send("Runtime.getProperties", of).await;
        assert_eq!(members["result"][1]["name"], "to");

        // The place in the code that runs leads to the one that was written.
        let frame = &called["stackTrace"]["callFrames"][0];
        assert_eq!(frame["functionName"], "greet");
        let number = |name: &str| frame[name].as_i64().unwrap();
        let map = script["params"]["sourceMapURL"].as_str().unwrap();
        let (line, column) = (number("lineNumber"), number("columnNumber"));
        assert!(line < 8, "{line}");
        assert_eq!(written(map, line, column), 8);
        let caller = &called["stackTrace"]["callFrames"][1];
        assert_eq!(caller["functionName"], "fetch");

        // The log has all lines, as always.
        assert_eq!(send(address, get("a", "/")).await.text(), "done");
        while server
            .log_text()
            .matches("greeting { text: 'hello'")
            .count()
            < 3
        {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn flood_of_a_guest_waits_for_a_debugger_that_does_not_read() {
    // Each script that is compiled is a message to the debugger, with the script's own name for its place.
    // So is each call of the console, with the text of its arguments.
    const FLOOD: &str = "export default { fetch(request) {
      const prints = new URL(request.url).searchParams.get('prints');
      for (let at = 0; at < prints; at++) console.log({ at }, 'x'.repeat(1e6));
      const count = Number(new URL(request.url).searchParams.get('count'));
      for (let at = 0; at < count; at++) eval('1 //# sourceURL=' + at + 'x'.repeat(1e6));
      eval('1 //# sourceURL=over');
      return new Response('done');
    } };";
    let config = format!(
        "{PLAIN}instances:\n  site: {{code: ./a.js, urls: [\"/*\"], inspect: true, limits: {{memory: 1gb, cpu: 1m, wall: 5m, timeout: 5m}}}}\n"
    );
    let server = Server::start(&config, &[("a.js", FLOOD)]);
    let inspecting = Inspecting::start(&server);
    let (command, address) = (inspecting.child.id(), server.address());
    run(async {
        let mut debugger = inspecting.connect().await;
        debugger.send("Debugger.enable", json!({})).await;
        // What fits is kept for the debugger, and the guest is done without it.
        let answer = send(address, get("a", "/?count=5")).await;
        assert_eq!(answer.text(), "done");
        let is_over = |message: &Value| message["params"]["url"] == "over";
        debugger.until(is_over).await;

        // What does not fit waits in the guest, which the debugger holds until it reads.
        let flood = tokio::spawn(send(address, get("a", "/?count=150")));
        while memory(command, "VmRSS") < 60 {
            assert!(!flood.is_finished());
            tokio::task::yield_now().await;
        }
        let mut scripts = 0;
        loop {
            let message = debugger
                .until(|one| one["method"] == "Debugger.scriptParsed")
                .await;
            if is_over(&message) {
                break;
            }
            scripts += 1;
        }
        assert_eq!(
            (scripts, flood.await.unwrap().text()),
            (150, "done".to_owned())
        );

        // Of texts a debugger gets the beginnings.
        debugger.send("Runtime.enable", json!({})).await;
        let flood = tokio::spawn(send(address, get("a", "/?prints=3000")));
        for at in 0..3000 {
            let called = debugger
                .until(|one| one["method"] == "Runtime.consoleAPICalled")
                .await;
            let args = &called["params"]["args"];
            let property = &args[0]["preview"]["properties"][0];
            assert_eq!(property["value"], at.to_string());
            let text = args[1]["value"].as_str().unwrap();
            assert!((65_536..66_000).contains(&text.len()), "{}", text.len());
        }
        assert_eq!(flood.await.unwrap().text(), "done");
    });
    // 64 MiB wait, some of it twice while it is passed on, and a program takes 50 MiB itself.
    let most = [command, server.id()].map(|pid| memory(pid, "VmHWM"));
    assert!(most.iter().all(|most| *most < 300), "{most:?} MiB");
}
