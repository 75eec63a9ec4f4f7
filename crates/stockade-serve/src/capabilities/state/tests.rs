use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use stockade_http::Body;
use stockade_state::{SqliteOptions, SqliteStore, Store};

use super::*;

struct Bench {
    _folder: tempfile::TempDir,
    keyspace: Arc<dyn Keyspace>,
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("s.db"))).unwrap();
    let limits = Limits {
        storage_bytes: 10_000,
        value_bytes: 5_000,
        watches: 2,
        ..Limits::default()
    };
    let name = KeyspaceName::new("site").unwrap();
    let keyspace = store.open(name, limits).await.unwrap();
    // The store lives on in its threads until the queues close, which the last handle does.
    std::mem::forget(store);
    Bench {
        _folder: folder,
        keyspace,
    }
}

fn arguments(argument: Json, bytes: &[&[u8]]) -> CallPayload {
    Payload {
        json: Json::Array(vec![argument]).to_string(),
        bytes: bytes.iter().map(|part| part.to_vec()).collect(),
        marked: !bytes.is_empty(),
    }
    .into()
}

impl Bench {
    async fn call(&self, method: &str, call: CallPayload) -> Result<CallPayload, GuestError> {
        let state = StateBinding(Arc::clone(&self.keyspace));
        let owner = stockade_capability::Owner {
            instance: "site".into(),
            start: 1,
            mirror: 1,
        };
        let context = CallContext {
            owner,
            notes: stockade_capability::CallNotes::default(),
            place: stockade_capability::CallPlace::default(),
        };
        state.call(context, method, call).await
    }

    async fn ask(
        &self,
        method: &str,
        argument: Json,
        bytes: &[&[u8]],
    ) -> Result<Payload, GuestError> {
        let value = self.call(method, arguments(argument, bytes)).await?;
        assert!(value.streams.is_empty());
        Ok(value.payload)
    }

    async fn plain(&self, method: &str, argument: Json) -> Json {
        let data = self.ask(method, argument, &[]).await.unwrap();
        serde_json::from_str(&data.into_plain_json().unwrap()).unwrap()
    }

    async fn put(&self, mut argument: Json, value: &[u8]) -> Result<Json, GuestError> {
        argument["value"] = json!("\0b0");
        let data = self.ask("put", argument, &[value]).await?;
        Ok(serde_json::from_str(&data.json).unwrap())
    }

    async fn lines(&self, argument: Json) -> Result<Body, GuestError> {
        let mut value = self.call("watch", arguments(argument, &[])).await?;
        assert_eq!(value.payload.json, r#""\u0000s0""#);
        Ok(value.streams.pop().unwrap())
    }
}

#[tokio::test]
async fn put_and_get_carry_bytes_next_to_the_text() {
    let bench = bench().await;
    assert_eq!(bench.plain("get", json!({"key": "k"})).await, Json::Null);
    let version = bench.put(json!({"key": "k", "kind": "j"}), b"[1]").await;
    assert_eq!(version, Ok(json!(1)));
    let data = bench.ask("get", json!({"key": "k"}), &[]).await.unwrap();
    assert!(data.marked);
    assert_eq!(data.bytes, [b"[1]"]);
    let answer: Json = serde_json::from_str(&data.json).unwrap();
    assert_eq!(answer, json!({"value": "\0b0", "kind": "j", "version": 1}));
}

#[tokio::test]
async fn put_with_time_to_live_gives_expiry() {
    let bench = bench().await;
    let put = json!({"key": "k", "kind": "t", "ttl": 3600.5});
    bench.put(put, b"x").await.unwrap();
    let page = bench.plain("list", json!({})).await;
    assert!(page["keys"][0]["expires"].as_i64().unwrap() > 1_700_000_000_000);
    for ttl in [json!(0), json!(-1), json!("1"), json!(-0.0)] {
        let put = json!({"key": "k", "kind": "t", "ttl": ttl});
        assert!(bench.put(put, b"x").await.is_err());
    }
    let long = json!({"key": "k", "kind": "t", "ttl": 1e300});
    assert!(bench.put(long, b"x").await.is_ok());
}

#[tokio::test]
async fn put_with_version_is_conditional() {
    let bench = bench().await;
    let put = |version: Json| bench.put(json!({"key": "k", "kind": "t", "version": version}), b"x");
    assert_eq!(put(json!(7)).await, Ok(Json::Null));
    assert_eq!(put(Json::Null).await, Ok(json!(1)));
    assert_eq!(put(json!(0)).await, Ok(Json::Null));
    assert_eq!(put(json!(1)).await, Ok(json!(2)));
    let stale = bench
        .plain("delete", json!({"key": "k", "version": 1}))
        .await;
    assert_eq!(stale, json!(false));
    let deleted = bench
        .plain("delete", json!({"key": "k", "version": 2}))
        .await;
    assert_eq!(deleted, json!(true));
    assert_eq!(
        bench.plain("delete", json!({"key": "k"})).await,
        json!(false)
    );
}

#[tokio::test]
async fn get_many_gives_an_answer_for_each_key() {
    let bench = bench().await;
    bench
        .put(json!({"key": "a", "kind": "t"}), b"1")
        .await
        .unwrap();
    bench
        .put(json!({"key": "b", "kind": "b"}), b"2")
        .await
        .unwrap();
    let keys = json!({"keys": ["b", "none", "a"]});
    let data = bench.ask("getMany", keys, &[]).await.unwrap();
    let answer: Json = serde_json::from_str(&data.json).unwrap();
    assert_eq!(answer[0]["value"], "\0b0");
    assert_eq!(answer[1], Json::Null);
    assert_eq!(answer[2]["value"], "\0b1");
    assert_eq!(data.bytes, [b"2", b"1"]);
}

#[tokio::test]
async fn atomic_is_all_or_nothing() {
    let bench = bench().await;
    let atomic = json!({
        "checks": [{"key": "a", "version": null}],
        "mutations": [
            {"op": "put", "key": "a", "kind": "t", "value": "\0b1"},
            {"op": "put", "key": "b", "kind": "t", "value": "\0b0", "ttl": 60},
            {"op": "delete", "key": "c"},
        ],
    });
    let done = bench
        .ask("atomic", atomic.clone(), &[b"B", b"A"])
        .await
        .unwrap();
    assert_eq!(done.json, r#"{"ok":true,"version":1,"versions":[1,1,1]}"#);
    let again = bench.ask("atomic", atomic, &[b"B", b"A"]).await.unwrap();
    assert_eq!(again.json, r#"{"ok":false,"check":0}"#);
    let data = bench.ask("get", json!({"key": "a"}), &[]).await.unwrap();
    assert_eq!(data.bytes, [b"A"]);
}

#[tokio::test]
async fn keys_that_begin_as_marks_do_come_back_as_they_are() {
    let bench = bench().await;
    // In marked data such a text has one more U+0000.
    bench
        .put(json!({"key": "\0\0b0", "kind": "t"}), b"x")
        .await
        .unwrap();
    let page = bench.plain("list", json!({"limit": 1})).await;
    assert_eq!(page["keys"][0]["key"], "\0b0");
    let data = bench.ask("get", json!({"key": "\0b0"}), &[]).await.unwrap();
    assert_eq!(data.bytes, [b"x"]);
}

#[tokio::test]
async fn list_gives_pages() {
    let bench = bench().await;
    for key in ["a", "b", "c"] {
        bench
            .put(json!({"key": key, "kind": "t"}), b"xy")
            .await
            .unwrap();
    }
    let page = bench.plain("list", json!({"limit": 2})).await;
    assert_eq!(
        page,
        json!({
            "keys": [{"key": "a", "version": 1, "size": 2}, {"key": "b", "version": 2, "size": 2}],
            "cursor": "b",
            "version": 3,
        })
    );
    let page = bench.plain("list", json!({"cursor": "b"})).await;
    assert_eq!(page["keys"][0]["key"], "c");
    assert_eq!(page.get("cursor"), None);
}

async fn next_line(lines: &mut Body) -> Json {
    serde_json::from_slice(&next_lines(lines).await).unwrap()
}

async fn next_lines(lines: &mut Body) -> Vec<u8> {
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let frame = lines.frame().await.unwrap().unwrap();
        let chunk = frame.into_data().unwrap();
        assert!(chunk.len() <= 64 << 10);
        text.extend(chunk);
    }
    text
}

#[tokio::test]
async fn watch_gives_lines() {
    let bench = bench().await;
    let mut lines = bench.lines(json!({"keys": ["k"]})).await.unwrap();
    bench
        .put(json!({"key": "k", "kind": "t"}), b"x")
        .await
        .unwrap();
    let line = next_line(&mut lines).await;
    assert_eq!(line, json!({"type": "put", "key": "k", "version": 1}));
    bench.plain("delete", json!({"key": "k"})).await;
    let line = next_line(&mut lines).await;
    assert_eq!(line["type"], "delete");
    let mut late = bench
        .lines(json!({"prefix": "", "version": 99}))
        .await
        .unwrap();
    assert_eq!(
        next_line(&mut late).await,
        json!({"type": "lagged", "version": 2})
    );
    let error = bench.lines(json!({"prefix": ""})).await.err().unwrap();
    assert_eq!(error.name, "BusyError");
}

#[tokio::test]
async fn watch_of_many_changes_gives_bounded_chunks() {
    let bench = bench().await;
    let mut lines = bench.lines(json!({"prefix": ""})).await.unwrap();
    for number in 0..50 {
        let name = format!("{number}{}", "\u{1}".repeat(2000));
        bench
            .put(json!({"key": name, "kind": "t"}), b"")
            .await
            .unwrap();
        bench.plain("delete", json!({"key": name})).await;
    }
    let mut text = Vec::new();
    while text.iter().filter(|byte| **byte == b'\n').count() < 100 {
        text.extend(next_lines(&mut lines).await);
    }
    assert!(text.len() > 1 << 20);
}

#[tokio::test]
async fn usage_gives_numbers() {
    let bench = bench().await;
    bench
        .put(json!({"key": "k", "kind": "t"}), b"xy")
        .await
        .unwrap();
    let usage = bench.plain("usage", json!({})).await;
    assert_eq!(
        usage,
        json!({"entries": 1, "bytes": 67, "limit": 10_000, "version": 1})
    );
}

#[tokio::test]
async fn what_does_not_fit_is_an_error_of_the_guest() {
    let bench = bench().await;
    let cases = [
        ("none", json!({}), "TypeError"),
        ("get", json!({}), "TypeError"),
        ("get", json!({"key": 1}), "TypeError"),
        ("get", json!({"key": "k", "more": 1}), "TypeError"),
        ("get", json!({"key": ""}), "RangeError"),
        ("get", json!({"key": "k".repeat(2049)}), "RangeError"),
        ("get", json!(null), "TypeError"),
        ("getMany", json!({"keys": vec!["k"; 129]}), "RangeError"),
        (
            "put",
            json!({"key": "k", "kind": "t", "value": "text"}),
            "TypeError",
        ),
        (
            "put",
            json!({"key": "k", "kind": "t", "value": "\0b0"}),
            "TypeError",
        ),
        ("delete", json!({"key": "k", "version": -1}), "TypeError"),
        ("delete", json!({"key": "k", "version": 1.5}), "TypeError"),
        ("list", json!({"limit": 0}), "RangeError"),
        ("list", json!({"limit": 1001}), "RangeError"),
        ("list", json!({"limit": -1}), "TypeError"),
        ("list", json!({"cursor": "c".repeat(3000)}), "RangeError"),
        ("atomic", json!({"checks": [{"key": "k"}]}), "TypeError"),
        (
            "atomic",
            json!({"mutations": [{"op": "increment", "key": "k"}]}),
            "TypeError",
        ),
        (
            "atomic",
            json!({"mutations": vec![json!({"op": "delete", "key": "k"}); 129]}),
            "RangeError",
        ),
    ];
    for (method, argument, name) in cases {
        let error = bench.ask(method, argument.clone(), &[]).await.unwrap_err();
        assert_eq!(error.name, name, "{method} {argument}: {error}");
    }
    for argument in [
        json!({}),
        json!({"keys": []}),
        json!({"keys": ["k"], "prefix": ""}),
    ] {
        assert!(bench.lines(argument).await.is_err());
    }
    for json in ["", "[]", "[{},{}]", "{}", "[", "[[[[", "\u{0}"] {
        let data = Payload::from_json(json.to_owned());
        let error = bench.call("get", data.into()).await.unwrap_err();
        assert_eq!(error.name, "TypeError");
    }
}

#[tokio::test]
async fn marks_that_lie_are_refused() {
    let bench = bench().await;
    for (key, value) in [
        ("k", "\0b1"),
        ("k", "\0b-1"),
        ("k", "\0b99999999999999999999999"),
        ("k", "\0s0"),
        ("k", "\0"),
        ("\0b0", "\0b0"),
    ] {
        let put = json!({"key": key, "kind": "t", "value": value});
        assert!(bench.ask("put", put, &[b"x"]).await.is_err(), "{value:?}");
    }
    let twice = json!({"mutations": [
        {"op": "put", "key": "a", "kind": "b", "value": "\0b0"},
        {"op": "put", "key": "b", "kind": "b", "value": "\0b0"},
    ]});
    assert!(bench.ask("atomic", twice, &[b"x"]).await.is_err());
    assert!(
        bench
            .put(json!({"key": "k", "kind": "x"}), b"x")
            .await
            .is_err()
    );
    assert!(
        bench
            .put(json!({"key": "k", "kind": "t"}), b"\xff")
            .await
            .is_err()
    );
    assert!(
        bench
            .put(json!({"key": "k", "kind": "b"}), b"\xff")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn full_storage_is_named_so() {
    let bench = bench().await;
    bench
        .put(json!({"key": "a", "kind": "b"}), &[0; 5000])
        .await
        .unwrap();
    let error = bench
        .put(json!({"key": "b", "kind": "b"}), &[0; 5000])
        .await
        .unwrap_err();
    assert_eq!(error.name, "QuotaExceededError");
    assert!(
        error.message.contains("5065 of 10000 bytes are used"),
        "{error}"
    );
    let error = bench
        .put(json!({"key": "b", "kind": "b"}), &[0; 5001])
        .await
        .unwrap_err();
    assert_eq!(error.name, "RangeError");
}

#[test]
fn failures_of_the_disk_are_hidden_from_the_guest() {
    let failure = Failure::from(StateError::DiskFull {
        path: "/var/lib/secret/state.db".into(),
    });
    assert!(matches!(failure, Failure::Hidden(_)));
    let error = failure.for_guest(&KeyspaceName::new("site").unwrap());
    assert_eq!(error.name, "StateError");
    assert!(!error.message.contains("secret"));
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    let seeds: [&[u8]; 5] = [
        b"[{\"key\":\"k\",\"value\":\"\\u0000b0\",\"kind\":\"t\",\"ttl\":1e308,\"version\":null}]\nabc",
        b"[{\"checks\":[{\"key\":\"k\",\"version\":18446744073709551615}],\"mutations\":[{\"op\":\"delete\",\"key\":\"k\"}]}]",
        b"[{\"prefix\":\"\\u0000\",\"limit\":18446744073709551615,\"cursor\":\"c\"}]",
        b"[{\"keys\":[\"a\",\"b\"],\"version\":0}]",
        b"[{\"keys\":[\"\\ud800\"]}]",
    ];
    for seed in seeds {
        parse_state_calls(seed);
        for place in 0..seed.len() {
            let mut changed = seed.to_vec();
            for byte in [0, b'"', b'{', b'9', 0xff] {
                changed[place] = byte;
                parse_state_calls(&changed);
            }
            parse_state_calls(&seed[..place]);
        }
    }
}

#[tokio::test]
async fn text_that_is_no_unicode_is_a_type_error() {
    let bench = bench().await;
    for (method, argument) in [
        ("get", r#"{"key":"a\ud800"}"#),
        ("getMany", r#"{"keys":["\udc00"]}"#),
        ("list", r#"{"prefix":"\ud800"}"#),
        ("put", r#"{"key":"a\ud800","value":"\u0000b0","kind":"t"}"#),
        (
            "put",
            r#"{"key":"a","value":"\u0000b0","kind":"t","\ud800":1}"#,
        ),
        ("atomic", r#"{"checks":[{"key":"\ud800","version":1}]}"#),
    ] {
        let data = Payload {
            json: format!("[{argument}]"),
            bytes: vec![b"x".to_vec()],
            marked: true,
        };
        let error = bench.call(method, data.into()).await.unwrap_err();
        assert_eq!(error.name, "TypeError");
        assert!(error.message.contains("surrogate"), "{method}: {error}");
    }
    // The control: a whole pair.
    let whole = json!({ "key": "a😀", "kind": "t" });
    bench.put(whole, b"x").await.unwrap();
}
