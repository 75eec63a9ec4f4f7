//! Let's Encrypt's test server, where it is installed (Debian: `pebble`): it checks signatures, nonces
//! and challenges as the real one does, and refuses some good nonces.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use instant_acme::{BodyWrapper, HttpClient};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;

use super::authority::{Authority, Wish};
use crate::acme::DirectClient;
use crate::leaf::certificates;

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a test wants of the server.
pub(super) struct Wanted {
    /// Where it looks for answers over HTTP and TLS.
    pub(super) http: u16,
    pub(super) tls: u16,
    /// Life of certificates, in seconds.
    pub(super) life: u32,
    /// Percent of good nonces that it refuses.
    pub(super) bad_nonces: u8,
    /// Of the account with the authority, base64url.
    pub(super) external_key: Option<&'static str>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            http: 1,
            tls: 1,
            life: 90 * 24 * 3600,
            bad_nonces: 15,
            external_key: None,
        }
    }
}

/// A running server with its own DNS, in which every name is 127.0.0.1.
pub(super) struct Pebble {
    pub(super) directory: String,
    pub(super) server_ca: PathBuf,
    management: u16,
    authority: Authority,
    bad_nonces: u8,
    dns: u16,
    server: Process,
    _names: Process,
}

pub(super) fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join("pebble").exists());
    if !found {
        eprintln!("skipped: pebble is not installed (Debian: apt-get install pebble)");
    }
    found
}

/// A port that nobody listens on. It is none of those that the kernel gives meanwhile to sockets without a port of their
/// own, and another one each time.
fn free_port() -> u16 {
    static TURN: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        // Processes that test at the same time begin at different ports.
        let offset = (std::process::id() * 13 + turn) % 20_000;
        let port = 10_000 + u16::try_from(offset).unwrap();
        if [
            TcpListener::bind(("127.0.0.1", port)).is_ok(),
            UdpSocket::bind(("127.0.0.1", port)).is_ok(),
        ] == [true; 2]
        {
            return port;
        }
    }
}

/// Starts a program and reads what it says until it says `ready`.
fn start(command: &mut Command, ready: &str) -> Process {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Process(child);
    let mut said = Vec::new();
    loop {
        match lines.next() {
            Some(Ok(line)) if line.contains(ready) => break,
            Some(Ok(line)) => said.push(line),
            _ => panic!("ended before {ready:?}: {said:#?}"),
        }
    }
    // A full pipe would stop it.
    std::thread::spawn(move || lines.for_each(drop));
    process
}

impl Pebble {
    pub(super) fn start(wanted: &Wanted) -> Self {
        let dns = free_port();
        let names = start(
            Command::new("sh")
                .arg("-c")
                .arg("exec pebble-challtestsrv -http01 '' -https01 '' -tlsalpn01 '' -defaultIPv6 '' -dns01 \"$1\" -management \"$2\" 2>&1")
                .args(["sh", &format!("127.0.0.1:{dns}"), &format!("127.0.0.1:{}", free_port())]),
            "Starting management server",
        );
        Self::with_dns(wanted, dns, names)
    }

    fn with_dns(wanted: &Wanted, dns: u16, names: Process) -> Self {
        let authority = Authority::new("pebble");
        let files = authority.server(
            "pebble",
            Wish {
                names: &["127.0.0.1"],
                ..Wish::default()
            },
        );
        let (port, management) = (free_port(), free_port());
        let mut config = serde_json::json!({
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": files.cert,
            "privateKey": files.key,
            "httpPort": wanted.http,
            "tlsPort": wanted.tls,
            "certificateValidityPeriod": wanted.life,
            "externalAccountBindingRequired": wanted.external_key.is_some(),
        });
        if let Some(key) = wanted.external_key {
            config["externalAccountMACKeys"] = serde_json::json!({ "kid-1": key });
        }
        let file = authority.folder.path().join("config.json");
        let text = serde_json::json!({ "pebble": config }).to_string();
        std::fs::write(&file, text).unwrap();
        let server = run(&file, dns, wanted.bad_nonces);
        Self {
            directory: format!("https://127.0.0.1:{port}/dir"),
            server_ca: authority.file.clone(),
            management,
            authority,
            bad_nonces: wanted.bad_nonces,
            dns,
            server,
            _names: names,
        }
    }

    /// The same server, without anything that it knew.
    pub(super) fn restarted(mut self) -> Self {
        let config = self.authority.folder.path().join("config.json");
        // The port is free only when the old one has ended.
        drop(self.server);
        self.server = run(&config, self.dns, self.bad_nonces);
        self
    }

    /// The authorities that it signs with; new ones at each start.
    pub(super) async fn roots(&self) -> RootCertStore {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = DirectClient::new(Some(&self.authority.file), &provider).unwrap();
        let request = http::Request::get(format!("https://127.0.0.1:{}/roots/0", self.management))
            .body(BodyWrapper::default())
            .unwrap();
        let mut answer = client.request(request).await.unwrap();
        let pem = answer.body.into_bytes().await.unwrap();
        let mut roots = RootCertStore::empty();
        for block in certificates(Path::new("roots"), &pem).unwrap() {
            roots.add(CertificateDer::from(block.der)).unwrap();
        }
        roots
    }
}

fn run(config: &Path, dns: u16, bad_nonces: u8) -> Process {
    start(
        Command::new("sh")
            .arg("-c")
            .arg("exec pebble -strict -config \"$1\" -dnsserver \"$2\" 2>&1")
            .args([
                "sh",
                &config.display().to_string(),
                &format!("127.0.0.1:{dns}"),
            ])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", bad_nonces.to_string()),
        "ACME directory available",
    )
}
