//! Files that change while running.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::authority::{Authority, DAY, Signed, Wish, replace, write_pair};
use super::peer::{Client, Server, shown};
use crate::{CertificateFiles, ClientAuthMode, TlsEvent, TlsOptions, WatchOptions};

/// The kernel notifies, the clock does not.
fn quick() -> WatchOptions {
    WatchOptions {
        files: true,
        poll: Duration::from_secs(3600),
        settle: Duration::from_millis(20),
        expiry: Duration::from_secs(3600),
    }
}

fn only(files: CertificateFiles) -> TlsOptions {
    TlsOptions {
        certificates: vec![files],
        ..TlsOptions::default()
    }
}

fn loaded(event: &TlsEvent) -> bool {
    matches!(event, TlsEvent::Loaded(_))
}

fn failed(event: &TlsEvent) -> bool {
    matches!(event, TlsEvent::ReloadFailed(_))
}

fn is_used(signed: &Signed) -> impl Fn(&TlsEvent) -> bool {
    let wanted = crate::subject::fingerprint(&signed.der);
    move |event| matches!(event, TlsEvent::Loaded(facts) if facts.fingerprint_sha256 == wanted)
}

#[tokio::test]
async fn watch_renamed_file_is_used_and_sessions_live_on() {
    let authority = Authority::new("root");
    let mut server = Server::start(only(authority.server("a", Wish::default()))).await;
    let _watching = server.store.watch(quick());
    let client = Client::new(&authority, None);
    let (running, mut stream) = server.connected(&client, "a.example").await;
    let new = authority.sign(Wish::default());
    write_pair(authority.folder.path(), "a", &new);
    server.events.wait_for(is_used(&new)).await;
    let fresh = Client::new(&authority, None);
    let (_, after) = server.connected(&fresh, "a.example").await;
    assert_eq!(shown(&after), new.der.to_vec());
    assert!(server.connected(&client, "a.example").await.0.resumed);
    assert!(server.store.check("a.example", &running).is_ok());
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"y")
        .await
        .unwrap();
}

#[tokio::test]
async fn watch_moved_symlink_folder_is_used() {
    // As Kubernetes mounts secrets: a.crt -> ..data/a.crt, ..data -> ..1, replaced by a rename.
    let authority = Authority::new("root");
    let mount = tempfile::tempdir().unwrap();
    let version = |name: &str, signed: &Signed| {
        std::fs::create_dir(mount.path().join(name)).unwrap();
        write_pair(&mount.path().join(name), "a", signed);
        symlink(name, mount.path().join("..new")).unwrap();
        std::fs::rename(mount.path().join("..new"), mount.path().join("..data")).unwrap();
    };
    version("..1", &authority.sign(Wish::default()));
    let link = |name: &str| {
        let at = mount.path().join(name);
        symlink(Path::new("..data").join(name), &at).unwrap();
        at
    };
    let files = CertificateFiles {
        cert: link("a.crt"),
        key: link("a.key"),
        ocsp: None,
    };
    let mut server = Server::start(only(files)).await;
    let _watching = server.store.watch(quick());
    let client = Client::new(&authority, None);
    for name in ["..2", "..3"] {
        let new = authority.sign(Wish::default());
        version(name, &new);
        server.events.wait_for(is_used(&new)).await;
        let fresh =
            client.changed(|config| config.resumption = rustls::client::Resumption::disabled());
        let (_, stream) = server.connected(&fresh, "a.example").await;
        assert_eq!(shown(&stream), new.der.to_vec());
    }
    assert_eq!(server.events.count(failed), 0);
}

#[tokio::test]
async fn watch_of_link_behind_link_finds_change_by_clock() {
    // The file is a link into a folder that is itself a link, in a place that is not watched.
    let authority = Authority::new("root");
    let (etc, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for version in ["1", "2"] {
        std::fs::create_dir(far.path().join(version)).unwrap();
    }
    write_pair(&far.path().join("1"), "a", &authority.sign(Wish::default()));
    let new = authority.sign(Wish::default());
    write_pair(&far.path().join("2"), "a", &new);
    symlink("1", far.path().join("now")).unwrap();
    let link = |name: &str| {
        let at = etc.path().join(name);
        symlink(far.path().join("now").join(name), &at).unwrap();
        at
    };
    let files = CertificateFiles {
        cert: link("a.crt"),
        key: link("a.key"),
        ocsp: None,
    };
    let mut server = Server::start(only(files)).await;
    let poll = Duration::from_millis(50);
    let _watching = server.store.watch(WatchOptions { poll, ..quick() });
    server
        .connected(&Client::new(&authority, None), "a.example")
        .await;
    symlink("2", far.path().join("new")).unwrap();
    std::fs::rename(far.path().join("new"), far.path().join("now")).unwrap();
    server.events.wait_for(is_used(&new)).await;
}

#[tokio::test]
async fn reload_of_bad_file_keeps_old_and_uses_other_good_ones() {
    let authority = Authority::new("root");
    let a = authority.server("a", Wish::default());
    let b = authority.server(
        "b",
        Wish {
            names: &["b.example"],
            ..Wish::default()
        },
    );
    let mut server = Server::start(TlsOptions {
        certificates: vec![a.clone(), b],
        ..TlsOptions::default()
    })
    .await;
    let client = Client::new(&authority, None);
    let (_, before) = server.connected(&client, "a.example").await;
    let before = shown(&before);
    let new_b = authority.sign(Wish {
        names: &["b.example"],
        ..Wish::default()
    });
    write_pair(authority.folder.path(), "b", &new_b);
    let past = authority.sign(Wish {
        from: -9 * DAY,
        to: -DAY,
        ..Wish::default()
    });
    for (text, expect) in [
        ("no certificate", "holds no PEM block"),
        (past.pem.as_str(), "is not the key of the certificate"),
    ] {
        replace(&a.cert, text);
        let reported = server.store.reload().unwrap_err().to_string();
        assert!(reported.contains(expect), "{reported}");
        let fresh = Client::new(&authority, None);
        let (_, now) = server.connected(&fresh, "a.example").await;
        assert_eq!(shown(&now), before);
        let (_, other) = server.connected(&fresh, "b.example").await;
        assert_eq!(shown(&other), new_b.der.to_vec());
    }
    write_pair(authority.folder.path(), "a", &past);
    let reported = server.store.reload().unwrap_err().to_string();
    assert!(reported.contains("expired on"), "{reported}");
    let (_, now) = server
        .connected(&Client::new(&authority, None), "a.example")
        .await;
    assert_eq!(shown(&now), before);
    std::fs::remove_file(&a.cert).unwrap();
    assert!(
        server
            .store
            .reload()
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
    server
        .connected(&Client::new(&authority, None), "a.example")
        .await;
    assert_eq!(server.events.count(failed), 4);
}

#[tokio::test]
async fn reload_of_certificate_keeps_tickets_of_authorities_ends_them() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let other = Authority::new("other");
    let files = servers.server("a", Wish::default());
    let mut server = Server::start(TlsOptions {
        client_auth: clients.asks(ClientAuthMode::Required),
        ..only(files)
    })
    .await;
    let own = clients.client("own");
    let client = Client::new(&servers, Some(&own));
    let (running, _s) = server.connected(&client, "a.example").await;
    write_pair(servers.folder.path(), "a", &servers.sign(Wish::default()));
    server.store.reload().unwrap();
    assert!(server.connected(&client, "a.example").await.0.resumed);

    // Another authority in addition to the first: new tickets, but connected clients stay.
    replace(&clients.file, &format!("{}{}", clients.pem, other.pem));
    server.store.reload().unwrap();
    assert!(!server.connected(&client, "a.example").await.0.resumed);
    assert!(server.store.check("a.example", &running).is_ok());

    // In place of the first: nobody of the first stays.
    replace(&clients.file, &other.pem);
    server.store.reload().unwrap();
    assert!(server.store.check("a.example", &running).is_err());
    assert_eq!(
        server.refused(&client, "a.example").await.0.reason(),
        "client_certificate"
    );
}

#[tokio::test]
async fn watch_reports_when_certificate_ends() {
    let authority = Authority::new("root");
    let files = authority.server(
        "a",
        Wish {
            from: -9 * DAY,
            to: 2,
            ..Wish::default()
        },
    );
    let mut server = Server::start(only(files)).await;
    let about = |event: &TlsEvent| matches!(event, TlsEvent::Expiring { .. });
    assert_eq!(server.events.count(about), 1);
    let _watching = server.store.watch(WatchOptions {
        expiry: Duration::from_millis(100),
        ..quick()
    });
    server
        .events
        .wait_for(|event| matches!(event, TlsEvent::Expired { .. }))
        .await;
    let (error, _) = server
        .refused(&Client::new(&authority, None), "a.example")
        .await;
    assert_eq!(error.reason(), "certificate_expired");
    // Its renewal ends that.
    write_pair(
        authority.folder.path(),
        "a",
        &authority.sign(Wish::default()),
    );
    server.store.reload().unwrap();
    server
        .connected(&Client::new(&authority, None), "a.example")
        .await;
}

#[tokio::test]
async fn watch_takes_ended_authority_out_of_use() {
    let servers = Authority::new("s");
    let clients = Authority::valid("c", -DAY, 3);
    let mut server = Server::start(TlsOptions {
        client_auth: clients.asks(ClientAuthMode::Required),
        ..only(servers.server("a", Wish::default()))
    })
    .await;
    let own = clients.client("own");
    let (running, _s) = server
        .connected(&Client::new(&servers, Some(&own)), "a.example")
        .await;
    let _watching = server.store.watch(WatchOptions {
        expiry: Duration::from_millis(100),
        ..quick()
    });
    server
        .events
        .wait_for(|event| matches!(event, TlsEvent::ClientAuthLoaded { authorities: 0, .. }))
        .await;
    let (error, _) = server
        .refused(&Client::new(&servers, Some(&own)), "a.example")
        .await;
    assert_eq!(error.reason(), "client_certificate");
    assert!(server.store.check("a.example", &running).is_err());
}

#[tokio::test]
async fn reload_many_times_without_change_loads_nothing() {
    let (servers, clients) = (Authority::new("s"), Authority::new("c"));
    let server = Server::start(TlsOptions {
        client_auth: clients.asks(ClientAuthMode::Optional),
        ..only(servers.server("a", Wish::default()))
    })
    .await;
    let policy = server.store.policies.load().default.generation;
    for _ in 0..100 {
        server.store.reload().unwrap();
    }
    assert_eq!(server.events.count(loaded), 1);
    assert_eq!(server.store.policies.load().default.generation, policy);
}
