//! Grants of `pgp` in real processes of the helper, against GnuPG and Sequoia in both directions, and against messages
//! that are made to break it.

#![cfg_attr(
    target_os = "linux",
    expect(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    stockade_jail::run_if_launcher(|_| {}, None);
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Some count processes.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests::trials()).exit_code()
}

#[cfg(target_os = "linux")]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use libtest_mimic::Trial;
    use serde_json::{Value, json};
    use stockade_broker::{Broker, BrokerOptions};
    use stockade_capability::{CallContext, CallNotes, CallPlace, Capability, Owner};
    use stockade_grants::{CallAudit, CallRecord, Granting, Grants};
    use stockade_protocol::{GuestError, Payload};
    use tempfile::TempDir;

    const TEXT: &[u8] = "Grüße\r\nfrom here\n".as_bytes();
    const PASSPHRASE: &str = "correct horse";
    const UNDECIPHERABLE: &str =
        "the message cannot be decrypted: it is for another key, was changed, or is too much work";

    pub(super) fn trials() -> Vec<Trial> {
        let mut trials = Vec::new();
        let mut add = |name: &str, test: fn()| {
            trials.push(Trial::test(name, move || {
                test();
                Ok(())
            }));
        };
        add("gnupg_understands_and_is_understood", gnupg);
        add("sequoia_understands_and_is_understood", sequoia);
        add("keys_of_every_algorithm_work", algorithms);
        add("usages_are_what_the_grant_names", usages);
        add("grants_that_cannot_work_say_why", wrong_grants);
        add("signatures_of_changed_data_are_not_valid", changed);
        add("revoked_and_expired_keys_are_not_used", old_keys);
        add("undecipherable_messages_are_refused_alike", oracle);
        add(
            "hostile_messages_are_refused_and_harmless_ones_work",
            hostile,
        );
        add("keys_that_are_hostile_are_refused", hostile_keys);
        add("processes_end_when_idle_and_start_again", idle);
        add("operations_end_at_their_deadline", deadline);
        add("processes_have_no_files_and_end_with_the_grant", confined);
        trials
    }

    struct NoAudit;

    impl CallAudit for NoAudit {
        fn called(&self, _record: &CallRecord<'_>) {}
    }

    /// A grant with its guest.
    struct Guest {
        granted: Arc<dyn Capability>,
        runtime: tokio::runtime::Runtime,
    }

    /// What `decrypt` and `verify` give.
    #[derive(Debug)]
    struct Checked {
        data: Option<Vec<u8>>,
        signatures: Vec<Value>,
    }

    impl Checked {
        fn valid(&self) -> Vec<bool> {
            let signatures = self.signatures.iter();
            signatures
                .map(|one| one["valid"].as_bool().unwrap())
                .collect()
        }
    }

    impl Guest {
        fn try_new(grant: &Value) -> Result<Self, String> {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let inside = runtime.enter();
            let text = json!({ "PGP": { "pgp": grant } }).to_string();
            let grants = stockade_config::parse_grants(&text, Path::new("/"))
                .map_err(|wrong| format!("{:?}", wrong.list))?;
            let broker = Broker::new(BrokerOptions::default()).unwrap();
            let opened = Grants::new(Arc::new(NoAudit)).open(Granting {
                instance: "shop",
                binding: "PGP",
                grant: &grants["PGP"],
                broker: &broker,
                roots: &[],
                ways: &Default::default(),
                approval: None,
                data: None,
            });
            drop(inside);
            Ok(Self {
                granted: opened.map_err(|error| error.to_string())?,
                runtime,
            })
        }

        fn new(grant: &Value) -> Self {
            Self::try_new(grant).unwrap()
        }

        /// Calls a method. `parts` are the bytes that `arguments` names `\0b0`, `\0b1` and so on.
        fn call(
            &self,
            method: &str,
            arguments: &Value,
            parts: &[&[u8]],
        ) -> Result<Payload, GuestError> {
            let context = CallContext {
                owner: Owner {
                    instance: "shop".into(),
                    start: 1,
                    mirror: 1,
                },
                notes: CallNotes::default(),
                place: CallPlace::default(),
            };
            let payload = Payload {
                json: json!([arguments]).to_string(),
                bytes: parts.iter().map(|part| part.to_vec()).collect(),
                marked: true,
            };
            let called = self.granted.call(context, method, payload.into());
            Ok(self.runtime.block_on(called)?.payload)
        }

        fn text(
            &self,
            method: &str,
            arguments: &Value,
            parts: &[&[u8]],
        ) -> Result<String, GuestError> {
            let payload = self.call(method, arguments, parts)?;
            Ok(serde_json::from_str(&payload.json).unwrap())
        }

        fn bytes(&self, method: &str, arguments: &Value, parts: &[&[u8]]) -> Vec<u8> {
            self.call(method, arguments, parts).unwrap().bytes.remove(0)
        }

        fn checked(
            &self,
            method: &str,
            arguments: &Value,
            parts: &[&[u8]],
        ) -> Result<Checked, GuestError> {
            let mut payload = self.call(method, arguments, parts)?;
            let value: Value = serde_json::from_str(&payload.json).unwrap();
            Ok(Checked {
                data: value["data"].is_string().then(|| payload.bytes.remove(0)),
                signatures: value["signatures"].as_array().unwrap().clone(),
            })
        }

        fn public_key(&self) -> Vec<u8> {
            self.text("publicKey", &json!({}), &[])
                .unwrap()
                .into_bytes()
        }

        fn decrypt(&self, message: &[u8]) -> Result<Checked, GuestError> {
            self.checked("decrypt", &json!({ "data": "\0b0" }), &[message])
        }

        fn verify(&self, message: &[u8]) -> Result<Checked, GuestError> {
            self.checked("verify", &json!({ "data": "\0b0" }), &[message])
        }
    }

    const ALL: [&str; 4] = ["sign", "decrypt", "encrypt", "verify"];

    /// Everything, with a key.
    fn everything(secret: &[u8]) -> Value {
        json!({ "secret": String::from_utf8(secret.to_vec()).unwrap(), "usages": ALL })
    }

    /// Runs a program with this input.
    fn run(program: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{program}: {error}; fix: apt-get install gpg gpg-agent sq")
        });
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end before it has read everything.
        let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// A home of GnuPG.
    struct Gpg(TempDir);

    impl Gpg {
        fn new() -> Self {
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

        fn try_run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
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

        fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
            self.try_run(arguments, input).unwrap()
        }

        /// Makes a key of these algorithms, and gives its secret half as armor.
        fn key(&self, user: &str, primary: &str, encryption: &str, passphrase: &str) -> Vec<u8> {
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

        fn public(&self, user: &str) -> Vec<u8> {
            self.run(&["--armor", "--export", user], b"")
        }

        fn file(&self, name: &str, bytes: &[u8]) -> String {
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

    fn gnupg() {
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

    fn algorithms() {
        let gpg = Gpg::new();
        gpg.key("theirs@example.com", "ed25519", "cv25519", "");
        for (primary, encryption) in [("rsa3072", "rsa2048"), ("nistp256", "nistp384")] {
            let user = format!("{primary}@example.com");
            let guest = Guest::new(&everything(&gpg.key(&user, primary, encryption, "")));
            talk(&gpg, &guest, &user, "theirs@example.com");
        }
    }

    fn sequoia() {
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

    fn usages() {
        let gpg = Gpg::new();
        let secret = gpg.key("a@example.com", "ed25519", "cv25519", "");
        let public = gpg.public("a@example.com");
        let message = gpg.run(&["-r", "a@example.com", "--encrypt"], TEXT);
        let calls = [
            ("sign", json!({ "data": "\0b0" })),
            ("decrypt", json!({ "data": "\0b0" })),
            ("encrypt", json!({ "data": "\0b0", "keys": ["\0b1"] })),
            ("verify", json!({ "data": "\0b0" })),
        ];
        for usage in ALL {
            let mut grant = everything(&secret);
            grant["usages"] = json!([usage]);
            let guest = Guest::new(&grant);
            for (method, arguments) in &calls {
                let data = match *method {
                    "decrypt" => message.clone(),
                    "verify" => gpg.run(&["--sign"], TEXT),
                    _ => TEXT.to_vec(),
                };
                let done = guest.call(method, arguments, &[&data, &public]);
                if *method == usage {
                    done.unwrap();
                } else {
                    let error = done.unwrap_err();
                    assert_eq!(
                        error.name, "InvalidAccessError",
                        "{usage} {method}: {error}"
                    );
                }
            }
            // Encryption does not sign unless signing is granted as well.
            let request = json!({ "data": "\0b0", "keys": ["\0b1"], "sign": true });
            guest
                .call("encrypt", &request, &[TEXT, &public])
                .unwrap_err();
        }
        // The keys are those of the grant alone, where it says so.
        let file = gpg.file("recipient.asc", &public);
        let guest = Guest::new(&json!({
            "recipients": [file], "usages": ["encrypt"], "guest_keys": false,
        }));
        let message = guest
            .text("encrypt", &json!({ "data": "\0b0" }), &[TEXT])
            .unwrap();
        assert_eq!(gpg.run(&["--decrypt"], message.as_bytes()), TEXT);
        let request = json!({ "data": "\0b0", "keys": ["\0b1"] });
        let error = guest
            .call("encrypt", &request, &[TEXT, &public])
            .unwrap_err();
        assert_eq!(error.name, "InvalidAccessError");
        let error = guest.call("publicKey", &json!({}), &[]).unwrap_err();
        assert_eq!(error.name, "InvalidAccessError");
    }

    fn wrong_grants() {
        let refused = |grant: Value| Guest::try_new(&grant).err().unwrap();
        let why = refused(json!({ "usages": ["verify", "decrypt"] }));
        assert!(why.contains("decrypt, which needs `secret`"), "{why}");
        let why = refused(json!({ "usages": ["verify"], "passphrase": "x" }));
        assert!(why.contains("there is none"), "{why}");
        let why = refused(json!({ "usages": ["encrypt"], "recipients": ["/nowhere.asc"] }));
        assert!(why.contains("/nowhere.asc"), "{why}");
        // What only the process can know, the log says, and the guest does not learn.
        let gpg = Gpg::new();
        let secret = gpg.key("a@example.com", "ed25519", "cv25519", PASSPHRASE);
        for (secret, passphrase) in [
            (secret.clone(), "wrong horse"),
            (
                b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nnone".to_vec(),
                "",
            ),
            (gpg.public("a@example.com"), ""),
        ] {
            let mut grant = everything(&secret);
            if !passphrase.is_empty() {
                grant["passphrase"] = json!(passphrase);
            }
            let guest = Guest::new(&grant);
            let sign = || guest.text("sign", &json!({ "data": "\0b0" }), &[TEXT]);
            for error in [sign().unwrap_err(), sign().unwrap_err()] {
                assert_eq!(error.name, "OperationError");
                let message = "the keys of the grant cannot be used: the operator's log says why";
                assert_eq!(error.message, message);
            }
        }
        let mut grant = everything(&secret);
        grant["passphrase"] = json!(PASSPHRASE);
        let guest = Guest::new(&grant);
        guest
            .text("sign", &json!({ "data": "\0b0" }), &[TEXT])
            .unwrap();
    }

    fn changed() {
        let gpg = Gpg::new();
        let guest = Guest::new(&everything(&gpg.key(
            "a@example.com",
            "ed25519",
            "cv25519",
            "",
        )));
        let request = json!({ "data": "\0b0", "form": "detached" });
        let signature = guest.text("sign", &request, &[TEXT]).unwrap();
        let request = json!({ "data": "\0b0", "signature": "\0b1" });
        let verify = |data: &[u8]| {
            guest
                .checked("verify", &request, &[data, signature.as_bytes()])
                .unwrap()
        };
        assert_eq!(verify(TEXT).valid(), [true]);
        assert_eq!(verify(b"other").valid(), [false]);
        // The same, where the data is in the message: the last byte of the text is another one.
        let request = json!({ "data": "\0b0", "armor": false });
        let mut message = guest.bytes("sign", &request, &[TEXT]);
        assert_eq!(guest.verify(&message).unwrap().valid(), [true]);
        let at = message
            .windows(TEXT.len())
            .position(|part| part == TEXT)
            .unwrap();
        message[at] ^= 1;
        assert_eq!(guest.verify(&message).unwrap().valid(), [false]);
        // A digest that is too short.
        let weak = [
            "--digest-algo",
            "SHA224",
            "--personal-digest-preferences",
            "SHA224",
            "--sign",
        ];
        let message = gpg.run(&weak, TEXT);
        assert_eq!(guest.verify(&message).unwrap().valid(), [false]);
    }

    fn old_keys() {
        let gpg = Gpg::new();
        let user = "a@example.com";
        let secret = gpg.key(user, "ed25519", "cv25519", "");
        let good = gpg.public(user);
        let signed = gpg.run(&["--sign"], TEXT);
        let guest = Guest::new(&json!({ "usages": ["verify", "encrypt"] }));
        let verify = |key: &[u8]| {
            let request = json!({ "data": "\0b0", "keys": ["\0b1"] });
            guest
                .checked("verify", &request, &[&signed, key])
                .unwrap()
                .valid()
        };
        let encrypt = |key: &[u8]| {
            let request = json!({ "data": "\0b0", "keys": ["\0b1"] });
            guest.text("encrypt", &request, &[TEXT, key])
        };
        assert_eq!(verify(&good), [true]);
        encrypt(&good).unwrap();
        // A key that expired before now does not encrypt, and its signatures of before count.
        let listed = gpg.run(&["--with-colons", "--list-keys", user], b"");
        let listed = String::from_utf8(listed).unwrap();
        let fingerprint = listed.lines().find(|line| line.starts_with("fpr")).unwrap();
        let fingerprint = fingerprint.split(':').nth(9).unwrap().to_owned();
        gpg.run(&["--quick-set-expire", &fingerprint, "seconds=1"], b"");
        let expired = gpg.public(user);
        let until = Instant::now() + Duration::from_secs(20);
        while encrypt(&expired).is_ok() {
            assert!(Instant::now() < until, "the key does not expire");
            std::thread::sleep(Duration::from_millis(100));
        }
        let error = encrypt(&expired).unwrap_err();
        assert!(error.message.contains("expired or revoked"), "{error}");
        // A revoked one is good for nothing.
        let revocation = gpg
            .0
            .path()
            .join(format!("openpgp-revocs.d/{fingerprint}.rev"));
        let revocation = std::fs::read_to_string(revocation).unwrap();
        let revocation = revocation.replace(":-----BEGIN", "-----BEGIN");
        let again = Gpg::new();
        again.run(&["--import"], &good);
        again.run(&["--import"], revocation.as_bytes());
        let revoked = again.public(user);
        assert_eq!(verify(&revoked), [false]);
        encrypt(&revoked).unwrap_err();
        let again = Guest::new(&everything(&secret));
        again
            .text("sign", &json!({ "data": "\0b0" }), &[TEXT])
            .unwrap();
    }

    fn oracle() {
        let gpg = Gpg::new();
        let user = "a@example.com";
        let secret = gpg.key(user, "rsa2048", "rsa2048", "");
        gpg.key("b@example.com", "rsa2048", "rsa2048", "");
        let guest = Guest::new(&everything(&secret));
        let encrypt = |user: &str| gpg.run(&["-r", user, "--encrypt"], &[7; 4000]);
        let message = encrypt(user);
        let changed = |at: usize| {
            let mut message = message.clone();
            let at = if at < message.len() {
                at
            } else {
                message.len() - 1
            };
            message[at] ^= 0x40;
            message
        };
        let wrong = [
            // The session key, its padding, the first bytes and the checksum of the data.
            ("session key", changed(100)),
            ("its end", changed(250)),
            ("data", changed(320)),
            ("checksum", changed(usize::MAX)),
            ("cut off", message[..message.len() - 30].to_vec()),
            ("of another", encrypt("b@example.com")),
            (
                "without integrity",
                gpg.run(&["--rfc2440", "-r", user, "--encrypt"], TEXT),
            ),
            (
                "by a password",
                gpg.run(&["--passphrase", "x", "--symmetric"], TEXT),
            ),
            ("not encrypted", gpg.run(&["--sign"], TEXT)),
            ("garbage", vec![0xff; 1000]),
            ("nothing", Vec::new()),
        ];
        for (what, message) in wrong {
            let began = Instant::now();
            let error = guest.decrypt(&message).unwrap_err();
            assert_eq!(
                (&*error.name, &*error.message),
                ("OperationError", UNDECIPHERABLE),
                "{what}"
            );
            assert!(began.elapsed() >= Duration::from_millis(250), "{what}");
        }
        assert_eq!(guest.decrypt(&message).unwrap().data.unwrap(), [7; 4000]);
    }

    /// A packet of the new format around a body.
    fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[0xc0 | tag, 0xff][..], &length, body].concat()
    }

    fn hostile() {
        let gpg = Gpg::new();
        let secret = gpg.key("a@example.com", "ed25519", "cv25519", "");
        let mut grant = everything(&secret);
        grant["limits"] = json!({ "max_request": "8mb", "max_result": "4mb" });
        let guest = Guest::new(&grant);
        let harmless = gpg.run(&["--sign"], TEXT);
        let works = |after: &str| {
            assert_eq!(guest.verify(&harmless).unwrap().valid(), [true], "{after}");
        };
        works("nothing");
        // Bombs: much less than their data, which is 100 MB.
        let zeros = vec![0; 100 << 20];
        let bomb = gpg.run(&["--sign"], &zeros);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        let error = guest.verify(&bomb).unwrap_err();
        assert_eq!(error.name, "RangeError");
        assert!(error.message.contains("limits.max_result"), "{error}");
        let bomb = gpg.run(&["-r", "a@example.com", "--encrypt"], &zeros);
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        assert_eq!(guest.decrypt(&bomb).unwrap_err().name, "RangeError");
        works("bombs");
        // Packets in each other: compressed ones (uncompressed inside), and signatures.
        let literal = packet(11, &[&b"b\0\0\0\0\0"[..], TEXT].concat());
        let mut deep = literal.clone();
        for _ in 0..10_000 {
            deep = packet(8, &[&[0][..], &deep].concat());
        }
        let error = guest.verify(&deep).unwrap_err();
        assert_eq!(error.name, "DataError", "{error}");
        let one_pass = packet(4, &[3, 0, 8, 22, 1, 2, 3, 4, 5, 6, 7, 8, 1]);
        let many = [one_pass.repeat(100_000), literal.clone()].concat();
        guest.verify(&many).unwrap_err();
        works("deep packets");
        // Lengths: parts without an end, parts of nothing, more than there is.
        let mut parts = vec![0xcb, 0xe9];
        parts.extend([b'b'; 512]);
        parts.extend([0xe0, 0].repeat(1 << 20));
        guest.verify(&parts).unwrap_err();
        guest
            .verify(&[0xcb, 0xff, 0xff, 0xff, 0xff, 0xff])
            .unwrap_err();
        guest.verify(&[0xd2; 100_000]).unwrap_err();
        works("lengths");
        // Armor.
        for armor in [
            "-----BEGIN PGP MESSAGE-----\n\n".repeat(50_000),
            format!("-----BEGIN PGP MESSAGE-----\n{}", "A: b\n".repeat(500_000)),
            format!("-----BEGIN PGP MESSAGE-----\n\n{}", "A".repeat(4 << 20)),
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: {}",
                "SHA256,".repeat(100_000)
            ),
            "-".repeat(4 << 20),
            "\0\u{ffff}".repeat(1000),
        ] {
            guest.verify(armor.as_bytes()).unwrap_err();
        }
        works("armor");
        // More than a call may have.
        let error = guest.verify(&vec![0xcb; 9 << 20]).unwrap_err();
        assert_eq!(error.name, "RangeError", "{error}");
        works("much data");
    }

    fn hostile_keys() {
        let gpg = Gpg::new();
        let secret = gpg.key("a@example.com", "ed25519", "cv25519", "");
        let public = gpg.public("a@example.com");
        let mut grant = everything(&secret);
        grant["limits"] = json!({ "max_request": "200mb" });
        let guest = Guest::new(&grant);
        let request = json!({ "data": "\0b0", "keys": ["\0b1"] });
        let encrypt = |key: &[u8]| guest.text("encrypt", &request, &[TEXT, key]);
        let error = encrypt(&vec![0x99; 100 << 20]).unwrap_err();
        assert_eq!(error.name, "RangeError", "{error}");
        assert!(error.message.contains("1048576"), "{error}");
        for key in [
            &[0x99; 1 << 20][..],
            b"",
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n",
            &secret,
        ] {
            let error = encrypt(key).unwrap_err();
            assert_eq!(error.name, "DataError", "{error}");
        }
        let error = encrypt(&public.repeat(65)).unwrap_err();
        assert_eq!(error.name, "DataError", "{error}");
        // Several blocks are several recipients.
        gpg.key("b@example.com", "ed25519", "cv25519", "");
        let both = [&public[..], &gpg.public("b@example.com")].concat();
        let packets = gpg.run(
            &["--list-packets", "--list-only"],
            encrypt(&both).unwrap().as_bytes(),
        );
        let packets = String::from_utf8(packets).unwrap();
        assert_eq!(
            packets.matches(":pubkey enc packet:").count(),
            2,
            "{packets}"
        );
        let many: Vec<String> = (1..=65).map(|index| format!("\0b{index}")).collect();
        let request = json!({ "data": "\0b0", "keys": many });
        let parts: Vec<&[u8]> = std::iter::once(TEXT)
            .chain((0..65).map(|_| &public[..]))
            .collect();
        let error = guest.text("encrypt", &request, &parts).unwrap_err();
        assert_eq!(error.name, "RangeError", "{error}");
        encrypt(&public).unwrap();
    }

    /// Process ids of the helper's workers.
    fn workers() -> Vec<u32> {
        let processes = std::fs::read_dir("/proc").unwrap();
        let ids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        ids.filter(|id: &u32| {
            let title = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            title.starts_with(b"stockade-worker pgp") && is_ours(*id)
        })
        .collect()
    }

    /// Whether a process descends from this one.
    fn is_ours(mut id: u32) -> bool {
        while id > 1 {
            if id == std::process::id() {
                return true;
            }
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            id = parent
                .and_then(|parent| parent.trim().parse().ok())
                .unwrap_or(0);
        }
        false
    }

    fn wait_for(workers_left: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        while workers().len() != workers_left {
            assert!(
                Instant::now() < until,
                "{:?}, not {workers_left}",
                workers()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn idle() {
        let gpg = Gpg::new();
        let mut grant = everything(&gpg.key("a@example.com", "ed25519", "cv25519", ""));
        grant["idle"] = json!("1s");
        grant["isolation"] = json!("process");
        let guest = Guest::new(&grant);
        let sign = || {
            guest
                .text("sign", &json!({ "data": "\0b0" }), &[TEXT])
                .unwrap()
        };
        wait_for(0);
        sign();
        wait_for(1);
        wait_for(0);
        sign();
        // One that is killed is replaced, and only the call that it had fails.
        let killed = workers();
        run("kill", &["-9", &killed[0].to_string()], b"").unwrap();
        wait_for(0);
        let again = || guest.text("sign", &json!({ "data": "\0b0" }), &[TEXT]);
        let _ = again();
        again().unwrap();
    }

    fn deadline() {
        let gpg = Gpg::new();
        let mut grant = everything(&gpg.key("a@example.com", "rsa4096", "rsa4096", ""));
        grant["time"] = json!("100ms");
        grant["limits"] = json!({ "max_request": "64mb", "max_result": "64mb" });
        let guest = Guest::new(&grant);
        let detached = json!({ "data": "\0b0", "form": "detached", "armor": false });
        guest.bytes("sign", &detached, &[TEXT]);
        // Signatures, each of which is a digest of everything: hours of work, if there were no limit of their number;
        // and one digest of much data by hundreds of signatures.
        let signature = guest.bytes("sign", &detached, &[TEXT]);
        let request = json!({ "data": "\0b0", "signature": "\0b1" });
        let error = guest.checked(
            "verify",
            &request,
            &[&vec![0; 60 << 20], &signature.repeat(64)],
        );
        let error = error.unwrap_err();
        assert_eq!(error.name, "TimeoutError", "{error}");
        guest.bytes("sign", &detached, &[TEXT]);
    }

    fn confined() {
        let gpg = Gpg::new();
        let grant = everything(&gpg.key("a@example.com", "ed25519", "cv25519", ""));
        let guest = Guest::new(&grant);
        guest.public_key();
        let ids = workers();
        assert_eq!(ids.len(), 1);
        let status = std::fs::read_to_string(format!("/proc/{}/status", ids[0])).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(field("Seccomp:"), "2");
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_eq!(field("CapEff:"), "0000000000000000");
        // Standard streams that lead nowhere, and the socket.
        if let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", ids[0])) {
            let mut open: Vec<String> = open
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            open.sort();
            assert_eq!(open, ["0", "1", "2", "3"]);
        }
        drop(guest);
        wait_for(0);
    }
}
