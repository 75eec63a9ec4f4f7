//! What `grants` gives to sites: names of the DNS, folders, approval by another site; what a reload keeps.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::client::run;
use crate::server::{PLAIN, Server, write};

/// A site that evaluates what it is sent, with `env` at hand. Only for tests.
const EVALUATES: &str = "export default {
  async fetch(request, env) {
    const run = new Function('env', `return (async () => { ${await request.text()} })()`);
    try { return Response.json({ value: (await run(env)) ?? null }); }
    catch (error) { return Response.json({ name: error?.name, message: error?.message }); }
  },
};";

async fn evaluate(server: &Server, code: &str) -> Value {
    let answer = server.post("a.example", "/", code.to_owned()).await;
    assert_eq!(
        answer.status,
        200,
        "{}\n{}",
        answer.text(),
        server.log_text()
    );
    let answer = answer.json();
    match answer.get("value") {
        Some(value) => value.clone(),
        None => answer["name"].clone(),
    }
}

/// A name server that gives every name the same address, and how many questions it got.
fn name_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            // The question is the header's, up to the root label, its type and its class (RFC 1035, 4.1).
            let end = 12
                + buffer[12..length]
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap()
                + 5;
            let mut reply = buffer[..end].to_vec();
            reply[2..4].copy_from_slice(&[0x81, 0x80]);
            reply[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 216, 34]);
            let _ = socket.send_to(&reply, from);
        }
    });
    (address, asked)
}

/// The data of a record of each type, by its number (RFC 1035, 3.2.2; RFC 2782).
fn record_of(kind: u16) -> Option<Vec<u8>> {
    let named = |head: &[u8]| [head, &[4], b"host", &[7], b"example", &[3], b"com", &[0]].concat();
    match kind {
        1 => Some(vec![93, 184, 216, 34]),
        12 | 2 | 5 => Some(named(&[])),
        15 => Some(named(&[0, 10])),
        16 => Some([&[5][..], b"first", &[6], b"second"].concat()),
        28 => Some([&[0x26, 0x06, 0x28, 0][..], &[0; 11], &[1]].concat()),
        33 => Some(named(&[0, 1, 0, 2, 0, 80])),
        _ => None,
    }
}

/// A name server that gives every name a record of each type, and says that names with `none` do not exist.
fn name_server_of_all_types() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let name = buffer[12..length].iter().position(|byte| *byte == 0);
            let end = 12 + name.unwrap() + 5;
            let kind = u16::from_be_bytes([buffer[end - 4], buffer[end - 3]]);
            let is_there = !buffer[12..end].windows(4).any(|part| part == b"none");
            let data = record_of(kind).filter(|_| is_there);
            let mut reply = buffer[..end].to_vec();
            reply[2..4].copy_from_slice(&[0x81, if is_there { 0x80 } else { 0x83 }]);
            reply[6..12].copy_from_slice(&[0, u8::from(data.is_some()), 0, 0, 0, 0]);
            if let Some(data) = data {
                reply.extend([0xc0, 12]);
                reply.extend(kind.to_be_bytes());
                reply.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
                reply.extend(data);
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    address
}

const USES_NODE_DNS: &str = "import dns from 'node:dns';
const failed = (promise) => promise.then(() => 'done', ({ code, syscall, hostname }) => [code, syscall, hostname]);
export default {
  async fetch() {
    const { promises } = dns;
    const name = 'a.example.com';
    return Response.json({
      resolve: await promises.resolve(name),
      resolve6: await promises.resolve6(name),
      mx: await promises.resolveMx(name),
      txt: await promises.resolveTxt(name),
      srv: await promises.resolve(name, 'SRV'),
      cname: await promises.resolveCname(name),
      reverse: await promises.reverse('93.184.216.34'),
      lookup: await promises.lookup(name),
      all: await promises.lookup(name, { all: true }),
      six: await promises.lookup(name, 6),
      callback: await new Promise((done) => dns.lookup(name, 4, (...args) => done(args))),
      resolver: await new dns.promises.Resolver().resolve4(name),
      missing: await failed(promises.resolve4('none.example.com')),
      refused: await failed(promises.resolve4('evil.example')),
      unlisted: await promises.lookup('db.example'),
      any: await failed(promises.resolveAny(name)),
    });
  },
};";

#[test]
fn node_dns_asks_the_grant_and_gives_what_node_gives() {
    let names = name_server_of_all_types();
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [a.example]
    grants:
      NAMES: {{dns: {{names: [\"*.example.com\", \"*.in-addr.arpa\"], records: [A, AAAA, CNAME, MX, PTR, SRV, TXT], servers: [\"{names}\"]}}}}
"
    );
    let server = Server::start(&config, &[("main.js", USES_NODE_DNS)]);
    run(async {
        let answer = server.post("a.example", "/", String::new()).await;
        let six = "2606:2800::1";
        let expected = json!({
            "resolve": ["93.184.216.34"],
            "resolve6": [six],
            "mx": [{"exchange": "host.example.com", "priority": 10}],
            "txt": [["first", "second"]],
            "srv": [{"name": "host.example.com", "port": 80, "priority": 1, "weight": 2}],
            "cname": ["host.example.com"],
            "reverse": ["host.example.com"],
            "lookup": {"address": "93.184.216.34", "family": 4},
            "all": [{"address": "93.184.216.34", "family": 4}, {"address": six, "family": 6}],
            "six": {"address": six, "family": 6},
            "callback": [null, "93.184.216.34", 4],
            "resolver": ["93.184.216.34"],
            "missing": ["ENOTFOUND", "queryA", "none.example.com"],
            "refused": ["EREFUSED", "queryA", "evil.example"],
            "unlisted": {"address": "db.example", "family": 4},
            "any": ["ENOTIMP", "queryAny", "a.example.com"],
        });
        assert_eq!(answer.json(), expected, "{}", server.log_text());
    });
}

fn config(server: SocketAddr, more: &str) -> String {
    format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [a.example]
    grants:
      NAMES: {{dns: {{names: [\"*.example.com\"], servers: [\"{server}\"]{more}}}}}
      ASKED: {{dns: {{names: [\"*.example.com\"], servers: [\"{server}\"]}}, approve: {{instance: guard}}}}
      DOCS: {{files: {{path: ./docs}}}}
  guard:
    code: ./guard.js
"
    )
}

const GUARD: &str = "export default {
  fetch() { return new Response(''); },
  approve({ instance, binding, kind, method, arguments: args, more }) {
    const [{ name }] = JSON.parse(args);
    if (name === 'throw.example.com') throw new Error('no');
    return instance === 'site' && binding === 'ASKED' && kind === 'dns' && method === 'resolve' && !more &&
      name === 'yes.example.com';
  },
};";

#[test]
fn grants_of_a_site_are_in_env_and_bounded_and_recorded() {
    let (names, asked) = name_server();
    let files = [
        ("main.js", EVALUATES),
        ("guard.js", GUARD),
        ("docs/a.txt", "text"),
    ];
    let server = Server::start(&config(names, ", limits: {rate: 5}"), &files);
    run(async {
        let found = evaluate(&server, "return env.NAMES.resolve('a.example.com')").await;
        assert_eq!(found, json!(["93.184.216.34"]), "{}", server.log_text());
        let before = asked.load(Ordering::SeqCst);
        let refused = evaluate(&server, "return env.NAMES.resolve('evil.example')").await;
        assert_eq!(refused, "TypeError");
        assert_eq!(asked.load(Ordering::SeqCst), before);
        let flood = "const all = await Promise.all(Array.from({ length: 30 }, () =>
            env.NAMES.resolve('a.example.com').catch((error) => error.name)));
            return all.includes('BusyError')";
        assert_eq!(evaluate(&server, flood).await, true);
        assert_eq!(
            evaluate(&server, "return env.DOCS.read('a.txt', 'text')").await,
            "text"
        );
        for (name, expected) in [
            ("yes", json!(["93.184.216.34"])),
            ("no", json!("TypeError")),
            ("throw", json!("TypeError")),
        ] {
            let code = format!("return env.ASKED.resolve('{name}.example.com')");
            assert_eq!(evaluate(&server, &code).await, expected, "{name}");
        }
        let labels = "instance=\"site\",binding=\"NAMES\",kind=\"dns\"";
        let refused = format!("stockade_capability_refused_total{{{labels},reason=\"name\"}}");
        assert_eq!(server.metric(&refused).await, 1.0);
        let calls = format!(
            "stockade_capability_calls_total{{{labels},method=\"resolve\",outcome=\"ok\"}}"
        );
        assert!(server.metric(&calls).await >= 1.0);
    });
    let event = |of: &'static str| {
        move |line: &Value| line["event"] == "capability" && line["approved"] == of
    };
    for (answer, outcome) in [("yes", "ok"), ("no", "refused"), ("failed", "refused")] {
        let line = server.logged(event(answer));
        assert_eq!(line["outcome"], outcome, "{line}");
        assert_eq!(line["binding"], "ASKED");
    }
}

#[test]
fn reload_keeps_what_was_spent_of_a_grant() {
    let (names, _) = name_server();
    let files = [
        ("main.js", EVALUATES),
        ("guard.js", GUARD),
        ("docs/a.txt", "text"),
    ];
    let total = ", limits: {total_requests: 2}";
    let server = Server::start(&config(names, total), &files);
    let resolve = "return env.NAMES.resolve('a.example.com')";
    run(async {
        assert_eq!(evaluate(&server, resolve).await, json!(["93.184.216.34"]));
    });
    // The code changes, and the grant does not; then the grant changes too.
    write(
        server.folder.path(),
        &[("main.js", &format!("{EVALUATES}\n"))],
    );
    server.reloaded();
    run(async {
        assert_eq!(evaluate(&server, resolve).await, json!(["93.184.216.34"]));
        assert_eq!(evaluate(&server, resolve).await, "QuotaExceededError");
    });
    let head = std::fs::read_to_string(server.path("stockade.yaml")).unwrap();
    let changed = head.replace("total_requests: 2", "total_requests: 3, rate: 50");
    write(server.folder.path(), &[("stockade.yaml", &changed)]);
    server.reloaded();
    run(async {
        assert_eq!(evaluate(&server, resolve).await, json!(["93.184.216.34"]));
        assert_eq!(evaluate(&server, resolve).await, "QuotaExceededError");
    });
}

#[test]
fn check_live_asks_the_servers_and_names_unused_grants() {
    let (names, _) = name_server();
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let files = [
        ("main.js", EVALUATES),
        ("guard.js", GUARD),
        ("docs/a.txt", "text"),
    ];
    for (address, code) in [(names, 0), (closed, 1)] {
        let folder = crate::server::folder(&config(address, ""), &files);
        let output = crate::server::stockade()
            .args(["check", "--live"])
            .arg(folder.path().join("stockade.yaml"))
            .output()
            .unwrap();
        let reported = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{reported}");
        assert_eq!(
            reported.contains("error: instances.site.grants.NAMES: "),
            code == 1,
            "{reported}"
        );
        let unused = "instances.site.grants.DOCS: no module of the site names DOCS";
        assert!(reported.contains(unused), "{reported}");
    }
}
