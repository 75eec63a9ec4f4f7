//! GnuPG and Sequoia understand a grant, and it understands them.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tempfile::TempDir;

use crate::guest::{Checked, Guest, PASSPHRASE, TEXT, everything, run};

/// A home of GnuPG.
pub(crate) struct Gpg(pub(crate) TempDir);

impl Gpg {
    pub(crate) fn new() -> Self {
        let gpg = Self(TempDir::new().unwrap());
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(gpg.0.path(), private).unwrap();
        // Makes its files.
        let home = gpg.0.path().to_str().unwrap();
        run(
            "gpg",
            &["--homedir", home, "--batch", "--quiet", "--list-keys"],
            b"",
        )
        .unwrap();
        gpg
    }

    pub(crate) fn try_run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let home = self.0.path().to_str().unwrap();
        let mut all = vec![
            "--homedir",
            home,
            "--batch",
            "--quiet",
            "--yes",
            "--no-tty",
            "--trust-model",
            "always",
            "--pinentry-mode",
            "loopback",
        ];
        if !arguments.contains(&"--passphrase") {
            all.extend(["--passphrase", ""]);
        }
        all.extend(arguments);
        run("gpg", &all, input)
    }

    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        self.try_run(arguments, input).unwrap()
    }

    /// Makes a key of these algorithms, and gives its secret half as armor.
    pub(crate) fn key(
        &self,
        user: &str,
        primary: &str,
        encryption: &str,
        passphrase: &str,
    ) -> Vec<u8> {
        let with = ["--passphrase", passphrase];
        let quick = |rest: &[&str]| self.run(&[&with[..], rest].concat(), b"");
        quick(&["--quick-generate-key", user, primary, "sign,cert", "never"]);
        let listed = self.run(&["--with-colons", "--list-keys", user], b"");
        let listed = String::from_utf8(listed).unwrap();
        let fingerprint = listed.lines().find(|line| line.starts_with("fpr")).unwrap();
        let fingerprint = fingerprint.split(':').nth(9).unwrap();
        quick(&["--quick-add-key", fingerprint, encryption, "encr", "never"]);
        quick(&["--armor", "--export-secret-keys", user])
    }

    pub(crate) fn public(&self, user: &str) -> Vec<u8> {
        self.run(&["--armor", "--export", user], b"")
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let home = self.0.path().to_str().unwrap();
        let _ = run("gpgconf", &["--homedir", home, "--kill", "all"], b"");
    }
}

/// Everything that GnuPG and a grant say to each other.
fn talk(gpg: &Gpg, guest: &Guest, ours: &str, theirs: &str) {
    let their_key = gpg.public(theirs);
    // We sign, GnuPG verifies.
    for armor in [true, false] {
        let request = json!({ "data": "\0b0", "armor": armor });
        let message = if armor {
            guest.text("sign", &request, &[TEXT]).unwrap().into_bytes()
        } else {
            guest.bytes("sign", &request, &[TEXT])
        };
        assert_eq!(gpg.run(&["--decrypt"], &message), TEXT);
    }
    let request = json!({ "data": "\0b0", "form": "detached" });
    let signature = guest.text("sign", &request, &[TEXT]).unwrap();
    let signature = gpg.file("signature", signature.as_bytes());
    gpg.run(&["--verify", &signature, "-"], TEXT);
    gpg.try_run(&["--verify", &signature, "-"], b"other")
        .unwrap_err();
    let request = json!({ "data": "\0b0", "form": "cleartext" });
    let text = guest.text("sign", &request, &[b"- one\ntwo\n"]).unwrap();
    assert_eq!(gpg.run(&["--decrypt"], text.as_bytes()), b"- one\ntwo\n");
    // GnuPG signs, we verify.
    let checked = |name: &str, checked: Checked, data: Option<&[u8]>| {
        assert_eq!(checked.valid(), [true], "{name}");
        assert_eq!(checked.data.as_deref(), data, "{name}");
    };
    let with_key = |data: &[u8]| {
        let request = json!({ "data": "\0b0", "keys": ["\0b1"] });
        guest
            .checked("verify", &request, &[data, &their_key])
            .unwrap()
    };
    for how in [&["--sign"][..], &["--armor", "--sign"]] {
        let message = gpg.run(&[&["-u", theirs], how].concat(), TEXT);
        checked("signed", with_key(&message), Some(TEXT));
    }
    let clear = gpg.run(&["-u", theirs, "--clear-sign"], b"- one\ntwo\n");
    checked("clear", with_key(&clear), Some(b"- one\ntwo\n"));
    let signature = gpg.run(&["-u", theirs, "--detach-sign"], TEXT);
    let request = json!({ "data": "\0b0", "signature": "\0b1", "keys": ["\0b2"] });
    let parts: [&[u8]; 3] = [TEXT, &signature, &their_key];
    checked(
        "detached",
        guest.checked("verify", &request, &parts).unwrap(),
        None,
    );
    // GnuPG encrypts and signs, we decrypt and verify.
    let message = gpg.run(&["-u", theirs, "-r", ours, "--sign", "--encrypt"], TEXT);
    let request = json!({ "data": "\0b0", "keys": ["\0b1"] });
    let parts: [&[u8]; 2] = [&message, &their_key];
    checked(
        "encrypted",
        guest.checked("decrypt", &request, &parts).unwrap(),
        Some(TEXT),
    );
    let unknown = guest.decrypt(&message).unwrap();
    assert_eq!(
        (unknown.valid(), unknown.data.as_deref()),
        (vec![false], Some(TEXT))
    );
    // We encrypt and sign, GnuPG decrypts and verifies.
    let request = json!({ "data": "\0b0", "keys": ["\0b1"], "sign": true });
    let message = guest
        .text("encrypt", &request, &[TEXT, &their_key])
        .unwrap();
    let status = ["-u", theirs, "--status-fd", "1", "--decrypt"];
    let status = gpg.run(&status, message.as_bytes());
    let status = String::from_utf8_lossy(&status);
    assert!(
        status.contains("GOODSIG") && status.contains("DECRYPTION_OKAY"),
        "{status}"
    );
}

pub(crate) fn gnupg() {
    let gpg = Gpg::new();
    let secret = gpg.key("ours@example.com", "ed25519", "cv25519", PASSPHRASE);
    gpg.key("theirs@example.com", "rsa2048", "rsa2048", "");
    let mut grant = everything(&secret);
    grant["passphrase"] = json!(PASSPHRASE);
    let guest = Guest::new(&grant);
    talk(&gpg, &guest, "ours@example.com", "theirs@example.com");
    // What the grant shows of its key is the public half.
    let public = guest.public_key();
    let shown = gpg.run(&["--show-keys", "--with-colons"], &public);
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.contains("ours@example.com") && !shown.contains("sec:"),
        "{shown}"
    );
}

pub(crate) fn algorithms() {
    let gpg = Gpg::new();
    gpg.key("theirs@example.com", "ed25519", "cv25519", "");
    for (primary, encryption) in [("rsa3072", "rsa2048"), ("nistp256", "nistp384")] {
        let user = format!("{primary}@example.com");
        let guest = Guest::new(&everything(&gpg.key(&user, primary, encryption, "")));
        talk(&gpg, &guest, &user, "theirs@example.com");
    }
}

pub(crate) fn sequoia() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let sq = |arguments: &[&str], input: &[u8]| run("sq", arguments, input);
    let key = |name: &str| {
        let (secret, public) = (path(&format!("{name}.key")), path(&format!("{name}.pub")));
        sq(
            &["key", "generate", "--userid", name, "--export", &secret],
            b"",
        )
        .unwrap();
        sq(&["key", "extract-cert", "--output", &public, &secret], b"").unwrap();
        (secret, public)
    };
    let ((our_secret, our_public), (their_secret, their_public)) = (key("ours"), key("theirs"));
    let guest = Guest::new(&everything(&std::fs::read(&our_secret).unwrap()));
    let their_key = std::fs::read(&their_public).unwrap();
    // To Sequoia.
    let message = guest
        .text("sign", &json!({ "data": "\0b0" }), &[TEXT])
        .unwrap();
    let verified = sq(
        &["verify", "--signer-cert", &our_public],
        message.as_bytes(),
    );
    assert_eq!(verified.unwrap(), TEXT);
    let request = json!({ "data": "\0b0", "keys": ["\0b1"], "sign": true });
    let message = guest
        .text("encrypt", &request, &[TEXT, &their_key])
        .unwrap();
    let decrypt = [
        "decrypt",
        "--recipient-key",
        &their_secret,
        "--signer-cert",
        &our_public,
    ];
    assert_eq!(sq(&decrypt, message.as_bytes()).unwrap(), TEXT);
    // From Sequoia.
    let encrypt = [
        "encrypt",
        "--recipient-cert",
        &our_public,
        "--signer-key",
        &their_secret,
    ];
    let message = sq(&encrypt, TEXT).unwrap();
    let request = json!({ "data": "\0b0", "keys": ["\0b1"] });
    let decrypted = guest
        .checked("decrypt", &request, &[&message, &their_key])
        .unwrap();
    assert_eq!(
        (decrypted.valid(), decrypted.data.as_deref()),
        (vec![true], Some(TEXT))
    );
    let message = sq(&["sign", "--signer-key", &their_secret], TEXT).unwrap();
    let verified = guest
        .checked("verify", &request, &[&message, &their_key])
        .unwrap();
    assert_eq!(
        (verified.valid(), verified.data.as_deref()),
        (vec![true], Some(TEXT))
    );
}
