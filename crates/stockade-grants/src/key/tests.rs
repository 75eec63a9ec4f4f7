//! Keys in each of their forms, known answers of RFC 7515 and RFC 8037, and what is refused.

use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stockade_config::KeyEncoding;

use super::*;

const RSA_PKCS1: &str = include_str!("../../../../tests/testdata/keys/rsa.pkcs1.pem");
const RSA_PKCS8: &str = include_str!("../../../../tests/testdata/keys/rsa.pkcs8.pem");
const RSA_JWK: &str = include_str!("../../../../tests/testdata/keys/rsa.jwk");
const P256_SEC1: &str = include_str!("../../../../tests/testdata/keys/p256.sec1.pem");
const P256_PKCS8: &str = include_str!("../../../../tests/testdata/keys/p256.pkcs8.pem");
const P256_JWK: &str = include_str!("../../../../tests/testdata/keys/p256.jwk");
const P384_SEC1: &str = include_str!("../../../../tests/testdata/keys/p384.sec1.pem");
const P384_JWK: &str = include_str!("../../../../tests/testdata/keys/p384.jwk");
const ED25519_PKCS8: &str = include_str!("../../../../tests/testdata/keys/ed25519.pkcs8.pem");
const ED25519_JWK: &str = include_str!("../../../../tests/testdata/keys/ed25519.jwk");
const WEAK: &str = include_str!("../../../../tests/testdata/keys/weak.pem");
const ENCRYPTED: &str = include_str!("../../../../tests/testdata/keys/encrypted.pem");
const ENCRYPTED_PKCS8: &str = include_str!("../../../../tests/testdata/keys/encrypted.pkcs8.pem");

fn held(text: &str, algorithm: KeyAlgorithm, usages: &[KeyUsage]) -> (Held, Shown) {
    let (material, shown) = material::read(text, algorithm, None).unwrap();
    let held = Held {
        material,
        hash: hash_of(algorithm),
        usages: usages.to_vec(),
        domain: Vec::new(),
    };
    (held, shown)
}

fn refused(text: &str, algorithm: KeyAlgorithm, encoding: Option<KeyEncoding>) -> String {
    let Err(why) = material::read(text, algorithm, encoding) else {
        panic!("{} takes it", algorithm.word());
    };
    why
}

fn operation(data: &[u8]) -> Operation {
    Operation {
        data: data.to_vec(),
        signature: None,
        hash: None,
        salt_length: None,
        iv: None,
        additional_data: None,
        tag_length: None,
        label: None,
    }
}

fn bytes(outcome: Result<Outcome, GuestError>) -> Vec<u8> {
    match outcome {
        Ok(Outcome::Bytes(bytes)) => bytes,
        Ok(Outcome::Valid(_)) => panic!("a boolean"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn key_in_each_form_signs_for_the_same_public_half() {
    use KeyAlgorithm::{Ed25519, Es256, Es384, Ps384, Rs256, Rs512};
    let cases: [(&[&str], KeyAlgorithm, &'static dyn VerificationAlgorithm); 6] = [
        (
            &[RSA_PKCS1, RSA_PKCS8, RSA_JWK],
            Rs256,
            &RSA_PKCS1_2048_8192_SHA256,
        ),
        (
            &[RSA_PKCS1, RSA_PKCS8, RSA_JWK],
            Rs512,
            &RSA_PKCS1_2048_8192_SHA512,
        ),
        (
            &[RSA_PKCS1, RSA_PKCS8, RSA_JWK],
            Ps384,
            &RSA_PSS_2048_8192_SHA384,
        ),
        (
            &[P256_SEC1, P256_PKCS8, P256_JWK],
            Es256,
            &ECDSA_P256_SHA256_FIXED,
        ),
        (&[P384_SEC1, P384_JWK], Es384, &ECDSA_P384_SHA384_FIXED),
        (&[ED25519_PKCS8, ED25519_JWK], Ed25519, &ED25519),
    ];
    for (forms, algorithm, _) in cases {
        let mut halves: Vec<_> = forms
            .iter()
            .map(|form| held(form, algorithm, &[]).1.spki.unwrap())
            .collect();
        halves.dedup();
        assert_eq!(halves.len(), 1, "{}", algorithm.word());
    }
    for (forms, algorithm, verification) in cases {
        for form in forms {
            let (held, shown) = held(form, algorithm, &[KeyUsage::Sign]);
            let signature = bytes(held.perform(KeyUsage::Sign, operation(b"data")));
            // The library's own parser takes SubjectPublicKeyInfo for each of these.
            let public = UnparsedPublicKey::new(verification, shown.spki.unwrap());
            assert!(
                public.verify(b"data", &signature).is_ok(),
                "{}",
                algorithm.word()
            );
            assert!(
                public.verify(b"other", &signature).is_err(),
                "{}",
                algorithm.word()
            );
        }
    }
}

#[test]
fn signatures_are_those_of_the_standards() {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    // RFC 7515, appendix A.1.
    let jwk = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    let input = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let (key, shown) = held(
        jwk,
        KeyAlgorithm::Hs256,
        &[KeyUsage::Sign, KeyUsage::Verify],
    );
    let code = bytes(key.perform(KeyUsage::Sign, operation(input)));
    assert_eq!(code, decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
    assert_eq!((shown.bits, shown.spki.is_none()), (512, true));
    for (signature, valid) in [
        (code.clone(), true),
        (code[1..].to_vec(), false),
        (Vec::new(), false),
    ] {
        let mut request = operation(input);
        request.signature = Some(signature);
        let outcome = key.perform(KeyUsage::Verify, request).ok().unwrap();
        assert!(matches!(outcome, Outcome::Valid(found) if found == valid));
    }
    // RFC 8037, appendix A.4.
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let (key, _) = held(jwk, KeyAlgorithm::Ed25519, &[KeyUsage::Sign]);
    let input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = bytes(key.perform(KeyUsage::Sign, operation(input)));
    let expected =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(signature, decode(expected));
}

#[test]
fn oaep_decrypts_what_the_public_half_encrypted_and_nothing_else() {
    let (key, shown) = held(RSA_PKCS8, KeyAlgorithm::RsaOaep256, &[KeyUsage::Decrypt]);
    let public = PublicEncryptingKey::from_der(&shown.spki.unwrap()).unwrap();
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    let mut ciphertext = vec![0; public.ciphertext_size()];
    let algorithm = &aws_lc_rs::rsa::OAEP_SHA256_MGF1SHA256;
    public
        .encrypt(algorithm, b"secret", &mut ciphertext, Some(b"label"))
        .unwrap();
    let mut request = operation(&ciphertext);
    request.label = Some(b"label".to_vec());
    assert_eq!(bytes(key.perform(KeyUsage::Decrypt, request)), b"secret");
    for (data, label) in [
        (&ciphertext[..], &b"other"[..]),
        (&ciphertext[1..], b"label"),
        (b"", b"label"),
    ] {
        let mut request = operation(data);
        request.label = Some(label.to_vec());
        let error = key.perform(KeyUsage::Decrypt, request).err().unwrap();
        // One message, whatever was wrong.
        assert_eq!(
            (error.name.as_str(), error.message.as_str()),
            ("OperationError", "decryption failed")
        );
    }
}

#[test]
fn gcm_opens_what_it_sealed_with_the_same_iv_and_data() {
    let all = [KeyUsage::Encrypt, KeyUsage::Decrypt];
    let (material, shown) = material::read(
        &"0f".repeat(32),
        KeyAlgorithm::A256Gcm,
        Some(KeyEncoding::Hex),
    )
    .unwrap();
    assert_eq!(shown.bits, 256);
    let key = Held {
        material,
        hash: "",
        usages: all.to_vec(),
        domain: Vec::new(),
    };
    let request = |data: &[u8], iv: &[u8], additional: &[u8]| {
        let mut request = operation(data);
        request.iv = Some(iv.to_vec());
        request.additional_data = Some(additional.to_vec());
        request
    };
    let sealed = bytes(key.perform(KeyUsage::Encrypt, request(b"data", &[7; 12], b"about")));
    assert_eq!(sealed.len(), 4 + 16);
    let opened = key.perform(KeyUsage::Decrypt, request(&sealed, &[7; 12], b"about"));
    assert_eq!(bytes(opened), b"data");
    for (data, iv, additional) in [
        (&sealed[..], [8; 12], &b"about"[..]),
        (&sealed[..], [7; 12], b"other"),
        (&sealed[1..], [7; 12], b"about"),
        (b"", [7; 12], b"about"),
    ] {
        let error = key
            .perform(KeyUsage::Decrypt, request(data, &iv, additional))
            .err()
            .unwrap();
        assert_eq!(error.name, "OperationError");
    }
    for iv in [&[7; 11][..], &[7; 13], &[]] {
        let error = key
            .perform(KeyUsage::Encrypt, request(b"data", iv, b""))
            .err()
            .unwrap();
        assert_eq!(error.name, "NotSupportedError");
    }
    let mut short = request(b"data", &[7; 12], b"");
    short.tag_length = Some(32);
    assert_eq!(
        key.perform(KeyUsage::Encrypt, short).err().unwrap().name,
        "NotSupportedError"
    );
}

#[test]
fn parameters_of_another_algorithm_are_refused() {
    let (key, _) = held(RSA_PKCS8, KeyAlgorithm::Ps256, &[KeyUsage::Sign]);
    let mut request = operation(b"data");
    request.salt_length = Some(20);
    assert_eq!(
        key.perform(KeyUsage::Sign, request).err().unwrap().name,
        "NotSupportedError"
    );
    let (key, _) = held(P256_PKCS8, KeyAlgorithm::Es256, &[KeyUsage::Sign]);
    let mut request = operation(b"data");
    request.hash = Some("SHA-384".to_owned());
    assert_eq!(
        key.perform(KeyUsage::Sign, request).err().unwrap().name,
        "NotSupportedError"
    );
}

#[test]
fn usage_that_is_not_granted_is_refused() {
    let (key, _) = held(
        r#"{"kty":"oct","k":"AAAA"}"#,
        KeyAlgorithm::Hs256,
        &[KeyUsage::Verify],
    );
    assert!(key.usage("verify").is_ok());
    for method in ["sign", "encrypt", "exportKey", "constructor", "", "Verify"] {
        assert_eq!(
            key.usage(method).err().unwrap().name,
            "InvalidAccessError",
            "{method}"
        );
    }
}

#[test]
fn domain_is_what_signed_data_begins_with() {
    let (mut key, _) = held(P256_PKCS8, KeyAlgorithm::Es256, &[KeyUsage::Sign]);
    key.domain = b"invoice-v1:".to_vec();
    assert!(key.in_domain(KeyUsage::Sign, b"invoice-v1:7"));
    for data in [&b"invoice-v1"[..], b"", b"Invoice-v1:7", b" invoice-v1:7"] {
        assert!(!key.in_domain(KeyUsage::Sign, data));
    }
}

#[test]
fn text_that_is_no_key_of_the_algorithm_is_refused_without_showing_it() {
    let public = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n";
    for (text, algorithm, encoding, part) in [
        (RSA_PKCS8, KeyAlgorithm::Es256, None, "does not fit"),
        (RSA_PKCS1, KeyAlgorithm::Es256, None, "an RSA key (PKCS#1)"),
        (
            P256_SEC1,
            KeyAlgorithm::Rs256,
            None,
            "an elliptic curve key",
        ),
        (P256_PKCS8, KeyAlgorithm::Es384, None, "does not fit"),
        (P256_SEC1, KeyAlgorithm::Es384, None, "does not fit"),
        (P256_JWK, KeyAlgorithm::Es384, None, "crv P-384"),
        (ED25519_JWK, KeyAlgorithm::Hs256, None, "kty oct"),
        (RSA_PKCS8, KeyAlgorithm::Hs256, None, "a key in PEM"),
        (WEAK, KeyAlgorithm::Rs256, None, "does not fit"),
        (ENCRYPTED, KeyAlgorithm::Rs256, None, "encrypted"),
        (ENCRYPTED_PKCS8, KeyAlgorithm::Es256, None, "encrypted"),
        (public, KeyAlgorithm::Es256, None, "no PRIVATE KEY"),
        (
            "planted-secret",
            KeyAlgorithm::Hs256,
            None,
            "`encoding: text`",
        ),
        (
            "planted-secret",
            KeyAlgorithm::Es256,
            None,
            "neither PEM nor a JWK",
        ),
        (
            "planted-secret",
            KeyAlgorithm::Hs256,
            Some(KeyEncoding::Hex),
            "hexadecimal",
        ),
        (
            "planted secret",
            KeyAlgorithm::Hs256,
            Some(KeyEncoding::Base64),
            "base64",
        ),
        (
            "planted-secret",
            KeyAlgorithm::A128Gcm,
            Some(KeyEncoding::Text),
            "14 bytes, and 16",
        ),
        (
            "{\"kty\": \"planted-secret\"",
            KeyAlgorithm::Es256,
            None,
            "no JWK",
        ),
        (
            "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\",\"d\":\"AA\"}",
            KeyAlgorithm::Es256,
            None,
            "1 bytes",
        ),
        (
            "{\"kty\":\"RSA\",\"n\":\"AA\"}",
            KeyAlgorithm::Rs256,
            None,
            "no member e",
        ),
        (
            "{\"kty\":\"oct\",\"k\":\"\"}",
            KeyAlgorithm::Hs256,
            None,
            "no bytes",
        ),
        ("", KeyAlgorithm::Hs256, Some(KeyEncoding::Text), "no bytes"),
    ] {
        let why = refused(text, algorithm, encoding);
        assert!(why.contains(part), "{}: {why}", algorithm.word());
        assert!(!why.contains("planted"), "{why}");
    }
}

#[test]
fn jwk_whose_halves_do_not_belong_together_is_refused() {
    let swapped = P256_JWK.replace("\"d\"", "\"old\"").replacen(
        '{',
        "{\"d\":\"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI\",",
        1,
    );
    assert!(refused(&swapped, KeyAlgorithm::Es256, None).contains("does not fit"));
    let swapped = ED25519_JWK.replace("\"d\"", "\"old\"").replacen(
        '{',
        "{\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\",",
        1,
    );
    assert!(refused(&swapped, KeyAlgorithm::Ed25519, None).contains("does not fit"));
}
