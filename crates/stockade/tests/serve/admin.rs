//! The admin API: on the control socket, and on its own listener, where attackers come from pages in browsers, from the
//! network, and with keys of sites.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};
use stockade_serve::{AdminClient, AskError};

use crate::client::{Answer, get, run, send, with_body};
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
fn address(server: &Server) -> SocketAddr {
    let announced = server.announced();
    let mut lines = announced.lines();
    let found = lines.find_map(|line| line.strip_prefix("  admin API on http://"));
    let found = found.and_then(|url| url.strip_suffix("/v1/"));
    found.unwrap().parse().unwrap()
}

/// A key with this scope.
fn key(server: &Server, scope: &str) -> String {
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

async fn events(server: &Server, event: &str) -> Vec<Value> {
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
        let there = |path| ask(&server, "GET", path, &[("authorization", &bearer)]);
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
        let recorded = events(&server, "admin_request").await;
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
        // One address may have so many connections: the next one is closed.
        let mut next = tokio::net::TcpStream::connect(address(&server))
            .await
            .unwrap();
        let mut text = Vec::new();
        let _ = next.read_to_end(&mut text).await;
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
