use std::path::Path;

use serde_json::json;
use stockade_broker::{Broker, BrokerOptions};
use stockade_capability::HandleCount;
use stockade_config::{Grant, PostgresGrant};

use super::*;

fn grant(kind: &str, section: Value) -> Grant {
    let json = json!({ "DB": { kind: section } }).to_string();
    let mut grants = stockade_config::parse_grants(&json, Path::new("/")).unwrap();
    grants.remove("DB").unwrap()
}

fn ground() -> Ground {
    let broker = Broker::new(BrokerOptions::default()).unwrap();
    Ground {
        instance: "shop".into(),
        binding: "DB".into(),
        network: broker.network(),
        ways: Default::default(),
        broker,
        handles: HandleCount::default(),
        data: None,
    }
}

fn opened(kind: &str, section: Value) -> Result<(), String> {
    let grant = grant(kind, section);
    let opened = crate::of(&grant).open(&ground());
    opened.map(drop).map_err(|error| error.to_string())
}

#[test]
fn guest_knows_the_database_and_nothing_else() {
    for (kind, url, database) in [
        (
            "postgres",
            "postgresql://u:planted@db.internal/shop%20%2F1",
            "shop /1",
        ),
        ("mysql", "mysql://u:planted@[::1]:3307/shop", "shop"),
        ("redis", "rediss://:planted@cache.internal/3", "3"),
        ("redis", "redis://127.0.0.1", ""),
    ] {
        let details = crate::describe(&grant(kind, json!({ "url": url }))).unwrap();
        assert_eq!(details, json!({ "database": database }), "{url}");
    }
}

#[test]
fn url_that_is_wrong_is_refused_without_being_shown() {
    for (kind, url, part) in [
        ("postgres", "planted", "cannot be read"),
        ("postgres", "mysql://u:planted@h/d", "another scheme"),
        ("postgres", "postgres://u:planted@h", "no database"),
        ("postgres", "postgres://h/d", "no user"),
        ("postgres", "postgres:///d", "no host"),
        ("postgres", "postgres://u:planted@h:0/d", "port 0"),
        ("postgres", "postgres://u:planted%00@h/d", "not text"),
        (
            "postgres",
            "postgres://u:planted@h/d?sslmode=disable",
            "parameter",
        ),
        ("mysql", "mysql://u:planted@h/d?charset=utf8", "parameter"),
        ("redis", "redis://:planted@h/first", "not a number"),
    ] {
        let error = opened(kind, json!({ "url": url })).unwrap_err();
        assert!(error.contains(part), "{url}: {error}");
        assert!(!error.contains("planted"), "{error}");
    }
}

#[test]
fn server_is_reached_by_tls_unless_it_is_on_this_machine_or_the_grant_says_otherwise() {
    let ground = ground();
    let has_tls = |url: &str, tls: Option<DoorTls>| {
        let url = json!({ "url": url });
        let Grant::Postgres(grant) = grant("postgres", url) else {
            panic!("another kind");
        };
        let settings = DoorSettings {
            tls,
            ..grant.door()
        };
        let server = server(PostgresGrant::SCHEME, &settings, &ground);
        server.ok().map(|server| server.tls.is_some())
    };
    let (required, off) = (Some(DoorTls::Required), Some(DoorTls::Off));
    for (host, tls, expected) in [
        ("db.example", None, Some(true)),
        ("192.0.2.1", None, Some(true)),
        ("db.example", off, Some(false)),
        ("localhost", None, Some(false)),
        ("127.9.9.9", None, Some(false)),
        ("[::1]", None, Some(false)),
        ("[::ffff:127.0.0.1]", None, Some(false)),
        ("localhost.example", None, Some(true)),
        ("127.0.0.1", required, Some(true)),
    ] {
        let url = format!("postgres://u@{host}/d");
        assert_eq!(has_tls(&url, tls), expected, "{url} {tls:?}");
    }
    let asks = "postgres://u@127.0.0.1/d?sslmode=require";
    assert_eq!(has_tls(asks, None), Some(true));
    assert_eq!(has_tls(asks, off), None);
}

#[test]
fn authorities_without_tls_are_refused() {
    let section = json!({ "url": "redis://127.0.0.1", "ca": [concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] });
    let error = opened("redis", section).unwrap_err();
    assert!(error.contains("tls: required"), "{error}");
}
