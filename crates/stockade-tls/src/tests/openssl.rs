//! OpenSSL as the client and as the maker of files, where it is installed: versions that rustls does
//! not speak, other forms of keys, OCSP responses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use super::authority::{Authority, Wish, replace};
use super::peer::Server;
use crate::ocsp::Staple;
use crate::{CertificateFiles, TlsOptions, TlsStore};

fn is_installed() -> bool {
    let found = Command::new("openssl")
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("skipped: openssl is not installed");
    }
    found
}

fn openssl(folder: &Path, arguments: &str) -> Output {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What OpenSSL's client says of a handshake.
async fn client(server: &Server, options: &str) -> String {
    let mut command = Command::new("openssl");
    command
        .args([
            "s_client",
            "-connect",
            &server.address.to_string(),
            "-servername",
            "a.example",
        ])
        .args(options.split(' '))
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn only(files: CertificateFiles) -> TlsOptions {
    TlsOptions {
        certificates: vec![files],
        ..TlsOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accept_of_old_versions_and_ciphers_is_refused() {
    if !is_installed() {
        return;
    }
    let authority = Authority::new("root");
    let mut server = Server::start(only(authority.server("a", Wish::default()))).await;
    for old in ["-tls1", "-tls1_1"] {
        let said = client(&server, &format!("{old} -cipher ALL:@SECLEVEL=0")).await;
        let refused = ["alert protocol version", "alert handshake failure"];
        assert!(
            refused.iter().any(|alert| said.contains(alert)),
            "{old}: {said}"
        );
        assert_eq!(server.next().await.unwrap_err().reason(), "hello");
    }
    for weak in [
        "AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA256",
        "NULL",
        "DHE-RSA-AES256-GCM-SHA384",
    ] {
        let said = client(&server, &format!("-tls1_2 -cipher {weak}:@SECLEVEL=0")).await;
        assert!(said.contains("alert handshake failure"), "{weak}: {said}");
        assert_eq!(server.next().await.unwrap_err().reason(), "incompatible");
    }
    for fine in ["-tls1_2", "-tls1_3"] {
        let said = client(&server, fine).await;
        assert!(said.contains("Cipher is "), "{said}");
        server.next().await.unwrap();
    }
    let said = client(&server, "-tls1_2 -no_ticket -reconnect").await;
    assert!(!said.contains("Reused"), "sessions without tickets: {said}");
    assert!(said.contains("Secure Renegotiation IS supported"));
}

#[test]
fn load_of_keys_in_other_forms_works() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let request = |algorithm: &str, name: &str| {
        let text = format!(
            "req -x509 -newkey {algorithm} -nodes -subj /CN=x -addext subjectAltName=DNS:{name}.example \
             -keyout {name}.key -out {name}.crt"
        );
        openssl(folder.path(), &text);
        CertificateFiles {
            cert: at(&format!("{name}.crt")),
            key: at(&format!("{name}.key")),
            ocsp: None,
        }
    };
    let rsa = request("rsa:2048", "rsa");
    openssl(
        folder.path(),
        "pkey -in rsa.key -traditional -out rsa-old.key",
    );
    let old_rsa = CertificateFiles {
        key: at("rsa-old.key"),
        ..rsa.clone()
    };
    // With its EC PARAMETERS block first.
    openssl(
        folder.path(),
        "ecparam -name prime256v1 -genkey -out ec.key",
    );
    openssl(
        folder.path(),
        "req -x509 -key ec.key -subj /CN=x -addext subjectAltName=DNS:ec.example -out ec.crt",
    );
    let ec = CertificateFiles {
        cert: at("ec.crt"),
        key: at("ec.key"),
        ocsp: None,
    };
    let edwards = request("ed25519", "ed");
    // With the text of its contents, and the key behind the certificate in one file.
    openssl(folder.path(), "x509 -in rsa.crt -text -out text.crt");
    let both = std::fs::read_to_string(at("text.crt")).unwrap()
        + &std::fs::read_to_string(at("rsa.key")).unwrap();
    replace(&at("both.pem"), &both);
    let both = CertificateFiles {
        cert: at("both.pem"),
        key: at("both.pem"),
        ocsp: None,
    };
    let options = TlsOptions {
        certificates: vec![rsa, old_rsa, ec, edwards, both],
        ..TlsOptions::default()
    };
    let store = TlsStore::load(options, None, std::sync::Arc::new(())).unwrap();
    let keys: Vec<_> = store
        .certificates()
        .iter()
        .map(|facts| facts.key.clone())
        .collect();
    assert_eq!(
        keys,
        ["RSA 2048", "RSA 2048", "EC 256", "Ed25519", "RSA 2048"]
    );

    openssl(
        folder.path(),
        "pkey -in rsa.key -aes128 -passout pass:x -out locked.key",
    );
    openssl(folder.path(), "x509 -in rsa.crt -outform der -out der.crt");
    for (cert, key, expect) in [
        (
            "rsa.crt",
            "locked.key",
            "locked.key:1: holds an encrypted private key",
        ),
        (
            "der.crt",
            "rsa.key",
            "der.crt: holds DER, the binary form, where a certificate (PEM) is needed",
        ),
    ] {
        let files = CertificateFiles {
            cert: at(cert),
            key: at(key),
            ocsp: None,
        };
        let text = TlsStore::load(only(files), None, std::sync::Arc::new(()))
            .unwrap_err()
            .to_string();
        assert!(text.contains(expect), "{text}");
    }
}

/// A response for a certificate of `authority`; `status` is a line of OpenSSL's index.
fn respond(folder: &Path, cert: &Path, status: &str, days: u32) -> PathBuf {
    let serial = openssl(
        folder,
        &format!("x509 -in {} -noout -serial", cert.display()),
    );
    let serial = String::from_utf8(serial.stdout)
        .unwrap()
        .trim()
        .replace("serial=", "");
    let line = match status {
        "V" => format!("V\t360101000000Z\t\t{serial}\tunknown\t/CN=x\n"),
        _ => format!("R\t360101000000Z\t260101000000Z\t{serial}\tunknown\t/CN=x\n"),
    };
    replace(&folder.join("index.txt"), &line);
    let out = format!("{status}.ocsp");
    let text = format!(
        "ocsp -index index.txt -rsigner signer.crt -rkey signer.key -CA signer.crt -issuer signer.crt -cert {} \
         -ndays {days} -respout {out} -noverify",
        cert.display()
    );
    openssl(folder, &text);
    folder.join(out)
}

#[tokio::test(flavor = "multi_thread")]
async fn ocsp_response_is_stapled_while_it_is_good() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    openssl(
        folder.path(),
        "req -x509 -newkey rsa:2048 -nodes -subj /CN=signer -days 30 -keyout signer.key -out signer.crt",
    );
    openssl(
        folder.path(),
        "req -newkey rsa:2048 -nodes -subj /CN=x -addext subjectAltName=DNS:a.example -keyout a.key -out a.csr",
    );
    openssl(
        folder.path(),
        "x509 -req -in a.csr -CA signer.crt -CAkey signer.key -CAcreateserial -days 9 -copy_extensions copyall -out a.crt",
    );
    let cert = folder.path().join("a.crt");
    let good = respond(folder.path(), &cert, "V", 3);
    let files = CertificateFiles {
        key: folder.path().join("a.key"),
        ocsp: Some(good.clone()),
        cert: cert.clone(),
    };
    let mut server = Server::start(only(files.clone())).await;
    let said = client(&server, "-status").await;
    assert!(said.contains("OCSP Response Status: successful"), "{said}");
    server.next().await.unwrap();

    let now = SystemTime::now();
    let staple = Staple::load(&good, now).unwrap();
    assert!(staple.is_usable(now));
    let later = now + Duration::from_secs(4 * 24 * 3600);
    assert!(!staple.is_usable(later));
    let text = Staple::load(&good, later).unwrap_err().to_string();
    assert!(text.contains("nextUpdate has passed"), "{text}");

    let revoked = respond(folder.path(), &cert, "R", 3);
    let text = Staple::load(&revoked, now).unwrap_err().to_string();
    assert!(text.contains("is revoked"), "{text}");
    std::fs::copy(&revoked, &good).unwrap();
    assert!(server.store.reload().is_err());
    let said = client(&server, "-status").await;
    assert!(
        said.contains("OCSP Response Status: successful"),
        "the old one stays: {said}"
    );
    for cut in [0, 1, 5, 40, 100] {
        let bytes = std::fs::read(&revoked).unwrap();
        std::fs::write(&good, &bytes[..cut]).unwrap();
        assert!(Staple::load(&good, now).is_err(), "{cut}");
    }
    let _ = server.next().await;
}
