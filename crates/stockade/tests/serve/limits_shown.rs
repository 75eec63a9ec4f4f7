//! The limits of clients as an operator reads them, and counters that are set back.

use std::process::Output;

use http::Method;
use serde_json::{Value, json};
use stockade_serve::{AdminClient, AskError};

use crate::client::{get, run, send};
use crate::server::{PLAIN, Server, stockade};

const CODE: &str = "export default { fetch: () => new Response('0123456789') };";

fn start() -> Server {
    let config = format!(
        "{PLAIN}audit: {{folder: ./audit}}
rate_limits: [{{by: address, requests: 1000/month}}]
instances:
  open:
    code: ./main.js
    urls: [\"open.example\"]
    rate_limits:
      - {{by: \"header:x-tenant\", requests: 2/h, burst: 2, methods: [GET], paths: [/api/*]}}
      - {{by: instance, bytes_out: 1mb/day, cpu: 10m/h}}
  shop:
    code: ./main.js
    urls: [\"shop.example\"]
    auth: true
    rate_limits: [{{by: key, requests: 2/day}}, {{by: [key, address], requests: 50/day}}]
"
    );
    Server::start(&config, &[("main.js", CODE)])
}

fn command(server: &Server, arguments: &[&str]) -> Output {
    let mut command = stockade();
    command.args(arguments).current_dir(server.folder.path());
    command.output().unwrap()
}

fn done(server: &Server, arguments: &[&str]) -> String {
    let output = command(server, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn limits(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let all = [&["limits"], arguments, &["--json"]].concat();
    let all: Value = serde_json::from_str(&done(server, &all)).unwrap();
    all["limits"].as_array().unwrap().clone()
}

fn names(limits: &[Value]) -> Vec<String> {
    let name = |limit: &Value| {
        let text = |key: &str| limit[key].as_str().unwrap().to_owned();
        format!("{} {}", text("instance"), text("name"))
    };
    limits.iter().map(name).collect()
}

/// What is used and left of the limit of this name.
fn counter<'a>(limits: &'a [Value], name: &str) -> &'a Value {
    let mut limits = limits.iter();
    let limit = limits.find(|limit| limit["name"] == name).unwrap();
    &limit["counter"]
}

/// The status that a client with this header gets.
fn status(server: &Server, host: &str, header: (&'static str, &str)) -> u16 {
    let mut request = get(host, "/api/a");
    let value = header.1.parse().unwrap();
    request.headers_mut().insert(header.0, value);
    run(send(server.address(), request)).status
}

#[test]
fn limits_are_listed_shown_for_a_client_and_set_back() {
    let server = start();
    let create = [
        "keys", "create", "a", "--scope", "read", "--quota", "3/month", "--json",
    ];
    let key: Value = serde_json::from_str(&done(&server, &create)).unwrap();
    let (key, id) = (key["key"].as_str().unwrap(), key["id"].as_str().unwrap());
    let all = limits(&server, &["list"]);
    assert_eq!(
        names(&all),
        [
            "open address-requests",
            "open x-tenant-requests",
            "open instance-bytes_out",
            "open instance-cpu",
            "shop address-requests",
            "shop key-requests",
            "shop key-address-requests",
        ]
    );
    let tenant = &all[1];
    assert_eq!(
        (
            &tenant["by"],
            &tenant["methods"],
            &tenant["paths"],
            &tenant["at_once"]
        ),
        (
            &json!(["header:x-tenant"]),
            &json!(["GET"]),
            &json!(["/api/*"]),
            &json!(2)
        )
    );
    assert_eq!(
        (&all[3]["unit"], &all[3]["amount"]),
        (&json!("cpu_ms"), &json!(600_000))
    );

    // A header: only the tenant whose counter is set back may go on.
    let of = |tenant| status(&server, "open.example", ("x-tenant", tenant));
    assert_eq!([of("acme"), of("acme"), of("acme")], [200, 200, 429]);
    assert_eq!([of("other"), of("other"), of("other")], [200, 200, 429]);
    let acme = limits(&server, &["show", "open", "--header", "x-tenant: acme"]);
    let used = counter(&acme, "x-tenant-requests");
    assert_eq!((&used["used"], &used["left"]), (&json!(2), &json!(0)));
    assert!(used["resets_in_ms"].as_u64().unwrap() > 3_000_000, "{used}");
    assert_eq!(counter(&acme, "instance-bytes_out")["used"], 40);
    // Without an address, limits by address count nobody.
    assert_eq!(acme.len(), 3, "{acme:?}");
    let text = done(&server, &["limits", "reset", used["id"].as_str().unwrap()]);
    assert_eq!(text, "set one counter back");
    assert_eq!([of("acme"), of("other")], [200, 429]);
    let text = done(
        &server,
        &["limits", "show", "open", "--header", "x-tenant: acme"],
    );
    assert!(
        text.contains("header:x-tenant  GET /api/*") && text.contains(" 2/h "),
        "{text}"
    );

    // A key: its own quota and those by key, and nobody else's.
    let bearer = format!("Bearer {key}");
    let of_key = || status(&server, "shop.example", ("authorization", &bearer));
    assert_eq!([of_key(), of_key(), of_key()], [200, 200, 429]);
    let shown = limits(
        &server,
        &["show", "shop", "--key", id, "--address", "127.0.0.1"],
    );
    for (name, used) in [
        ("key-requests", 2),
        ("key-quota", 2),
        ("key-address-requests", 2),
    ] {
        assert_eq!(counter(&shown, name)["used"], used, "{name}");
    }
    assert_eq!(counter(&shown, "address-requests")["used"], 7);
    let text = done(&server, &["limits", "reset", "--key", id]);
    assert_eq!(text, "set 2 counters back");
    let after = limits(
        &server,
        &["show", "shop", "--key", id, "--address", "127.0.0.1"],
    );
    for (name, used) in [
        ("key-requests", 0),
        ("key-quota", 0),
        ("key-address-requests", 2),
    ] {
        assert_eq!(counter(&after, name)["used"], used, "{name}");
    }
    assert_eq!(counter(&after, "address-requests")["used"], 7);
    assert_eq!(of_key(), 200);
    // Each is on record.
    let records = done(
        &server,
        &["audit", "search", "--json", "--event", "admin_request"],
    );
    assert!(
        records.contains(&format!("/v1/limits/keys/{id}")),
        "{records}"
    );
}

#[test]
fn pages_of_limits_are_bounded_and_a_wrong_question_is_refused() {
    let server = start();
    let client = AdminClient::at_socket(&server.path("stockade.sock"));
    run(async {
        let mut found = Vec::new();
        let mut path = "/v1/limits?limit=2".to_owned();
        loop {
            let page: Value = client.json(Method::GET, &path, None).await.unwrap();
            let limits = page["limits"].as_array().unwrap();
            assert!(limits.len() <= 2, "{page}");
            found.extend(names(limits));
            let Some(cursor) = page["cursor"].as_str() else {
                break;
            };
            path = format!("/v1/limits?limit=2&cursor={cursor}");
        }
        let all: Value = client.json(Method::GET, "/v1/limits", None).await.unwrap();
        assert_eq!(found, names(all["limits"].as_array().unwrap()));
        for (method, path, status) in [
            (Method::GET, "/v1/limits?limit=0", 400),
            (Method::GET, "/v1/limits?limit=1001", 400),
            (Method::GET, "/v1/limits?limit=1&limit=2", 400),
            (Method::GET, "/v1/limits?speed=1", 400),
            (Method::GET, "/v1/limits?cursor=x", 400),
            (Method::GET, "/v1/limits?address=here", 400),
            (Method::GET, "/v1/limits?header=x", 400),
            (Method::GET, "/v1/limits?header=a%0Ab:x", 400),
            (Method::GET, "/v1/limits?instance=none", 404),
            (Method::GET, "/v1/limits?key=none", 404),
            (Method::DELETE, "/v1/limits/ff", 404),
            (Method::DELETE, "/v1/limits/+00000000000000f", 404),
            (Method::DELETE, "/v1/limits/keys/key_00000000000", 404),
        ] {
            let answer = client.json::<Value>(method, path, None).await;
            let Err(AskError::Refused { status: is, .. }) = answer else {
                panic!("{path}: {answer:?}");
            };
            assert_eq!(is.as_u16(), status, "{path}");
        }
        let path = "/v1/limits/0123456789abcdef";
        let nothing: Value = client.json(Method::DELETE, path, None).await.unwrap();
        assert_eq!(nothing, json!({ "counters": 0 }));
    });
}
