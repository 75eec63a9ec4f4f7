use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use serde_json::json;

use super::*;

const NOW: u64 = 1_796_000_000;

/// An issuer with a key of each kind.
struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn set(&self) -> Value {
        let rsa = self.rsa.public_key();
        let point = self.p256.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256",
             "n": b64(rsa.modulus().big_endian_without_leading_zero()),
             "e": b64(rsa.exponent().big_endian_without_leading_zero())},
            {"kty": "EC", "kid": "p256", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(self.ed.public_key())},
            {"kty": "RSA", "kid": "encrypts", "use": "enc", "n": "AQAB", "e": "AQAB"},
        ]})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match header["alg"].as_str() {
            Some("ES256") => self
                .p256
                .sign(&random, message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Some("EdDSA") => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
            _ => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa
                    .sign(
                        &RSA_PKCS1_SHA256,
                        &random,
                        message.as_bytes(),
                        &mut signature,
                    )
                    .unwrap();
                signature
            }
        };
        format!("{message}.{}", b64(signature))
    }
}

fn options() -> JwtOptions {
    JwtOptions {
        algorithms: vec![
            JwtAlgorithm::Rs256,
            JwtAlgorithm::Es256,
            JwtAlgorithm::EdDsa,
        ],
        issuers: vec!["https://id.example".to_owned()],
        audiences: vec!["shop".to_owned()],
        leeway: Duration::from_secs(60),
        claims: vec![(
            "role".to_owned(),
            vec!["admin".to_owned(), "staff".to_owned()],
        )],
    }
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "shop", "sub": "u1", "role": ["staff"], "exp": NOW + 600})
}

fn check(verifier: &JwtVerifier, token: &str) -> Result<Token, TokenError> {
    verifier.check(
        token.as_bytes(),
        std::time::UNIX_EPOCH + Duration::from_secs(NOW),
    )
}

fn verifier(issuer: &Issuer) -> JwtVerifier {
    JwtVerifier::parse(issuer.set().to_string().as_bytes(), options()).unwrap()
}

#[test]
fn token_of_each_kind_of_key_is_accepted_and_no_changed_one() {
    let issuer = Issuer::new();
    let verifier = verifier(&issuer);
    for (alg, kid) in [("RS256", "rsa"), ("ES256", "p256"), ("EdDSA", "ed")] {
        let token = issuer.sign(&json!({"alg": alg, "kid": kid, "typ": "at+jwt"}), &claims());
        let known = check(&verifier, &token).unwrap();
        let json: Value = serde_json::from_str(&known.to_json()).unwrap();
        assert_eq!(json["subject"], "u1");
        assert_eq!(json["claims"], claims());
        assert_eq!(known.claim("sub").as_deref(), Some("\"u1\""));
        // Without a kid, the one key that fits.
        assert!(check(&verifier, &issuer.sign(&json!({"alg": alg}), &claims())).is_ok());
        let other = Issuer::new().sign(&json!({"alg": alg, "kid": kid}), &claims());
        assert_eq!(check(&verifier, &other).unwrap_err(), TokenError::Signature);
        // Another payload under the same signature.
        let mut parts: Vec<&str> = token.split('.').collect();
        let mut changed = claims();
        changed["sub"] = json!("root");
        let changed = b64(changed.to_string());
        parts[1] = &changed;
        assert_eq!(
            check(&verifier, &parts.join(".")).unwrap_err(),
            TokenError::Signature
        );
    }
}

#[test]
fn algorithm_is_never_what_the_token_would_like() {
    let issuer = Issuer::new();
    let verifier = verifier(&issuer);
    let message =
        |header: Value| format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
    for alg in [
        "none", "None", "NONE", "", "HS256", "HS384", "RS384", "PS256", "ES384", "ES256K", "rs256",
    ] {
        let token = format!("{}.", message(json!({"alg": alg, "kid": "rsa"})));
        assert_eq!(
            check(&verifier, &token).unwrap_err(),
            TokenError::Algorithm,
            "{alg}"
        );
    }
    // The public key as a secret of HMAC, in the forms in which it is known.
    let set = issuer.set();
    for secret in [
        set.to_string(),
        set["keys"][0].to_string(),
        set["keys"][0]["n"].to_string(),
    ] {
        let signed = message(json!({"alg": "HS256", "kid": "rsa"}));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let token = format!("{signed}.{}", b64(hmac::sign(&key, signed.as_bytes())));
        assert_eq!(check(&verifier, &token).unwrap_err(), TokenError::Algorithm);
    }
    // An algorithm that is accepted, with a key of another kind.
    let token = issuer.sign(&json!({"alg": "ES256", "kid": "rsa"}), &claims());
    assert_eq!(check(&verifier, &token).unwrap_err(), TokenError::Key);
}

#[test]
fn header_decides_which_key_and_nothing_else() {
    let (issuer, attacker) = (Issuer::new(), Issuer::new());
    let verifier = verifier(&issuer);
    let own = &attacker.set()["keys"][1];
    for header in [
        json!({"alg": "ES256", "kid": "p256", "jwk": own}),
        json!({"alg": "ES256", "jwk": own, "jku": "http://127.0.0.1/keys", "x5u": "file:///etc/passwd"}),
    ] {
        let token = attacker.sign(&header, &claims());
        assert_eq!(check(&verifier, &token).unwrap_err(), TokenError::Signature);
    }
    for kid in [
        "",
        "other",
        "../rsa",
        "p256\u{0}",
        "' OR 1=1 --",
        "encrypts",
        &"x".repeat(5000),
    ] {
        let token = issuer.sign(&json!({"alg": "ES256", "kid": kid}), &claims());
        let error = check(&verifier, &token).unwrap_err();
        assert!(matches!(error, TokenError::Key | TokenError::Form), "{kid}");
    }
    for header in [
        json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
        json!({"alg": "ES256", "crit": []}),
        json!({"alg": "ES256", "typ": "logout+jwt"}),
        json!({"alg": ["ES256"]}),
        json!({"alg": "ES256", "kid": 1}),
        json!({"kid": "p256"}),
    ] {
        let token = issuer.sign(&header, &claims());
        let error = check(&verifier, &token).unwrap_err();
        assert!(
            matches!(error, TokenError::Form | TokenError::Key),
            "{header}"
        );
    }
    // The same member twice: two readers could see another algorithm each.
    let twice = b64(r#"{"alg":"none","alg":"ES256"}"#);
    let token = issuer.sign(&json!({"alg": "ES256"}), &claims());
    let token = format!("{twice}{}", &token[token.find('.').unwrap()..]);
    assert_eq!(check(&verifier, &token).unwrap_err(), TokenError::Form);
}

#[test]
fn claims_are_held_against_the_options() {
    let issuer = Issuer::new();
    let verifier = verifier(&issuer);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.to_owned(), value),
        };
        check(&verifier, &issuer.sign(&json!({"alg": "ES256"}), &claims)).map(|_| ())
    };
    for (name, value, expected) in [
        ("exp", json!(NOW - 59), Ok(())),
        ("exp", json!(NOW - 60), Err(TokenError::Expired)),
        ("exp", json!(0), Err(TokenError::Expired)),
        ("exp", Value::Null, Err(TokenError::Expired)),
        ("exp", json!((NOW + 5) as f64 + 0.5), Ok(())),
        ("exp", json!("9999999999"), Err(TokenError::Form)),
        ("exp", json!(-1), Err(TokenError::Form)),
        ("exp", json!(1e300), Err(TokenError::Form)),
        ("nbf", json!(NOW + 60), Ok(())),
        ("nbf", json!(NOW + 61), Err(TokenError::Early)),
        ("nbf", json!("x"), Err(TokenError::Form)),
        (
            "iss",
            json!("https://id.example.evil"),
            Err(TokenError::Claim),
        ),
        ("iss", json!("https://id.example/"), Err(TokenError::Claim)),
        ("iss", Value::Null, Err(TokenError::Claim)),
        ("aud", json!(["blog", "shop"]), Ok(())),
        ("aud", json!(["shopping"]), Err(TokenError::Claim)),
        ("aud", json!({"shop": 1}), Err(TokenError::Claim)),
        ("aud", json!([]), Err(TokenError::Claim)),
        ("role", json!("admin"), Ok(())),
        ("role", json!("guest"), Err(TokenError::Claim)),
        ("role", json!("admin staff"), Err(TokenError::Claim)),
        ("role", Value::Null, Err(TokenError::Claim)),
        ("note", json!("a\u{0}b"), Err(TokenError::Form)),
    ] {
        assert_eq!(with(name, value.clone()), expected, "{name}: {value}");
    }
}

#[test]
fn text_that_is_no_token_is_refused_and_a_huge_one_at_once() {
    let issuer = Issuer::new();
    let verifier = verifier(&issuer);
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        "....",
        "eyJ.eyJ.x",
        "é.é.é",
        "sk_stockade_x",
    ] {
        assert_eq!(
            check(&verifier, text).unwrap_err(),
            TokenError::Form,
            "{text}"
        );
    }
    let huge = format!("{}.{}.", b64("{\"alg\":\"ES256\"}"), "A".repeat(10 << 20));
    assert_eq!(check(&verifier, &huge).unwrap_err(), TokenError::Long);
    let token = issuer.sign(&json!({"alg": "ES256"}), &claims());
    for changed in [
        format!("{token}="),
        format!("{token}."),
        format!(" {token}"),
        token.replace('.', ". "),
    ] {
        assert!(check(&verifier, &changed).is_err(), "{changed}");
    }
    let deep = format!("{}1{}", "[".repeat(3000), "]".repeat(3000));
    let nested = format!(
        "{}.{}.x",
        b64("{\"alg\":\"ES256\"}"),
        b64(format!("{{\"exp\":{deep}}}"))
    );
    assert!(check(&verifier, &nested).is_err());
}

#[test]
fn set_of_keys_has_no_secret_and_no_weak_key() {
    let parse = |set: Value| JwtVerifier::parse(set.to_string().as_bytes(), options());
    let issuer = Issuer::new();
    let good = issuer.set()["keys"].clone();
    let weak = rsa::KeySize::Rsa2048.len() / 2;
    for (key, why) in [
        (json!({"kty": "oct", "k": "AAAA"}), "secret"),
        (
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"}),
            "secret",
        ),
        (
            json!({"kty": "RSA", "n": b64(vec![255; weak]), "e": "AQAB"}),
            "2048 bits",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            "another length",
        ),
        (json!({"kty": "RSA", "e": "AQAB"}), "no n"),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": "=="}),
            "base64url",
        ),
    ] {
        let error = parse(json!({"keys": [good[0], key]})).unwrap_err();
        assert!(error.contains("keys[1]") && error.contains(why), "{error}");
    }
    for set in [
        json!([]),
        json!({}),
        json!({"keys": []}),
        json!({"keys": [good[3]]}),
        json!({"keys": vec![good[0].clone(); 101]}),
    ] {
        assert!(parse(set).is_err());
    }
    // Two keys of one name, and none that is named: nobody guesses which is meant.
    let twice = parse(json!({"keys": [good[1], good[1]]})).unwrap();
    let token = issuer.sign(&json!({"alg": "ES256", "kid": "p256"}), &claims());
    assert_eq!(check(&twice, &token).unwrap_err(), TokenError::Key);
}

#[tokio::test]
async fn keys_that_are_replaced_decide_at_once_and_a_set_that_cannot_be_read_replaces_none() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let keys = Arc::new(JwtKeys::default());
    let verifier = JwtVerifier::new(Arc::clone(&keys), options());
    let header = json!({"alg": "ES256", "kid": "p256"});
    let (of_old, of_new) = (old.sign(&header, &claims()), new.sign(&header, &claims()));
    // Without keys nothing is accepted, and the key is asked for.
    assert_eq!(check(&verifier, &of_old).unwrap_err(), TokenError::Key);
    keys.wanted().await;
    assert_eq!(keys.replace(old.set().to_string().as_bytes()), Ok(3));
    assert!(check(&verifier, &of_old).is_ok());
    let secret = json!({"keys": [{"kty": "oct", "k": "AAAA"}]}).to_string();
    let large = vec![b' '; 1 << 21];
    for text in [&b""[..], b"{}", b"<html>", secret.as_bytes(), &large] {
        assert!(keys.replace(text).is_err());
        assert!(check(&verifier, &of_old).is_ok());
    }
    // What a file of private keys holds is in no message.
    let why = keys.replace(br#"{"keys": "hunter2"}"#).unwrap_err();
    assert_eq!(
        why,
        "invalid type: string, expected a sequence at line 1 column 18"
    );
    // The issuer takes back its last key.
    assert_eq!(keys.replace(b"{\"keys\":[]}"), Ok(0));
    assert_eq!(check(&verifier, &of_old).unwrap_err(), TokenError::Key);
    keys.wanted().await;
    keys.replace(new.set().to_string().as_bytes()).unwrap();
    assert!(check(&verifier, &of_new).is_ok());
    // The id is known, so nothing is asked for.
    assert_eq!(
        check(&verifier, &of_old).unwrap_err(),
        TokenError::Signature
    );
    let wanted = tokio::time::timeout(Duration::from_millis(1), keys.wanted());
    assert!(wanted.await.is_err());
}
