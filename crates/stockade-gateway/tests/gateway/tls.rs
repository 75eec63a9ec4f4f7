//! TLS as the gateway uses it; TLS itself is tested in its own crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use stockade_gateway::{Limits, Listener, Pattern, Refusal, Route};
use stockade_http::{Body, Client};
use stockade_tls::{
    CertificateFiles, ClientAuth, ClientAuthMode, ClientRule, HostClientAuth, TlsEvent,
    TlsObserver, TlsOptions, TlsStore,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::*;

struct Quiet;

impl TlsObserver for Quiet {
    fn event(&self, _event: &TlsEvent) {}
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for some names: its DER form and key, and the files.
    fn sign(&self, names: &[&str]) -> (CertificateDer<'static>, KeyPair, CertificateFiles) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, names[0].clone());
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = CertificateFiles {
            cert: self.write(&format!("{}.pem", names[0]), &certificate.pem()),
            key: self.write(&format!("{}.key", names[0]), &key.serialize_pem()),
            ocsp: None,
        };
        (certificate.der().clone(), key, files)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path: &Path = self.folder.path();
        let path = path.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A client that trusts this authority, maybe with a certificate, and offers some protocols.
    fn connector(
        &self,
        own: Option<(CertificateDer<'static>, KeyPair)>,
        alpn: &[&str],
    ) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder
                    .with_client_auth_cert(vec![certificate], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

async fn who(request: Request<Body>) -> http::Response<Body> {
    let client = request.extensions().get::<Client>().unwrap();
    let tls = client.secure.as_ref().unwrap();
    let subject = tls
        .certificate
        .as_ref()
        .map_or("nobody", |one| one.subject.as_str());
    text(format!("{} {} {subject}", request.uri(), tls.version))
}

async fn serve(options: TlsOptions, routes: Vec<Route>) -> Server {
    let store = TlsStore::load(options, None, Arc::new(Quiet)).unwrap();
    let listener = Listener {
        tls: Some(Arc::new(store)),
        ..listener()
    };
    Server::start(listener, table(routes), Limits::default()).await
}

fn everything() -> Vec<Route> {
    vec![Route::new("all", vec![Pattern::any()], Arc::new(who))]
}

/// Sends one request on a connection of its own for `sni`; HTTP/2 if it was agreed on.
async fn ask(
    server: &Server,
    connector: &TlsConnector,
    sni: &str,
    host: &str,
) -> (Version, u16, String) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let stream = soon(connector.connect(name, stream)).await.unwrap();
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    let response = if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .unwrap();
        tokio::spawn(connection);
        let uri = format!("https://{host}/x");
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        soon(sender.send_request(request)).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/x")
            .header("host", host)
            .body(Empty::<Bytes>::new())
            .unwrap();
        soon(sender.send_request(request)).await.unwrap()
    };
    let (version, status) = (response.version(), response.status().as_u16());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (version, status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn version_of_http_is_agreed_on_in_the_handshake() {
    let authority = Authority::new();
    let (_, _, files) = authority.sign(&["a.example"]);
    let options = TlsOptions {
        certificates: vec![files],
        ..TlsOptions::default()
    };
    let server = serve(options, everything()).await;
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let connector = authority.connector(None, alpn);
        let answer = ask(&server, &connector, "a.example", "a.example").await;
        let text = "https://a.example/x TLSv1.3 nobody".to_owned();
        assert_eq!(answer, (version, 200, text), "{alpn:?}");
    }
    let recorded = server
        .log
        .until(|recorded| recorded.requests.len() == 3)
        .await;
    assert!(
        recorded
            .requests
            .iter()
            .all(|record| record.scheme == "https" && record.tls.is_some())
    );
}

#[tokio::test]
async fn host_that_needs_another_connection_is_answered_421() {
    let authority = Authority::new();
    let (_, _, files) = authority.sign(&["open.example", "closed.example"]);
    let (certificate, key, _) = authority.sign(&["client"]);
    let options = TlsOptions {
        certificates: vec![files],
        hosts: vec![HostClientAuth {
            host: "closed.example".to_owned(),
            client_auth: ClientAuth {
                mode: ClientAuthMode::Required,
                ca: vec![authority.ca()],
                ..ClientAuth::default()
            },
        }],
        ..TlsOptions::default()
    };
    let server = serve(options, everything()).await;
    let nobody = authority.connector(None, &["h2"]);
    let somebody = authority.connector(Some((certificate, key)), &["h2"]);
    let status = async |connector: &TlsConnector, sni: &str, host: &str| {
        ask(&server, connector, sni, host).await.1
    };
    assert_eq!(status(&nobody, "open.example", "open.example").await, 200);
    assert_eq!(status(&nobody, "open.example", "closed.example").await, 421);
    assert_eq!(
        status(&somebody, "open.example", "closed.example").await,
        421
    );
    assert_eq!(
        status(&somebody, "closed.example", "closed.example").await,
        200
    );
    assert_eq!(
        status(&somebody, "closed.example", "open.example").await,
        421
    );
    assert_eq!(server.log.now().refusals, [Refusal::Misdirected; 3]);
}

#[tokio::test]
async fn route_lets_in_the_certificates_that_it_names() {
    let authority = Authority::new();
    let (_, _, files) = authority.sign(&["a.example"]);
    let options = TlsOptions {
        certificates: vec![files],
        client_auth: ClientAuth {
            mode: ClientAuthMode::Optional,
            ca: vec![authority.ca()],
            ..ClientAuth::default()
        },
        ..TlsOptions::default()
    };
    let mut routes = everything();
    routes[0].client = ClientRule {
        subjects: vec!["CN=good".to_owned()],
        ..ClientRule::default()
    };
    let server = serve(options, routes).await;
    for (name, status) in [(None, 403), (Some("bad"), 403), (Some("good"), 200)] {
        let own = name.map(|name| {
            let (certificate, key, _) = authority.sign(&[name]);
            (certificate, key)
        });
        let connector = authority.connector(own, &[]);
        let answer = ask(&server, &connector, "a.example", "a.example").await;
        assert_eq!(answer.1, status, "{name:?}");
        if status == 200 {
            assert_eq!(answer.2, "https://a.example/x TLSv1.3 CN=good");
        }
    }
    assert_eq!(server.log.now().refusals, [Refusal::ClientCertificate; 2]);
}

#[tokio::test]
async fn connection_that_outlives_a_reload_is_held_to_the_new_authorities() {
    let (servers, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let (_, _, files) = servers.sign(&["a.example"]);
    let store = |trusted: &Authority| {
        let options = TlsOptions {
            certificates: vec![files.clone()],
            client_auth: ClientAuth {
                mode: ClientAuthMode::Required,
                ca: vec![trusted.ca()],
                ..ClientAuth::default()
            },
            ..TlsOptions::default()
        };
        Some(Arc::new(
            TlsStore::load(options, None, Arc::new(Quiet)).unwrap(),
        ))
    };
    let first = Listener {
        tls: store(&old),
        ..listener()
    };
    let server = Server::start(first, table(everything()), Limits::default()).await;
    let (certificate, key, _) = old.sign(&["client"]);
    let connector = servers.connector(Some((certificate, key)), &[]);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let stream = soon(connector.connect(name, stream)).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async || {
        let request = Request::get("/x").header("host", "a.example");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    };
    assert_eq!(ask().await, 200);
    for (trusted, status) in [(&old, 200), (&new, 421)] {
        let same = Listener {
            tls: store(trusted),
            ..listener()
        };
        let routes = table(everything());
        server
            .gateway
            .reload(vec![same], routes, Limits::default())
            .await
            .unwrap();
        assert_eq!(ask().await, status);
    }
}

#[tokio::test]
async fn handshake_that_takes_too_long_is_ended() {
    let authority = Authority::new();
    let (_, _, files) = authority.sign(&["a.example"]);
    let options = TlsOptions {
        certificates: vec![files],
        ..TlsOptions::default()
    };
    let store = TlsStore::load(options, None, Arc::new(Quiet)).unwrap();
    let listener = Listener {
        tls: Some(Arc::new(store)),
        ..listener()
    };
    let limits = Limits {
        handshake_timeout: std::time::Duration::from_millis(200),
        ..Limits::default()
    };
    let server = Server::start(listener, table(everything()), limits).await;
    let mut silent = server.connect().await;
    silent.closed().await;
    let mut half = server.connect().await;
    half.send([0x16, 3, 1, 2, 0, 1, 0]).await;
    half.closed().await;
    let recorded = server
        .log
        .until(|recorded| recorded.refusals.len() == 2)
        .await;
    assert_eq!(recorded.refusals, [Refusal::HandshakeTimeout; 2]);
}

#[tokio::test]
async fn client_that_speaks_plainly_is_refused() {
    let authority = Authority::new();
    let (_, _, files) = authority.sign(&["a.example"]);
    let options = TlsOptions {
        certificates: vec![files],
        ..TlsOptions::default()
    };
    let server = serve(options, everything()).await;
    let mut plain = server.connect().await;
    plain.send(get("/")).await;
    let rest = String::from_utf8_lossy(&plain.rest().await).into_owned();
    assert!(!rest.contains("200 OK"), "{rest}");
    server
        .log
        .until(|recorded| recorded.refusals == [Refusal::Handshake])
        .await;
}
