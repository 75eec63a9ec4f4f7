//! Usages of a grant, its keys and settings, and signatures of changed data.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guest::{ALL, Guest, PASSPHRASE, TEXT, everything};
use crate::programs::Gpg;

pub(crate) fn usages() {
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

pub(crate) fn wrong_grants() {
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

pub(crate) fn changed() {
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

pub(crate) fn old_keys() {
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
    let until = Instant::now() + Duration::from_secs(60);
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
