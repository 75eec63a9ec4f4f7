//! The admin API: on the control socket, and on its own listener, where attackers come from pages in browsers, from the
//! network, and with keys of sites.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};
use stockade_serve::{AdminClient, AskError};

use crate::client::{Answer, get, run, send, with_body};
use crate::killed_child::kills;
use crate::server::{PLAIN, Server, stockade};

const CODE: &str = "export default { fetch: () => new Response('here') };";

fn start(more: &str) -> Server {
    let config = format!(
        "{PLAIN}{more}admin: {{listen: \"127.0.0.1:0\", hosts: [admin.example]}}\naudit: {{folder: ./audit}}\n\
         instances: {{site: {{code: ./a.js, urls: [\"/*\"]}}}}\n"
    );
    Server::start(&config, &[("a.js", CODE)])
}

/// The address of the listener of the admin API.
pub(crate) fn address(server: &Server) -> SocketAddr {
    let announced = server.announced();
    let mut lines = announced.lines();
    let found = lines.find_map(|line| line.strip_prefix("  admin API on http://"));
    let found = found.and_then(|url| url.strip_suffix("/v1/"));
    found.unwrap().parse().unwrap()
}

/// A key with this scope.
pub(crate) fn key(server: &Server, scope: &str) -> String {
    let mut command = stockade();
    command.args(["keys", "create", "a", "--scope", scope]);
    let output = command.current_dir(server.folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A request to the listener with these headers.
async fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let address = address(server);
    let host = headers.iter().find(|(name, _)| *name == "host");
    let host = host.map_or(address.to_string(), |(_, host)| (*host).to_owned());
    let mut request = with_body(method, &host, path, "");
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        let name = http::HeaderName::try_from(*name).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    send(address, request).await
}

pub(crate) async fn events(server: &Server, event: &str) -> Vec<Value> {
    let client = AdminClient::at_socket(&server.path("stockade.sock"));
    let path = format!("/v1/audit?event={event}");
    let found: Value = client.json(Method::GET, &path, None).await.unwrap();
    found["lines"].as_array().unwrap().clone()
}

#[test]
fn control_socket_answers_without_a_key_and_reloads() {
    let server = start("");
    run(async {
        let client = AdminClient::at_socket(&server.path("stockade.sock"));
        let ask = async |path: &str| client.json::<Value>(Method::GET, path, None).await;
        let status = ask("/v1/status").await.unwrap();
        assert_eq!(status["state"], "serving");
        assert_eq!(status["instances"], json!({ "configured": 1, "ready": 1 }));
        assert_eq!(
            status["listeners"][0]["address"],
            server.address().to_string()
        );
        let site = ask("/v1/instances/site").await.unwrap();
        assert_eq!(
            (&site["isolation"], &site["has_code"]),
            (&json!("container"), &json!(true))
        );
        assert_eq!(site["mirrors"][0]["state"], "ready");
        let all = ask("/v1/instances").await.unwrap();
        assert_eq!(all["instances"][0]["name"], "site");
        let Err(AskError::Refused { status, detail }) = ask("/v1/instances/none").await else {
            panic!("there is such an instance");
        };
        assert_eq!(
            (status.as_u16(), detail.as_str()),
            (404, "there is no instance \"none\"")
        );

        // A reload takes effect, and one with errors names them and changes nothing.
        let post = client.json::<Value>(Method::POST, "/v1/reload", None).await;
        assert_eq!(post.unwrap()["message"], "unchanged: 1");
        std::fs::write(server.path("stockade.yaml"), "version: \"1.0\"\nwrong: 1\n").unwrap();
        let post = client.json::<Value>(Method::POST, "/v1/reload", None).await;
        let Err(AskError::Refused { status, detail }) = post else {
            panic!("a wrong configuration was taken");
        };
        assert_eq!(status.as_u16(), 422);
        assert!(detail.contains("wrong"), "{detail}");
        assert_eq!(ask("/v1/status").await.unwrap()["state"], "serving");
        let recorded = events(&server, "admin_request").await;
        assert_eq!(recorded.len(), 2);
        assert_eq!(recorded[0]["caller"], "local_user");
        assert_eq!(recorded[0]["path"], "/v1/reload");
    });
}

#[test]
fn listener_lets_in_keys_with_the_scope_admin_only() {
    let server = start("");
    let (admin, read) = (key(&server, "admin"), key(&server, "write"));
    let of_site = key(&server, "site/admin");
    run(async {
        let with = async |authorization: &str| {
            ask(
                &server,
                "GET",
                "/v1/status",
                &[("authorization", authorization)],
            )
            .await
        };
        let answer = with(&format!("Bearer {admin}")).await;
        assert_eq!(
            (answer.status, &answer.json()["state"]),
            (200, &json!("serving"))
        );
        assert_eq!(answer.header("cache-control"), "no-store");
        // A key in another place is not looked for.
        let path = format!("/v1/status?key={admin}");
        let cookie = format!("key={admin}");
        assert_eq!(
            ask(&server, "GET", &path, &[("cookie", &cookie)])
                .await
                .status,
            401
        );
        let missing = ask(&server, "GET", "/v1/status", &[]).await;
        assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"admin\"");
        assert_eq!(missing.header("content-type"), "application/problem+json");
        assert_eq!(missing.json()["status"], 401);
        for (authorization, status) in [
            (format!("Bearer {read}"), 403),
            (format!("Bearer {of_site}"), 403),
            (format!("Basic {admin}"), 401),
            (format!("Bearer {}", &admin[..admin.len() - 1]), 401),
            (String::new(), 401),
        ] {
            assert_eq!(with(&authorization).await.status, status, "{authorization}");
        }
        // What is not there is not shown to strangers either.
        assert_eq!(ask(&server, "GET", "/v1/none", &[]).await.status, 401);
        let bearer = format!("Bearer {admin}");
        let there = async |path| ask(&server, "GET", path, &[("authorization", &bearer)]).await;
        let none = there("/v1/none").await;
        assert_eq!((none.status, &none.json()["status"]), (404, &json!(404)));
        let method = ask(
            &server,
            "DELETE",
            "/v1/status",
            &[("authorization", &bearer)],
        )
        .await;
        assert_eq!((method.status, method.header("allow")), (405, "GET,HEAD"));
        // A key that is revoked ends at once.
        assert_eq!(there("/v1/instances").await.status, 200);
        let list = stockade()
            .args(["keys", "list", "--json"])
            .current_dir(server.folder.path())
            .output();
        let list: Value = serde_json::from_slice(&list.unwrap().stdout).unwrap();
        let of_admin = |key: &&Value| key["scopes"] == json!(["admin"]);
        let id = list.as_array().unwrap().iter().find(of_admin).unwrap()["id"]
            .as_str()
            .unwrap();
        let mut revoke = stockade();
        revoke
            .args(["keys", "revoke", id])
            .current_dir(server.folder.path());
        assert!(revoke.output().unwrap().status.success());
        assert_eq!(there("/v1/instances").await.status, 401);
        assert!(!events(&server, "admin_refused").await.is_empty());
    });
}

#[test]
fn page_of_another_site_gets_nowhere() {
    let server = start("");
    let bearer = format!("Bearer {}", key(&server, "admin"));
    run(async {
        let own = format!("http://{}", address(&server));
        // Each is refused, although the key is right. The control: the same requests from its own pages.
        for (host, name, value, status) in [
            // DNS rebinding: a name that the attacker controls leads here.
            (Some("attacker.example"), "x", "y", 421),
            (Some("localhost.attacker.example"), "x", "y", 421),
            (Some("admin.example"), "x", "y", 200),
            (Some("localhost"), "x", "y", 200),
            (Some("[::1]"), "x", "y", 200),
            // Cross-site request forgery.
            (None, "sec-fetch-site", "cross-site", 403),
            (None, "sec-fetch-site", "same-site", 403),
            (None, "sec-fetch-site", "same-origin", 200),
            (None, "sec-fetch-site", "none", 200),
            (None, "origin", "https://attacker.example", 403),
            (None, "origin", "null", 403),
            (None, "origin", "http://127.0.0.1", 403),
            (None, "origin", own.as_str(), 200),
        ] {
            let mut headers = vec![("authorization", bearer.as_str()), (name, value)];
            headers.extend(host.map(|host| ("host", host)));
            let answer = ask(&server, "POST", "/v1/reload", &headers).await;
            assert_eq!(answer.status, status, "{host:?} {name}: {value}");
        }
        // A browser asks before it sends a request with `authorization`, and is not answered with what it needs.
        let asks = [
            ("origin", "https://attacker.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization"),
        ];
        let answer = ask(&server, "OPTIONS", "/v1/reload", &asks).await;
        assert_eq!(answer.status, 403);
        let allows = |name: &&http::HeaderName| name.as_str().starts_with("access-control-");
        assert!(!answer.headers.keys().any(|name| allows(&name)));
        // Each reload that was allowed is in the audit log, with the key that did it.
        let mut recorded = events(&server, "admin_request").await;
        recorded.retain(|record| record["path"] == "/v1/reload");
        assert_eq!(recorded.len(), 6, "{recorded:?}");
        assert_eq!(recorded[0]["caller"], "api_key");
    });
}

#[test]
fn guesser_waits_and_sites_are_served_meanwhile() {
    let server = start("");
    let bearer = format!("Bearer {}", key(&server, "admin"));
    run(async {
        let wrong = stockade_auth::ApiKey::generate().unwrap();
        let wrong = format!("Bearer {}", wrong.reveal());
        let mut status = 0;
        for _ in 0..1000 {
            let answer = ask(&server, "GET", "/v1/status", &[("authorization", &wrong)]).await;
            status = answer.status;
            if status == 429 {
                assert!(!answer.header("retry-after").is_empty());
                break;
            }
            assert_eq!(status, 401);
        }
        assert_eq!(status, 429);
        // The right key waits too, for the answer would say that it is right. The control socket does not.
        assert_eq!(
            ask(&server, "GET", "/v1/status", &[("authorization", &bearer)])
                .await
                .status,
            429
        );
        assert!(!events(&server, "admin_refused").await.is_empty());
        assert_eq!(
            send(server.address(), get("any.example", "/")).await.text(),
            "here"
        );
    });
}

#[test]
fn clients_that_stall_take_no_place_of_the_sites() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let server = start("limits: {connections_per_address: 16}\n");
    run(async {
        let mut stalled = Vec::new();
        for _ in 0..64 {
            let mut stream = tokio::net::TcpStream::connect(address(&server))
                .await
                .unwrap();
            stream
                .write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n")
                .await
                .unwrap();
            stalled.push(stream);
        }
        assert_eq!(
            send(server.address(), get("any.example", "/")).await.text(),
            "here"
        );
        // Those that stall are ended: each is answered, or closed.
        for mut stream in stalled {
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text).await;
            assert!(!text.starts_with(b"HTTP/1.1 200"));
        }
    });
}

/// A client on the control socket, and the status of what it asked.
async fn call(server: &Server, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let client = AdminClient::at_socket(&server.path("stockade.sock"));
    match client.json::<Value>(method, path, body.as_ref()).await {
        Ok(value) => (200, value),
        Err(AskError::Refused { status, detail }) => (status.as_u16(), json!(detail)),
        Err(error) => panic!("{path}: {error}"),
    }
}

#[test]
fn mirrors_are_started_drained_restarted_and_killed() {
    let server = start("");
    run(async {
        let numbers = async || {
            let (_, site) = call(&server, Method::GET, "/v1/instances/site", None).await;
            let mirrors = site["mirrors"].as_array().unwrap().clone();
            let ready = mirrors.iter().filter(|mirror| mirror["state"] == "ready");
            let mut numbers: Vec<u64> = ready
                .map(|mirror| mirror["mirror"].as_u64().unwrap())
                .collect();
            numbers.sort_unstable();
            numbers
        };
        let until = async |expected: &[u64]| {
            while numbers().await != expected {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let post = async |path: &str| call(&server, Method::POST, path, None).await;
        until(&[0]).await;
        let started = post("/v1/instances/site/mirrors").await;
        assert_eq!(started, (200, json!({ "mirrors_wanted": 2 })));
        until(&[0, 1]).await;
        post("/v1/instances/site/mirrors/0/restart").await;
        until(&[1, 2]).await;
        post("/v1/instances/site/mirrors/1/kill").await;
        until(&[2, 3]).await;
        let drained = post("/v1/instances/site/mirrors/2/drain").await;
        assert_eq!(drained, (200, json!({ "mirrors_wanted": 1 })));
        until(&[3]).await;
        assert_eq!(
            send(server.address(), get("any.example", "/")).await.text(),
            "here"
        );
        assert_eq!(post("/v1/instances/site/mirrors/77/kill").await.0, 404);
        assert_eq!(post("/v1/instances/site/mirrors/-1/kill").await.0, 400);
        let (_, routes) = call(&server, Method::GET, "/v1/routes", None).await;
        assert_eq!(routes["routes"][0]["pattern"], "/*");
        assert_eq!(routes["routes"][0]["instance"], "site");
    });
}

#[test]
fn configuration_is_replaced_by_version_and_rolled_back() {
    let server = start("watch: false\n");
    run(async {
        let (_, before) = call(&server, Method::GET, "/v1/config", None).await;
        let old = std::fs::read_to_string(server.path("stockade.yaml")).unwrap();
        assert_eq!(before["text"], old);
        let next = old.replace("code: ./a.js", "code: ./a.js, env: {TOKEN: hunter2}");
        let text = |text: &str| Some(json!({ "text": text }));

        // Nothing changes by checks.
        let (_, valid) = call(&server, Method::POST, "/v1/config/validate", text(&next)).await;
        assert_eq!(valid["valid"], true);
        let wrong = old.replace("code:", "cod:");
        let (_, invalid) = call(&server, Method::POST, "/v1/config/validate", text(&wrong)).await;
        assert_eq!(invalid["valid"], false);
        assert!(
            invalid["diagnostics"][0]["line"].as_u64().unwrap() > 1,
            "{invalid}"
        );
        let mut findings = invalid["diagnostics"].as_array().unwrap().iter();
        assert!(
            findings.any(|found| found["nearest"] == "code"),
            "{invalid}"
        );
        let (_, diff) = call(&server, Method::POST, "/v1/config/diff", text(&next)).await;
        assert_eq!(
            (&diff["changed"], &diff["settings"]),
            (&json!(["site"]), &json!([]))
        );

        // A version is needed, and the right one.
        let bearer = format!("Bearer {}", key(&server, "admin"));
        let put = async |text: &str, version: Option<&str>| {
            let body = json!({ "text": text }).to_string();
            let mut request = with_body("PUT", "localhost", "/v1/config", body);
            let headers = request.headers_mut();
            headers.insert("authorization", bearer.parse().unwrap());
            headers.insert("content-type", "application/json".parse().unwrap());
            if let Some(version) = version {
                headers.insert("if-match", format!("\"{version}\"").parse().unwrap());
            }
            send(address(&server), request).await
        };
        let version = before["version"].as_str().unwrap();
        assert_eq!(put(&next, None).await.status, 428);
        assert_eq!(put(&next, Some("0000000000000000")).await.status, 412);
        assert_eq!(put(&wrong, Some(version)).await.status, 422);
        // What cannot start is refused, too, and the file stays.
        std::fs::write(server.path("broken.js"), "throw new Error('no');").unwrap();
        let broken = old.replace("./a.js", "./broken.js");
        assert_eq!(put(&broken, Some(version)).await.status, 422);
        let file = || std::fs::read_to_string(server.path("stockade.yaml")).unwrap();
        assert_eq!(file(), old);
        let applied = put(&next, Some(version)).await;
        assert_eq!((applied.status, file()), (200, next.clone()));
        assert_eq!(put(&next, Some(version)).await.status, 412);

        // Values of env are not shown, and cannot be lost by writing what was shown.
        let (_, shown) = call(&server, Method::GET, "/v1/config", None).await;
        let shown = shown["text"].as_str().unwrap();
        assert!(
            !shown.contains("hunter2") && shown.contains("TOKEN: \"[redacted]\""),
            "{shown}"
        );
        let version = applied.json()["version"].as_str().unwrap().to_owned();
        assert_eq!(put(shown, Some(&version)).await.status, 422);

        // Back to the version before.
        let (_, history) = call(&server, Method::GET, "/v1/config/history", None).await;
        let versions = history["versions"].as_array().unwrap();
        assert_eq!(versions.len(), 2, "{history}");
        let first = json!({ "version": versions[0]["version"] });
        let (status, _) = call(&server, Method::POST, "/v1/config/rollback", Some(first)).await;
        assert_eq!((status, file()), (200, old));
        let none = Some(json!({ "version": "../../../etc/passwd" }));
        assert_eq!(
            call(&server, Method::POST, "/v1/config/rollback", none)
                .await
                .0,
            404
        );
    });
}

#[test]
fn keys_are_made_rotated_and_revoked() {
    let server = start("");
    run(async {
        let request =
            json!({ "name": "ops", "scopes": ["admin"], "owner": "me", "metadata": { "a": 1 } });
        let (_, made) = call(&server, Method::POST, "/v1/keys", Some(request)).await;
        let (text, id) = (
            made["text"].as_str().unwrap(),
            made["key"]["id"].as_str().unwrap(),
        );
        let opens = async |key: &str| {
            let bearer = format!("Bearer {key}");
            ask(&server, "GET", "/v1/status", &[("authorization", &bearer)])
                .await
                .status
        };
        assert_eq!(opens(text).await, 200);
        let path = format!("/v1/keys/{id}");
        let (_, shown) = call(&server, Method::GET, &path, None).await;
        assert_eq!(
            (&shown["status"], &shown["owner"]),
            (&json!("active"), &json!("me"))
        );
        assert!(!shown.to_string().contains(text));
        let rotate = format!("{path}/rotate");
        let now = Some(json!({ "overlap_seconds": 0 }));
        let (_, rotated) = call(&server, Method::POST, &rotate, now).await;
        let next = rotated["text"].as_str().unwrap();
        assert_eq!((opens(text).await, opens(next).await), (401, 200));
        let (_, listed) = call(&server, Method::GET, "/v1/keys?owner=me", None).await;
        assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
        call(&server, Method::POST, &format!("{path}/revoke"), None).await;
        assert_eq!(opens(next).await, 401);
        let again = call(&server, Method::POST, &rotate, Some(json!({}))).await;
        assert_eq!(again.0, 409);
        for (body, status) in [
            (json!({ "name": "a", "scopes": ["No"] }), 422),
            (json!({ "name": "" }), 422),
            (json!({ "name": "a", "expires": "soon" }), 422),
            (json!({ "name": "a", "more": 1 }), 422),
            (json!([]), 422),
        ] {
            let refused = call(&server, Method::POST, "/v1/keys", Some(body.clone())).await;
            assert_eq!(refused.0, status, "{body}");
        }
        assert_eq!(
            call(&server, Method::GET, "/v1/keys/key_none", None)
                .await
                .0,
            404
        );
        // Keys are in no record of the audit log.
        let log = call(&server, Method::GET, "/v1/audit?limit=1000", None)
            .await
            .1
            .to_string();
        assert!(log.contains("/rotate") && !log.contains(text) && !log.contains(next));
    });
}

#[test]
fn address_has_64_connections_on_the_listener_and_one_that_closes_makes_room() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let server = start("");
    run(async {
        // A request that needs no key, on a connection that stays.
        let ask = async || {
            let mut stream = tokio::net::TcpStream::connect(address(&server))
                .await
                .ok()?;
            let request = format!(
                "GET /v1/openapi.json HTTP/1.1\r\nhost: {}\r\n\r\n",
                address(&server)
            );
            // A listener that refuses may be faster than the request.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut start = [0; 9];
            stream.read_exact(&mut start).await.ok()?;
            Some(stream)
        };
        let mut open = Vec::new();
        for _ in 0..64 {
            open.push(ask().await.unwrap());
        }
        for _ in 0..10 {
            assert!(ask().await.is_none());
        }
        open.pop();
        while ask().await.is_none() {}
        // Sites have connections of their own.
        let answer = send(server.address(), get("any.example", "/")).await;
        assert_eq!(answer.text(), "here");
    });
}

/// Replaces the configuration for ever, and reports each time that it was acknowledged.
async fn replace_for_ever(
    address: SocketAddr,
    key: String,
    texts: [String; 2],
    acknowledged: std::sync::mpsc::Sender<()>,
) {
    for round in 0.. {
        let body = json!({ "text": texts[round % 2] }).to_string();
        let mut request = with_body("PUT", &address.to_string(), "/v1/config", body);
        for (name, value) in [
            ("authorization", format!("Bearer {key}")),
            ("content-type", "application/json".to_owned()),
            ("if-match", "*".to_owned()),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        // The server is gone, or going.
        let Ok(answer) = crate::client::try_open(address, request).await else {
            return;
        };
        assert_eq!(answer.status(), 200);
        let _ = acknowledged.send(());
    }
}

#[test]
fn server_killed_while_its_configuration_is_replaced_has_the_old_or_the_new_one_as_a_whole() {
    let config = format!(
        "{PLAIN}watch: false\nadmin: {{listen: \"127.0.0.1:0\"}}\n\
         instances: {{site: {{code: ./a.js, urls: [\"/*\"], env: {{N: first}}}}}}\n"
    );
    let code = "export default { fetch: (request, env) => new Response(env.N) };";
    let mut server = Server::start(&config, &[("a.js", code)]);
    let key = key(&server, "admin");
    let first = std::fs::read_to_string(server.path("stockade.yaml")).unwrap();
    // Of different lengths, so that a mixture is none of them.
    let texts = ["one".to_owned(), "two".repeat(5000)];
    let texts = texts.map(|name| first.replace("first", &name));
    for round in 0..kills(6) {
        let (sender, acknowledged) = std::sync::mpsc::channel();
        let (at, key, given) = (address(&server), key.clone(), texts.clone());
        let client = std::thread::spawn(move || run(replace_for_ever(at, key, given, sender)));
        for _ in 0..=round % 3 {
            acknowledged.recv().unwrap();
        }
        // Another instant each time.
        std::thread::sleep(std::time::Duration::from_millis(round as u64 * 7));
        server.signal(rustix::process::Signal::KILL);
        client.join().unwrap();
        let text = std::fs::read_to_string(server.path("stockade.yaml")).unwrap();
        assert!(texts.contains(&text), "round {round}: {} bytes", text.len());
        for past in std::fs::read_dir(server.path("stockade.yaml.history")).unwrap() {
            let path = past.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "yaml") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(text == first || texts.contains(&text), "{}", path.display());
            }
        }
        server = server.again();
        let answer = run(async { send(server.address(), get("any.example", "/")).await.text() });
        assert!(text.contains(&format!("N: {answer}")), "{answer}");
    }
}
