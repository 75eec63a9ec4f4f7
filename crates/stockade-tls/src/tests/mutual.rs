//! Clients' certificates: who comes in, what is known of them, and what a host may ask.

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::authority::{Authority, DAY, Signed, Wish};
use super::peer::{Client, Server};
use crate::{
    ClientAuth, ClientAuthMode, HostClientAuth, Misdirected, Revocation, TlsEvent, TlsOptions,
    TlsStore,
};

/// A server for `a.example`, `b.example` and `*.c.example`.
fn options(
    servers: &Authority,
    client_auth: ClientAuth,
    hosts: &[(&str, ClientAuth)],
) -> TlsOptions {
    let names = &["a.example", "b.example", "*.c.example"];
    let hosts = hosts.iter().map(|(host, client_auth)| HostClientAuth {
        host: (*host).to_owned(),
        client_auth: client_auth.clone(),
    });
    TlsOptions {
        certificates: vec![servers.server(
            "server",
            Wish {
                names,
                ..Wish::default()
            },
        )],
        client_auth,
        hosts: hosts.collect(),
        ..TlsOptions::default()
    }
}

/// What comes of a client: its subject, or the reason for refusing it.
async fn outcome(server: &mut Server, servers: &Authority, own: Option<&Signed>) -> String {
    let mut outcomes = Vec::new();
    for version in [&TLS12, &TLS13] {
        let client = Client::with(servers, own, &[version]);
        let _stream = client.connect(server.address, "a.example").await;
        outcomes.push(match server.next().await {
            Ok(connection) => match &connection.client.certificate {
                Some(certificate) => certificate.subject.clone(),
                None => "nobody".to_owned(),
            },
            Err(e) => e.reason().to_owned(),
        });
    }
    assert_eq!(outcomes[0], outcomes[1], "versions differ");
    outcomes.remove(0)
}

#[tokio::test]
async fn accept_by_mode_and_certificate() {
    let (servers, clients, strangers) = (
        Authority::new("s"),
        Authority::new("c"),
        Authority::new("x"),
    );
    let good = clients.client("good");
    let stranger = strangers.client("stranger");
    let past = clients.sign(Wish {
        client: true,
        from: -9 * DAY,
        to: -DAY,
        ..Wish::default()
    });
    let future = clients.sign(Wish {
        client: true,
        from: DAY,
        ..Wish::default()
    });
    let for_servers = clients.sign(Wish::default());
    let cases: [(Option<&Signed>, [&str; 3]); 6] = [
        (None, ["nobody", "nobody", "no_client_certificate"]),
        (
            Some(&good),
            ["nobody", "CN=good,O=Tests", "CN=good,O=Tests"],
        ),
        (
            Some(&stranger),
            ["nobody", "client_certificate", "client_certificate"],
        ),
        (
            Some(&past),
            ["nobody", "client_certificate", "client_certificate"],
        ),
        (
            Some(&future),
            ["nobody", "client_certificate", "client_certificate"],
        ),
        (
            Some(&for_servers),
            ["nobody", "client_certificate", "client_certificate"],
        ),
    ];
    let modes = [
        ClientAuthMode::None,
        ClientAuthMode::Optional,
        ClientAuthMode::Required,
    ];
    for (i, mode) in modes.into_iter().enumerate() {
        let mut server = Server::start(options(&servers, clients.asks(mode), &[])).await;
        for (n, (own, expect)) in cases.iter().enumerate() {
            let found = outcome(&mut server, &servers, *own).await;
            assert_eq!(found, expect[i], "{mode:?}, case {n}");
        }
    }
}

#[tokio::test]
async fn client_that_is_already_sending_learns_why_it_is_refused() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let required = clients.asks(ClientAuthMode::Required);
    let server = Server::start(options(&servers, required, &[])).await;
    // In TLS 1.3 the client has finished before the server looks for its certificate.
    let client = Client::with(&servers, None, &[&TLS13]);
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let name = "a.example".try_into().unwrap();
    let connector = TlsConnector::from(client.0);
    let mut stream = connector.connect(name, tcp).await.unwrap();
    stream.write_all(&[0; 32 << 10]).await.unwrap();
    stream.get_ref().0.readable().await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
        stream.write_all(b"more").await.unwrap();
        stream.flush().await.unwrap();
    }
    let error = stream.read_u8().await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn accept_with_lists_is_strict_by_default() {
    let (servers, clients, others) = (
        Authority::new("s"),
        Authority::new("c"),
        Authority::new("o"),
    );
    let good = clients.client("good");
    let bad = clients.client("bad");
    let other = others.client("other");
    let fresh = clients.revoke("fresh.crl", &[bad.serial], 5 * DAY);
    let stale = clients.revoke("stale.crl", &[bad.serial], -60);
    let auth = |crl: &std::path::Path, revocation: Revocation| ClientAuth {
        mode: ClientAuthMode::Required,
        ca: vec![clients.file.clone(), others.file.clone()],
        crl: vec![crl.to_owned()],
        revocation,
    };
    let strict = Revocation::default();
    let lax = Revocation {
        allow_unknown: true,
        ..strict
    };
    let old = Revocation {
        allow_expired: true,
        ..strict
    };
    let (yes, no) = (
        |name: &str| format!("CN={name},O=Tests"),
        "client_certificate".to_owned(),
    );
    for (auth, expect) in [
        (auth(&fresh, strict), [yes("good"), no.clone(), no.clone()]),
        (auth(&fresh, lax), [yes("good"), no.clone(), yes("other")]),
        (auth(&stale, strict), [no.clone(), no.clone(), no.clone()]),
        (auth(&stale, old), [yes("good"), no.clone(), no.clone()]),
    ] {
        let mut server = Server::start(options(&servers, auth.clone(), &[])).await;
        for (own, expect) in [&good, &bad, &other].into_iter().zip(expect) {
            let found = outcome(&mut server, &servers, Some(own)).await;
            assert_eq!(found, expect, "{auth:?}");
        }
        if auth.crl[0] == stale {
            assert!(server.events.any(|event| matches!(event, TlsEvent::Expired { what, .. } if what.contains("revocation list"))));
        }
    }
}

#[tokio::test]
async fn accept_with_expired_authority_trusts_nobody() {
    let servers = Authority::new("s");
    let clients = Authority::valid("c", -9 * DAY, -DAY);
    let own = clients.sign(Wish {
        client: true,
        from: -8 * DAY,
        ..Wish::default()
    });
    for (mode, none) in [
        (ClientAuthMode::Required, "no_client_certificate"),
        (ClientAuthMode::Optional, "nobody"),
    ] {
        let mut server = Server::start(options(&servers, clients.asks(mode), &[])).await;
        assert_eq!(
            outcome(&mut server, &servers, Some(&own)).await,
            "client_certificate"
        );
        assert_eq!(outcome(&mut server, &servers, None).await, none);
    }
}

#[tokio::test]
async fn check_of_host_with_other_policy_is_misdirected() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let required = clients.asks(ClientAuthMode::Required);
    let hosts = [
        ("b.example", required.clone()),
        ("*.c.example", required.clone()),
    ];
    let mut server = Server::start(options(&servers, ClientAuth::default(), &hosts)).await;
    let own = clients.client("own");
    let client = Client::new(&servers, Some(&own));
    let (open, _a) = server.connected(&client, "a.example").await;
    let (closed, _b) = server.connected(&client, "b.example").await;
    assert!(open.client.certificate.is_none() && closed.client.certificate.is_some());
    let store = &server.store;
    for host in [
        "a.example",
        "A.example:8443",
        "a.example.",
        "unknown.example",
        "c.example",
    ] {
        assert_eq!(store.check(host, &open), Ok(()), "{host}");
        assert!(
            matches!(store.check(host, &closed), Err(Misdirected::OtherPolicy(_))),
            "{host}"
        );
    }
    for host in [
        "b.example",
        "B.EXAMPLE.:1",
        "x.c.example",
        "y.x.c.example",
        ".c.example",
    ] {
        if host == ".c.example" {
            // No host at all: the default policy, and no route.
            continue;
        }
        assert!(
            matches!(store.check(host, &open), Err(Misdirected::OtherPolicy(_))),
            "{host}"
        );
        assert_eq!(store.check(host, &closed), Ok(()), "{host}");
        assert_eq!(store.policy_of(host), closed.policy);
    }
    assert_ne!(open.policy, closed.policy);
}

#[tokio::test]
async fn accept_does_not_resume_across_policies() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let hosts = [("b.example", clients.asks(ClientAuthMode::Required))];
    let opts = options(&servers, ClientAuth::default(), &hosts);
    let mut server = Server::start(opts).await;
    for version in [&TLS12, &TLS13] {
        let own = clients.client("own");
        let with = Client::with(&servers, Some(&own), &[version]);
        let without = Client::with(&servers, None, &[version]);

        // A session of the policy without certificates, shown to the one with: a full handshake, in
        // which the certificate is missing. The ticket goes under another name by a resumption store
        // that gives every name the same sessions.
        let shared = forgetful::SameForAll::new();
        let with_shared = with.changed(|config| config.resumption = shared.resumption());
        let without_shared = without.changed(|config| config.resumption = shared.resumption());
        let (first, _s) = server.connected(&without_shared, "a.example").await;
        let (again, _s) = server.connected(&without_shared, "a.example").await;
        assert!(
            !first.resumed && again.resumed,
            "the store of sessions works"
        );
        let (error, _) = server.refused(&without_shared, "b.example").await;
        assert_eq!(error.reason(), "no_client_certificate");

        // And the other way round.
        let (closed, _s) = server.connected(&with_shared, "b.example").await;
        assert!(!closed.resumed && closed.client.certificate.is_some());
        let (open, _s) = server.connected(&with_shared, "a.example").await;
        assert!(!open.resumed && open.client.certificate.is_none());
    }
}

#[tokio::test]
async fn accept_resumed_within_policy_keeps_certificate() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let auth = clients.asks(ClientAuthMode::Required);
    let mut server = Server::start(options(&servers, auth, &[])).await;
    let own = clients.client("own");
    for version in [&TLS12, &TLS13] {
        let client = Client::with(&servers, Some(&own), &[version]);
        let (first, _s) = server.connected(&client, "a.example").await;
        let (second, _s) = server.connected(&client, "a.example").await;
        assert!(!first.resumed && second.resumed);
        assert_eq!(first.client.certificate, second.client.certificate);
        assert!(server.store.check("a.example", &second).is_ok());
    }
}

#[tokio::test]
async fn revocation_while_running_ends_sessions_and_connections() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let own = clients.client("own");
    let other = clients.client("other");
    let auth = ClientAuth {
        crl: vec![clients.revoke("list.crl", &[], 5 * DAY)],
        ..clients.asks(ClientAuthMode::Required)
    };
    let mut server = Server::start(options(&servers, auth, &[])).await;
    let client = Client::new(&servers, Some(&own));
    let (running, _s) = server.connected(&client, "a.example").await;
    let (innocent, _t) = server
        .connected(&Client::new(&servers, Some(&other)), "a.example")
        .await;
    clients.revoke("list.crl", &[own.serial], 5 * DAY);
    server.store.reload().unwrap();
    let checked = server.store.check("a.example", &running);
    assert!(
        matches!(checked, Err(Misdirected::NoLongerTrusted(_))),
        "{checked:?}"
    );
    assert_eq!(server.store.check("a.example", &innocent), Ok(()));
    let (error, _) = server.refused(&client, "a.example").await;
    assert_eq!(error.reason(), "client_certificate");
}

#[tokio::test]
async fn client_certificate_expiring_while_connected_is_misdirected() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let own = clients.sign(Wish {
        client: true,
        to: 2,
        ..Wish::default()
    });
    let auth = clients.asks(ClientAuthMode::Optional);
    let mut server = Server::start(options(&servers, auth, &[])).await;
    let client = Client::new(&servers, Some(&own));
    let (connection, _s) = server.connected(&client, "a.example").await;
    let policy = server.store.policies.load().default.clone();
    let now = std::time::SystemTime::now();
    assert_eq!(connection.check(&policy, now), Ok(()));
    let later = now + std::time::Duration::from_secs(10);
    assert!(matches!(
        connection.check(&policy, later),
        Err(Misdirected::NoLongerTrusted(_))
    ));
}

#[test]
fn load_of_bad_authorities_names_all() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let leaf = clients.server("leaf", Wish::default());
    let empty = clients.folder.path().join("empty.crl");
    std::fs::write(&empty, "nothing").unwrap();
    let required = ClientAuth {
        mode: ClientAuthMode::Required,
        ..ClientAuth::default()
    };
    let bad = ClientAuth {
        ca: vec![leaf.cert],
        crl: vec![empty],
        ..required.clone()
    };
    let hosts = [("b.example", bad), ("*.*.example", ClientAuth::default())];
    let error = TlsStore::load(
        options(&servers, required, &hosts),
        None,
        std::sync::Arc::new(()),
    )
    .unwrap_err();
    let text = error.to_string();
    for expect in [
        "tls: client certificates are asked for, but no authority is named",
        "is not that of an authority",
        "empty.crl: holds no PEM block where a revocation list",
        "\"*.*.example\" is not a host name",
    ] {
        assert!(text.contains(expect), "{expect}\n--- not in\n{text}");
    }
}

/// A client that shows every session to every server, as an attacker would.
mod forgetful {
    use std::sync::Arc;

    use rustls::NamedGroup;
    use rustls::client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
    };
    use rustls::pki_types::ServerName;

    #[derive(Debug)]
    pub(super) struct SameForAll(ClientSessionMemoryCache);

    fn one() -> ServerName<'static> {
        ServerName::try_from("one.example").unwrap()
    }

    impl SameForAll {
        pub(super) fn new() -> Arc<Self> {
            Arc::new(Self(ClientSessionMemoryCache::new(64)))
        }

        pub(super) fn resumption(self: &Arc<Self>) -> Resumption {
            Resumption::store(self.clone())
        }
    }

    impl ClientSessionStore for SameForAll {
        fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
            self.0.set_kx_hint(one(), group);
        }
        fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
            self.0.kx_hint(&one())
        }
        fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
            self.0.set_tls12_session(one(), value);
        }
        fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
            self.0.tls12_session(&one())
        }
        fn remove_tls12_session(&self, _: &ServerName<'static>) {
            self.0.remove_tls12_session(&one());
        }
        fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
            self.0.insert_tls13_ticket(one(), value);
        }
        fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
            self.0.take_tls13_ticket(&one())
        }
    }
}
