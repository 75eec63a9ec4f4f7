//! API keys: who is let in, what a key may call, how often, and what ends with it.

use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use stockade_auth::{ApiKey, KeyFields, KeyLimits, NewKey, Pepper, Scope, Store};

use crate::client::{Server, WebSocket, call, request};

/// A store of keys.
pub(crate) struct KeyStore {
    store: Store,
    folder: tempfile::TempDir,
}

/// A server with a store of keys.
pub(crate) struct Keyed {
    pub(crate) server: Server,
    keys: KeyStore,
}

/// The answer to a request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl KeyStore {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pepper = Pepper::read_or_make(&folder.path().join("pepper")).unwrap();
        let store = Store::open(&folder.path().join("keys.db"), pepper).unwrap();
        Self { store, folder }
    }

    pub(crate) fn key(&mut self, scopes: &[&str], limits: KeyLimits) -> NewKey {
        let scopes = scopes.iter().map(|name| Scope::parse(name).unwrap());
        let fields = KeyFields {
            name: "test".to_owned(),
            scopes: scopes.collect(),
            limits,
            ..KeyFields::default()
        };
        self.store.create(&fields, SystemTime::now()).unwrap()
    }

    fn server(&self, options: &[&str]) -> Server {
        let at = |name: &str| {
            let path = self.folder.path().join(name);
            path.to_str().unwrap().to_owned()
        };
        let given = ["--keys", &at("keys.db"), "--pepper", &at("pepper")];
        Server::start(&[&given, options].concat())
    }

    pub(crate) fn serve(self, options: &[&str]) -> Keyed {
        Keyed {
            server: self.server(options),
            keys: self,
        }
    }
}

impl Keyed {
    pub(crate) fn ask(&self, headers: &str, body: &Value) -> Answer {
        let mut stream = self.server.connect();
        let text = request("localhost", headers, &body.to_string());
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn ask_with(&self, key: &ApiKey, body: &Value) -> Answer {
        self.ask(&bearer(key), body)
    }

    /// Sends a request that takes long, and leaves without its answer.
    pub(crate) fn ask_and_leave(&self, key: &ApiKey, body: &Value) {
        let mut stream = self.server.connect();
        let text = request("localhost", &bearer(key), &body.to_string());
        stream.write_all(text.as_bytes()).unwrap();
        let soon = Duration::from_millis(500);
        stream.set_read_timeout(Some(soon)).unwrap();
        let answered = stream.read_exact(&mut [0]);
        assert!(answered.is_err(), "it takes long");
    }
}

fn bearer(key: &ApiKey) -> String {
    format!("authorization: Bearer {}\r\n", key.reveal())
}

pub(crate) fn none() -> KeyLimits {
    KeyLimits::default()
}

#[test]
fn client_without_a_valid_key_is_refused_and_one_with_a_key_is_let_in() {
    let mut keys = KeyStore::new();
    let made = keys.key(&["write"], none());
    let keyed = keys.serve(&[]);
    let body = call(1, "add", json!([2, 3]));
    assert_eq!(keyed.ask_with(&made.key, &body).json()["result"], 5);
    let wrong = format!(
        "authorization: Bearer {}\r\n",
        ApiKey::generate().unwrap().reveal()
    );
    let twice = bearer(&made.key).repeat(2);
    for (headers, status, challenge) in [
        ("", 401, Some("Bearer realm=\"guest\"")),
        (
            "authorization: Basic YTpi\r\n",
            401,
            Some("Bearer realm=\"guest\""),
        ),
        (
            wrong.as_str(),
            401,
            Some("Bearer realm=\"guest\", error=\"invalid_token\""),
        ),
        (twice.as_str(), 400, None),
    ] {
        let headers = format!("{headers}accept: application/json\r\n");
        let answer = keyed.ask(&headers, &body);
        let found = (answer.status, answer.header("www-authenticate"));
        assert_eq!(found, (status, challenge), "{headers}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.json()["status"], status);
        assert!(!answer.body.contains("sk_stockade_"));
    }
    // Nothing was called by those that were refused.
    let counts = keyed.ask_with(&made.key, &call(2, "counts", json!([])));
    assert_eq!(counts.json()["result"], 0);
}

#[test]
fn function_needs_its_scope_and_a_batch_has_an_error_for_each_call_without() {
    let mut keys = KeyStore::new();
    let reader = keys.key(&["guest/read"], none());
    let biller = keys.key(&["billing", "write"], none());
    let keyed = keys.serve(&["--scope", "add=read", "--scope", "count=billing"]);
    let add = call(1, "add", json!([2, 3]));
    let count = call(2, "count", json!([]));
    let args = call(3, "args", json!([7]));
    assert_eq!(keyed.ask_with(&reader.key, &add).json()["result"], 5);
    let answer = keyed.ask_with(&reader.key, &count);
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"guest\", error=\"insufficient_scope\", scope=\"billing\"")
    );
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["code"], &error["data"]),
        (&json!(-32004), &json!({"scope": "billing"}))
    );
    let batch = json!([add, count, args]);
    let answer = keyed.ask_with(&reader.key, &batch);
    let codes: Vec<Value> = answer
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["error"]["code"].clone())
        .collect();
    assert_eq!(answer.status, 200);
    assert_eq!(codes, [json!(null), json!(-32004), json!(-32004)]);
    let answer = keyed.ask_with(&biller.key, &batch).json();
    // The call that was refused has not run.
    assert_eq!(
        (&answer[1]["result"], &answer[2]["result"]),
        (&json!(1), &json!([7]))
    );
}

#[test]
fn calls_beyond_a_limit_are_refused_each_also_in_a_batch_and_other_keys_go_on() {
    let mut keys = KeyStore::new();
    let own = KeyLimits::parse(None, None, Some("2/day")).unwrap();
    let [one, two] = [1; 2].map(|_| keys.key(&["write"], none()));
    let limited = keys.key(&["write"], own);
    let keyed = keys.serve(&["--rate", "3/h"]);
    let count = call(1, "count", json!([]));
    let answer = keyed.ask_with(&one.key, &count);
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"key-requests\";q=3;w=3600")
    );
    assert!(
        answer
            .header("ratelimit")
            .unwrap()
            .starts_with("\"key-requests\";r=2;t=")
    );
    let batch = json!([count, count, count, count]);
    let answers = keyed.ask_with(&one.key, &batch).json();
    let codes: Vec<&Value> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["error"]["code"])
        .collect();
    assert_eq!(
        codes,
        [&json!(null), &json!(null), &json!(-32005), &json!(-32005)]
    );
    let answer = keyed.ask_with(&one.key, &count);
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1190..=1200).contains(&wait), "{wait}");
    let error = &answer.json()["error"];
    assert_eq!(error["data"]["limit"], "key-requests");
    assert_eq!(error["data"]["retryAfter"], wait);
    // Another key has its own, and the lower limit of a key holds.
    let statuses = |key: &ApiKey| [1; 4].map(|_| keyed.ask_with(key, &count).status);
    assert_eq!(statuses(&two.key), [200, 200, 200, 429]);
    assert_eq!(statuses(&limited.key), [200, 200, 429, 429]);
    let counted = keyed.ask_with(&limited.key, &count);
    assert_eq!(counted.json()["error"]["data"]["limit"], "key-quota");
    // Only the limit that refuses is stated, and not the one of which a call is left.
    assert_eq!(
        counted.header("ratelimit-policy"),
        Some("\"key-quota\";q=2;w=86400")
    );
    let state = counted.header("ratelimit").unwrap();
    assert!(state.starts_with("\"key-quota\";r=0;t="), "{state}");
}

#[test]
fn address_that_guesses_waits_and_its_valid_keys_do_not() {
    let mut keys = KeyStore::new();
    let made = keys.key(&["write"], none());
    let keyed = keys.serve(&[]);
    let body = call(1, "add", json!([2, 3]));
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let wrong = ApiKey::generate().unwrap();
        statuses.push(keyed.ask_with(&wrong, &body).status);
        if statuses.ends_with(&[429]) {
            break;
        }
    }
    assert!(
        statuses.len() > 50 && statuses.ends_with(&[429]),
        "{statuses:?}"
    );
    assert_eq!(keyed.ask_with(&made.key, &body).status, 200);
}

#[tokio::test]
async fn revoked_key_ends_its_websocket_and_the_call_that_is_awaited() {
    let mut keys = KeyStore::new();
    let [gone, stays] = [1; 2].map(|_| keys.key(&["write"], none()));
    let mut keyed = keys.serve(&[]);
    assert_eq!(
        WebSocket::open_from(&keyed.server, None).await.err(),
        Some(401)
    );
    let mut socket = WebSocket::open_with(&keyed.server, &gone.key)
        .await
        .unwrap();
    let mut other = WebSocket::open_with(&keyed.server, &stays.key)
        .await
        .unwrap();
    let answer = socket.round_trip(&call(1, "add", json!([2, 3]))).await;
    assert_eq!(answer["result"], 5);
    let awaited = {
        let mut stream = keyed.server.connect();
        let body = call(1, "never", json!([])).to_string();
        let text = request("localhost", &bearer(&gone.key), &body);
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    socket.send(&call(2, "never", json!([])).to_string()).await;
    let store = &mut keyed.keys.store;
    store.revoke(gone.record.id, SystemTime::now()).unwrap();
    let last = socket.receive().await.unwrap();
    assert_eq!(
        (&last["error"]["code"], &last["id"]),
        (&json!(-32006), &json!(null))
    );
    assert!(socket.receive().await.is_err());
    let mut answer = String::new();
    (&awaited).read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let body = call(3, "add", json!([1, 1]));
    assert_eq!(keyed.ask_with(&gone.key, &body).status, 401);
    assert_eq!(other.round_trip(&body).await["result"], 2);
}

#[test]
fn quotas_of_keys_go_on_after_a_restart_where_a_file_has_them() {
    let mut keys = KeyStore::new();
    let own = KeyLimits::parse(None, None, Some("2/month")).unwrap();
    let made = keys.key(&["write"], own);
    let quotas = keys.folder.path().join("quotas.db");
    let options = ["--quotas", quotas.to_str().unwrap()];
    let mut keyed = keys.serve(&options);
    let body = call(1, "add", json!([2, 3]));
    let statuses = [1; 3].map(|_| keyed.ask_with(&made.key, &body).status);
    assert_eq!(statuses, [200, 200, 429]);
    keyed.server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(keyed.server.code(), Some(143));
    keyed.server = keyed.keys.server(&options);
    assert_eq!(keyed.ask_with(&made.key, &body).status, 429);
}
