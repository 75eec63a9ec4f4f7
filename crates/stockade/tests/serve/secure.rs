//! TLS from end to end: certificates by name, clients' certificates by site, files that change.

use std::path::Path;
use std::sync::Arc;

use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Answer, get, run, whole};
use crate::server::{Server, folder};

/// An authority, which signs for servers and clients.
struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

struct Signed {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        Self {
            pem: own.pem(),
            der: own.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, names: &[&str], subject: &str, client: bool) -> Signed {
        self.sign_from_to(names, subject, client, (2020, 2090))
    }

    /// Valid from the first day of one year to that of another.
    fn sign_from_to(
        &self,
        names: &[&str],
        subject: &str,
        client: bool,
        (from, to): (i32, i32),
    ) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.extended_key_usages = vec![if client {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            pem: signed.pem(),
            der: signed.der().clone(),
            key,
        }
    }

    /// A client's side of TLS.
    fn client(&self, certificate: Option<&Signed>, protocols: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => config.with_no_client_auth(),
            Some(signed) => {
                let key = PrivateKeyDer::try_from(signed.key.serialize_der()).unwrap();
                config
                    .with_client_auth_cert(vec![signed.der.clone()], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

fn put(folder: &Path, name: &str, signed: &Signed) {
    // The key first, then the certificate that belongs to it: as careless as tools are.
    std::fs::write(
        folder.join(format!("{name}.key")),
        signed.key.serialize_pem(),
    )
    .unwrap();
    std::fs::write(folder.join(format!("{name}.crt")), &signed.pem).unwrap();
}

async fn connect(
    server: &Server,
    connector: &TlsConnector,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address()).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector.connect(name, stream).await
}

/// One request over a connection of its own; nothing where TLS or the server ends it before a response.
async fn ask(server: &Server, connector: &TlsConnector, sni: &str, host: &str) -> Option<Answer> {
    let stream = connect(server, connector, sni).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let response = sender.send_request(get(host, "/")).await.ok()?;
    Some(whole(response).await)
}

const WHO: &str = "export default { fetch(request) {
  const { tlsVersion, httpProtocol, tlsClientAuth } = request.cf;
  return Response.json({ url: request.url, tlsVersion, httpProtocol, subject: tlsClientAuth?.certSubjectDN ?? null });
} };";

/// Two sites, of which one asks for clients' certificates.
fn start(authority: &Authority) -> Server {
    let config = "listeners: [{address: \"127.0.0.1:0\"}]
tls:
  certificates:
    - {cert: ./a.crt, key: ./a.key}
    - {cert: ./b.crt, key: ./b.key}
instances:
  open: {code: ./main.js, urls: [\"https://a.example\"]}
  closed:
    code: ./main.js
    urls: [\"https://b.example\"]
    client_auth: {ca: ./clients.crt, subjects: [\"CN=Ada\"]}
";
    let folder = folder(config, &[("main.js", WHO), ("clients.crt", &authority.pem)]);
    put(
        folder.path(),
        "a",
        &authority.sign(&["a.example"], "a", false),
    );
    put(
        folder.path(),
        "b",
        &authority.sign(&["b.example"], "b", false),
    );
    Server::start_in(folder, &std::collections::BTreeMap::new())
}

#[test]
fn tls_serves_http_1_and_2_by_the_name_asked_for() {
    let authority = Authority::new();
    let server = start(&authority);
    run(async {
        let plain = authority.client(None, &[]);
        let answer = ask(&server, &plain, "a.example", "a.example")
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", server.log_text());
        let seen = answer.json();
        assert_eq!(seen["url"], "https://a.example/");
        assert_eq!(seen["tlsVersion"], "TLSv1.3");
        assert_eq!(seen["subject"], json!(null));
        let both = authority.client(None, &[b"h2", b"http/1.1"]);
        let stream = connect(&server, &both, "a.example").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) = http2::handshake::<_, _, Full<bytes::Bytes>>(
            TokioExecutor::new(),
            TokioIo::new(stream),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        let mut request = get("a.example", "/");
        request.headers_mut().remove("host");
        *request.uri_mut() = "https://a.example/".parse().unwrap();
        let answer = whole(sender.send_request(request).await.unwrap()).await;
        assert_eq!(answer.json()["httpProtocol"], "HTTP/2");
        // Plain text on this port is no request.
        let stream = TcpStream::connect(server.address()).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(get("a.example", "/")).await;
        assert!(answer.is_err() || answer.unwrap().status() == 400);
    });
}

#[test]
fn client_certificate_is_asked_for_by_the_site_that_wants_it() {
    let authority = Authority::new();
    let server = start(&authority);
    let (ada, eve) = (
        authority.sign(&["ada.internal"], "Ada", true),
        authority.sign(&["eve.internal"], "Eve", true),
    );
    let stranger = Authority::new().sign(&["ada.internal"], "Ada", true);
    run(async {
        let client = |certificate: Option<&Signed>| authority.client(certificate, &[]);
        let b = "b.example";
        let answer = ask(&server, &client(Some(&ada)), b, b).await.unwrap();
        assert_eq!(answer.status, 200, "{}", server.log_text());
        assert_eq!(answer.json()["subject"], "CN=Ada");
        // A good one that is not among the allowed.
        assert_eq!(
            ask(&server, &client(Some(&eve)), b, b)
                .await
                .unwrap()
                .status,
            403
        );
        for refused in [None, Some(&stranger)] {
            assert!(ask(&server, &client(refused), b, b).await.is_none());
        }
        // By way of the site that asks for none.
        let misdirected = ask(&server, &client(Some(&ada)), "a.example", b)
            .await
            .unwrap();
        assert_eq!(misdirected.status, 421);
    });
}

#[test]
fn certificate_that_changes_is_used_and_a_bad_one_is_not() {
    let authority = Authority::new();
    let server = start(&authority);
    let client = authority.client(None, &[]);
    run(async {
        let shown = async || {
            let stream = connect(&server, &client, "a.example").await.unwrap();
            stream.get_ref().1.peer_certificates().unwrap()[0].clone()
        };
        let before = shown().await;
        let next = authority.sign(&["a.example"], "a again", false);
        put(server.folder.path(), "a", &next);
        assert!(server.reload().status.success(), "{}", server.log_text());
        assert_eq!(shown().await, next.der);
        assert_ne!(before, next.der);
        // A key that belongs to another certificate.
        let other = authority.sign(&["a.example"], "other", false);
        std::fs::write(server.path("a.key"), other.key.serialize_pem()).unwrap();
        let output = server.reload();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("a.key"));
        assert_eq!(shown().await, next.der);
        let path = server.path("b.crt").display().to_string();
        let metric = format!("stockade_tls_certificate_not_after_seconds{{file=\"{path}\"}}");
        assert!(
            server.metric(&metric).await > 1.7e9,
            "{}",
            server.status("/metrics").await.text()
        );
    });
}

#[test]
fn check_of_files_names_certificates_that_serve_no_client() {
    let authority = Authority::new();
    let config = "listeners: [{address: \"127.0.0.1:0\"}]
tls: {certificates: [{cert: ./site.crt, key: ./site.key}]}
instances:
  site: {code: ./main.js, urls: [site.example]}
";
    let folder = folder(config, &[("main.js", WHO)]);
    let put = |signed: &Signed| {
        put(folder.path(), "site", signed);
        // A key that others may read gives a warning.
        let key = folder.path().join("site.key");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(key, mode).unwrap();
    };
    let check = |arguments: &[&str]| {
        let output = crate::server::stockade()
            .args(["check", "--files"])
            .args(arguments)
            .arg(folder.path().join("stockade.yaml"))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let names = ["site.example"];
    let sign = |years| authority.sign_from_to(&names, "site", false, years);
    for (years, words) in [
        ((2020, 2021), "expired on 2021"),
        ((2080, 2090), "not valid before 2080"),
    ] {
        put(&sign(years));
        let (code, said) = check(&[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words) && said.contains("site.crt"), "{said}");
        assert!(!said.contains("no errors"), "{said}");
    }
    let mismatched = Signed {
        key: KeyPair::generate().unwrap(),
        ..sign((2020, 2090))
    };
    put(&mismatched);
    let (code, said) = check(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is not the key of the certificate"), "{said}");
    put(&sign((2020, 2090)));
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.ends_with("no errors\n") && !said.contains("warning"),
        "{said}"
    );
    // What works and should be changed is a warning, not an error.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(folder.path().join("site.key"), mode).unwrap();
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("warning: ") && said.contains("site.key"),
        "{said}"
    );
    let (code, said) = check(&["--json"]);
    assert_eq!(code, Some(0), "{said}");
    let reported: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(reported["ok"], true);
    assert_eq!(reported["mistakes"][0]["severity"], "warning");
}

#[test]
fn secret_goes_over_plain_http_and_into_urls_only_where_that_is_said() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let says = hyper::service::service_fn(
                    |request: hyper::Request<hyper::body::Incoming>| async move {
                        let given = request.headers().get("x-key");
                        let given = given.map_or(0, |value| value.len());
                        let text = format!("{given} {}", request.uri().to_string().len());
                        let body = Full::new(bytes::Bytes::from(text));
                        Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
                    },
                );
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), says);
                tokio::spawn(serving);
            }
        });
        let config = format!(
            "listeners: [{{address: \"127.0.0.1:0\"}}]
instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    secrets:
      NEITHER: {{file: ./key.txt, hosts: [localhost]}}
      PLAIN: {{file: ./key.txt, hosts: [localhost], over_plain_http: true}}
      URL: {{file: ./key.txt, hosts: [localhost], over_plain_http: true, in_urls: true}}
    data_guard:
      allow_private: [\"127.0.0.0/8\", \"::1/128\"]
      rules: [{{name: mine, hosts: [localhost], ports: [{port}], schemes: [http]}}]
"
        );
        let code = format!(
            "export default {{ async fetch(request, env) {{
               const ask = async (path, init) => {{
                 try {{ return await (await fetch('http://localhost:{port}/' + path, init)).text(); }}
                 catch (error) {{ return String(error.message); }}
               }};
               const answers = {{}};
               for (const name of ['NEITHER', 'PLAIN', 'URL']) {{
                 answers[name] = [await ask('', {{ headers: {{ 'x-key': env[name] }} }}), await ask(env[name])];
               }}
               return Response.json(answers);
             }} }};"
        );
        let files = [("main.js", code.as_str()), ("key.txt", "the-key-itself")];
        let server = Server::start(&config, &files);
        let seen = server.get("a", "/").await.json();
        let refused = |answer: &serde_json::Value| {
            let answer = answer.as_str().unwrap();
            assert!(answer.contains("secret"), "{seen}");
        };
        refused(&seen["NEITHER"][0]);
        refused(&seen["NEITHER"][1]);
        // The lengths of what arrived: the value of 14 bytes, or the path with it.
        assert_eq!(seen["PLAIN"][0], "14 1", "{seen} {}", server.log_text());
        refused(&seen["PLAIN"][1]);
        assert_eq!(seen["URL"], json!(["14 1", "0 15"]), "{seen}");
        assert!(!server.log_text().contains("the-key-itself"));
    });
}

#[test]
fn secret_is_filled_in_towards_its_host_only() {
    let authority = Authority::new();
    let theirs = authority.sign(&["localhost", "127.0.0.1"], "upstream", false);
    run(async {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(theirs.key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![theirs.der.clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        // Two upstreams, of which the secret is for one; each says what it was given.
        let mut ports = Vec::new();
        for _ in 0..2 {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            ports.push(listener.local_addr().unwrap().port());
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let Ok(stream) = acceptor.accept(stream).await else {
                        continue;
                    };
                    let says = hyper::service::service_fn(
                        |request: hyper::Request<hyper::body::Incoming>| async move {
                            let given = request.headers().get("authorization");
                            let text = given.map_or("nothing", |value| value.to_str().unwrap());
                            // Echoed in the body: what a bound host should not do.
                            let digits = text.len().to_string();
                            Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(
                                bytes::Bytes::from(digits),
                            )))
                        },
                    );
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), says);
                    tokio::spawn(serving);
                }
            });
        }
        let [bound, other] = ports[..] else {
            panic!("two")
        };
        let config = format!(
            "listeners: [{{address: \"127.0.0.1:0\"}}]
instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    secrets: {{KEY: {{file: ./key.txt, hosts: [localhost]}}}}
    data_guard:
      ca: [./ca.crt]
      allow_private: [127.0.0.0/8]
      rules:
        - {{name: bound, hosts: [localhost], ports: [{bound}]}}
        - {{name: other, addresses: [127.0.0.1/32], ports: [{other}]}}
"
        );
        let code = "export default { async fetch(request, env) {
          const ask = async (url) => {
            try {
              const response = await fetch(url, { headers: { authorization: `Bearer ${env.KEY}` } });
              return await response.text();
            } catch (error) { return String(error.message); }
          };
          const [bound, other] = new URL(request.url).searchParams.getAll('port');
          return Response.json([await ask(`https://localhost:${bound}/`), await ask(`https://127.0.0.1:${other}/`), env.KEY]);
        } };";
        let files = [
            ("main.js", code),
            ("key.txt", "the key itself"),
            ("ca.crt", authority.pem.as_str()),
        ];
        let server = Server::start(&config, &files);
        let answer = server
            .get("a", &format!("/?port={bound}&port={other}"))
            .await;
        let seen = answer.json();
        assert_eq!(
            seen[0],
            "Bearer the key itself".len().to_string(),
            "{seen} {}",
            server.log_text()
        );
        assert!(seen[1].as_str().unwrap().contains("secret"), "{seen}");
        assert!(seen[2].as_str().unwrap().starts_with("stockade-secret-"));
        assert!(!server.log_text().contains("the key itself"));
    });
}
