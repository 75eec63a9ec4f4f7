//! Messages and keys that are made to break the helper.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::guest::{Guest, TEXT, everything};
use crate::programs::Gpg;

const UNDECIPHERABLE: &str =
    "the message cannot be decrypted: it is for another key, was changed, or is too much work";

pub(crate) fn oracle() {
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

pub(crate) fn hostile() {
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

pub(crate) fn hostile_keys() {
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
