//! Certificates from a real ACME server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::authority::{Authority, Wish};
use super::pebble::{Pebble, Wanted, is_installed};
use super::peer::{Client, Events, Server};
use crate::{
    Acme, AcmeChallenge, AcmeError, AcmeOptions, ExternalAccount, TlsEvent, TlsObserver,
    TlsOptions, TlsStore,
};

fn options(pebble: &Pebble, cache: &Path, names: &[&str]) -> AcmeOptions {
    AcmeOptions {
        directory: pebble.directory.clone(),
        contact: vec!["mailto:admin@a.example".to_owned()],
        terms_agreed: true,
        certificates: vec![names.iter().map(|name| (*name).to_owned()).collect()],
        cache: cache.to_owned(),
        server_ca: Some(pebble.server_ca.clone()),
        wait: Duration::ZERO,
        retry: Duration::from_millis(500),
        ..AcmeOptions::default()
    }
}

fn issued(event: &TlsEvent) -> bool {
    matches!(event, TlsEvent::AcmeIssued { .. })
}

fn ordered(event: &TlsEvent) -> bool {
    matches!(event, TlsEvent::AcmeOrdered { .. })
}

fn failed_with(text: &str) -> impl Fn(&TlsEvent) -> bool {
    move |event| matches!(event, TlsEvent::AcmeFailed { why, .. } if why.contains(text))
}

/// Answers challenges over HTTP as the gateway does, for as long as `acme` lives.
async fn http_server() -> (u16, Arc<parking_lot::Mutex<Option<Arc<Acme>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared: Arc<parking_lot::Mutex<Option<Arc<Acme>>>> = Arc::default();
    let acme = shared.clone();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let mut io = BufReader::new(io);
            let (mut token, mut host) = (String::new(), String::new());
            let mut line = String::new();
            while let Ok(1..) = io.read_line(&mut line).await {
                let text = line.trim().to_owned();
                line.clear();
                if text.is_empty() {
                    break;
                }
                if let Some(rest) = text.strip_prefix("GET /.well-known/acme-challenge/") {
                    token = rest.split(' ').next().unwrap().to_owned();
                }
                if text.to_lowercase().starts_with("host:") {
                    host = text[5..].trim().to_owned();
                }
            }
            let answer = acme
                .lock()
                .as_ref()
                .and_then(|acme| acme.http_answer(&host, &token));
            let answer = match answer {
                Some(body) => format!(
                    "HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ),
                None => "HTTP/1.0 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            };
            let _ = io.write_all(answer.as_bytes()).await;
            let _ = io.shutdown().await;
        }
    });
    (port, shared)
}

async fn trusting(pebble: &Pebble) -> Client {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(pebble.roots().await)
        .with_no_client_auth();
    Client(Arc::new(config))
}

fn observer(events: &Arc<Events>) -> Arc<dyn TlsObserver> {
    events.clone()
}

async fn serving(acme: &Arc<Acme>) -> Server {
    let options = TlsOptions {
        strict_sni: true,
        ..TlsOptions::default()
    };
    Server::start_with(options, Some(acme.clone())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn http_01_gets_certificate_and_keeps_it() {
    if !is_installed() {
        return;
    }
    let (http, answering) = http_server().await;
    let pebble = Pebble::start(&Wanted {
        http,
        ..Wanted::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let events = Arc::new(Events::default());
    let options = options(&pebble, cache.path(), &["a.example", "b.example"]);
    let acme = Acme::start(options.clone(), observer(&events)).unwrap();
    *answering.lock() = Some(acme.clone());
    let mut server = serving(&acme).await;
    events.wait_for(issued).await;
    let client = trusting(&pebble).await;
    for name in ["a.example", "B.example"] {
        server.connected(&client, name).await;
    }
    assert_eq!(
        server.refused(&client, "c.example").await.0.reason(),
        "unknown_name"
    );
    let mut names = server.store.certificates()[0].names.clone();
    names.sort();
    assert_eq!(names, ["a.example", "b.example"]);
    assert!(acme.http_answer("a.example", "").is_none());

    // After a restart the cache is enough, and the server is not asked.
    let again = Arc::new(Events::default());
    let second = Acme::start(options, observer(&again)).unwrap();
    assert!(again.any(|event| matches!(event, TlsEvent::Loaded(_))));
    let mut server = serving(&second).await;
    server.connected(&client, "a.example").await;
    assert_eq!(again.count(ordered), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_alpn_01_gets_certificate() {
    if !is_installed() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = listener.local_addr().unwrap().port();
    let pebble = Pebble::start(&Wanted {
        tls,
        ..Wanted::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let events = Arc::new(Events::default());
    let acme = Acme::start(
        AcmeOptions {
            challenge: AcmeChallenge::TlsAlpn01,
            ..options(&pebble, cache.path(), &["a.example"])
        },
        observer(&events),
    )
    .unwrap();
    // A certificate of a file in addition, and clients that must show one: neither is in the way.
    let own = Authority::new("own");
    let tls_options = TlsOptions {
        certificates: vec![own.server(
            "x",
            Wish {
                names: &["x.example"],
                ..Wish::default()
            },
        )],
        client_auth: own.asks(crate::ClientAuthMode::Required),
        ..TlsOptions::default()
    };
    let store = TlsStore::load(tls_options, Some(acme.clone()), observer(&events)).unwrap();
    let store = Arc::new(store);
    let mut server = Server::on(listener, store, events.clone());
    events
        .wait_for(
            |event| matches!(event, TlsEvent::AcmeChallenge { domain } if domain == "a.example"),
        )
        .await;
    assert_eq!(server.next().await.unwrap_err().reason(), "acme_challenge");
    events.wait_for(issued).await;
    let facts = server.store.certificates();
    assert!(facts.iter().any(|facts| facts.names == ["x.example"]));
    let client = trusting(&pebble).await;
    // The certificate is trusted; what is missing is the client's.
    assert!(client.connect(server.address, "a.example").await.is_err());
    loop {
        // The ACME server looks from several places.
        match server.next().await.unwrap_err().reason() {
            "acme_challenge" => {}
            other => return assert_eq!(other, "no_client_certificate"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_is_reported_and_tried_again() {
    if !is_installed() {
        return;
    }
    let (http, answering) = http_server().await;
    let pebble = Pebble::start(&Wanted {
        http,
        bad_nonces: 0,
        ..Wanted::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let events = Arc::new(Events::default());
    let acme = Acme::start(
        options(&pebble, cache.path(), &["a.example"]),
        observer(&events),
    )
    .unwrap();
    events.wait_for(failed_with("a.example: ")).await;
    let server = serving(&acme).await;
    assert!(server.store.certificates().is_empty());
    *answering.lock() = Some(acme.clone());
    events.wait_for(issued).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_life_is_renewed_without_a_gap() {
    if !is_installed() {
        return;
    }
    let (http, answering) = http_server().await;
    let pebble = Pebble::start(&Wanted {
        http,
        // A third of it is time enough for an order on a busy machine.
        life: 36,
        bad_nonces: 0,
        ..Wanted::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let events = Arc::new(Events::default());
    let acme = Acme::start(
        options(&pebble, cache.path(), &["a.example"]),
        observer(&events),
    )
    .unwrap();
    *answering.lock() = Some(acme.clone());
    events
        .wait_for(|event| matches!(event, TlsEvent::Loaded(_)))
        .await;
    let mut server = serving(&acme).await;
    let client = trusting(&pebble).await;
    let fresh = client.changed(|config| config.resumption = rustls::client::Resumption::disabled());
    let mut fingerprints = std::collections::BTreeSet::new();
    while fingerprints.len() < 2 {
        let (_, stream) = server.connected(&fresh, "a.example").await;
        fingerprints.insert(super::peer::shown(&stream));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Connections see a certificate a moment before observers are notified.
    while events.count(issued) < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        events.count(|event| matches!(event, TlsEvent::Expired { .. })),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn account_unknown_to_server_is_made_again() {
    if !is_installed() {
        return;
    }
    let (http, answering) = http_server().await;
    let cache = tempfile::tempdir().unwrap();
    let pebble = Pebble::start(&Wanted {
        http,
        bad_nonces: 0,
        ..Wanted::default()
    });
    let events = Arc::new(Events::default());
    let first = options(&pebble, cache.path(), &["a.example"]);
    let acme = Acme::start(first.clone(), observer(&events)).unwrap();
    *answering.lock() = Some(acme.clone());
    events.wait_for(issued).await;
    drop(acme);
    // It keeps accounts in memory only: after a restart at the same URL they are gone.
    let pebble = pebble.restarted();
    assert_eq!(pebble.directory, first.directory);
    let events = Arc::new(Events::default());
    let acme = Acme::start(
        options(&pebble, cache.path(), &["b.example"]),
        observer(&events),
    )
    .unwrap();
    *answering.lock() = Some(acme.clone());
    events.wait_for(failed_with("ccount")).await;
    events.wait_for(issued).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn external_account_is_bound() {
    if !is_installed() {
        return;
    }
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let (http, answering) = http_server().await;
    let pebble = Pebble::start(&Wanted {
        http,
        external_key: Some(KEY),
        ..Wanted::default()
    });
    let cache = tempfile::tempdir().unwrap();
    let events = Arc::new(Events::default());
    let without = options(&pebble, cache.path(), &["a.example"]);
    let acme = Acme::start(without.clone(), observer(&events)).unwrap();
    events.wait_for(failed_with("xternalAccount")).await;
    drop(acme);
    let key = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, KEY).unwrap();
    let with = AcmeOptions {
        external_account: Some(ExternalAccount {
            id: "kid-1".to_owned(),
            key,
        }),
        ..without
    };
    let acme = Acme::start(with, observer(&events)).unwrap();
    *answering.lock() = Some(acme.clone());
    events.wait_for(issued).await;
}

#[tokio::test]
async fn server_that_is_not_trusted_is_not_asked() {
    // Any TLS server will do: its certificate is not of a public authority.
    let authority = Authority::new("own");
    let files = authority.server(
        "ca",
        Wish {
            names: &["127.0.0.1"],
            ..Wish::default()
        },
    );
    let mut server = Server::start(TlsOptions {
        certificates: vec![files],
        ..TlsOptions::default()
    })
    .await;
    let address: SocketAddr = server.address;
    let cache = tempfile::tempdir().unwrap();
    let events = Arc::new(Events::default());
    let options = AcmeOptions {
        directory: format!("https://{address}/dir"),
        terms_agreed: true,
        certificates: vec![vec!["a.example".to_owned()]],
        cache: cache.path().to_owned(),
        ..AcmeOptions::default()
    };
    let _acme = Acme::start(options, observer(&events)).unwrap();
    events.wait_for(failed_with("UnknownIssuer")).await;
    assert_eq!(server.next().await.unwrap_err().reason(), "alert");
}

#[tokio::test]
async fn start_with_bad_options_fails() {
    let cache = tempfile::tempdir().unwrap();
    let good = AcmeOptions {
        terms_agreed: true,
        cache: cache.path().to_owned(),
        certificates: vec![vec!["a.example".to_owned()]],
        ..AcmeOptions::default()
    };
    let start = |change: &dyn Fn(&mut AcmeOptions)| {
        let mut options = good.clone();
        change(&mut options);
        Acme::start(options, Arc::new(())).map(drop)
    };
    assert!(matches!(
        start(&|o| o.terms_agreed = false),
        Err(AcmeError::TermsNotAgreed)
    ));
    assert!(matches!(
        start(&|o| o.directory = "http://ca".into()),
        Err(AcmeError::Directory(_))
    ));
    assert!(matches!(
        start(&|o| o.certificates = vec![vec![]]),
        Err(AcmeError::Names(0))
    ));
    for name in ["*.a.example", "a.example:1", "127.0.0.1", "::1", "a b"] {
        let refused = start(&|o| o.certificates = vec![vec![name.to_owned()]]);
        assert!(matches!(refused, Err(AcmeError::Name(_))), "{name}");
    }
    let missing = start(&|o| o.server_ca = Some("/nowhere.pem".into()));
    assert!(matches!(missing, Err(AcmeError::ServerCa(_))));
    let file = cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(
        start(&|o| o.cache = file.clone()),
        Err(AcmeError::Cache { .. })
    ));
}
