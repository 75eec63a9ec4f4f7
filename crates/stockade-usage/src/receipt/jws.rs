//! A receipt as a JSON Web Signature (RFC 7515) with Ed25519 (RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::json;
use stockade_audit::{PublicKey, SigningKey};

use super::Statement;

/// Bytes of a signed receipt that are read.
const MAX_RECEIPT: usize = 4 << 20;

/// Bytes of a file with a public key that are read.
const MAX_KEY: usize = 4096;

/// `typ` of the header: what other signatures of the same key cannot be taken for.
const TYPE: &str = "stockade-receipt+jws";

/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    /// Extensions that must be understood (RFC 7515, section 4.1.11): there are none.
    #[serde(default, skip_serializing)]
    crit: Option<serde_json::Value>,
}

/// Why a receipt is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It is not a receipt.
    #[error("it is not a signed receipt: {0}")]
    Form(&'static str),
    /// Another key signed it.
    #[error("it is signed by the key {signed}, and the key to verify with is {wanted}")]
    OtherKey {
        /// What it names.
        signed: String,
        /// What was wanted.
        wanted: String,
    },
    /// The signature does not fit.
    #[error("its signature does not fit: it was changed, or the key did not sign it")]
    Signature,
    /// The signature fits, and this program does not read the contents.
    #[error("its signature fits, and its contents cannot be read: {0}")]
    Contents(String),
}

/// Signs a receipt.
///
/// # Errors
/// When a number of the receipt is not finite.
pub fn sign(receipt: &impl Serialize, key: &SigningKey) -> Result<String, serde_json::Error> {
    let header = Header {
        alg: "EdDSA".to_owned(),
        typ: TYPE.to_owned(),
        kid: key.public().id(),
        crit: None,
    };
    let part = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!(
        "{}.{}",
        part(serde_json::to_vec(&header)?),
        part(serde_json::to_vec(receipt)?)
    );
    let signature = key.sign(signed.as_bytes());
    Ok(format!("{signed}.{}", part(signature)))
}

/// Verifies a signed receipt, and gives what it states.
///
/// # Errors
/// When it is not what the holder of the key signed.
pub fn verify(text: &str, key: &PublicKey) -> Result<Statement, ReceiptError> {
    let text = text.trim();
    if text.len() > MAX_RECEIPT {
        return Err(ReceiptError::Form("it is too large"));
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(ReceiptError::Form(
        "it has no three parts with dots between them",
    ))?;
    let (header, payload) = signed.split_once('.').ok_or(ReceiptError::Form(
        "it has no three parts with dots between them",
    ))?;
    let decode = |part: &str| {
        let decoded = URL_SAFE_NO_PAD.decode(part);
        decoded.map_err(|_| ReceiptError::Form("a part is not base64url"))
    };
    let header: Header = serde_json::from_slice(&decode(header)?)
        .map_err(|_| ReceiptError::Form("its header is not that of a receipt"))?;
    if header.alg != "EdDSA" || header.typ != TYPE || header.crit.is_some() {
        return Err(ReceiptError::Form("its header is not that of a receipt"));
    }
    if header.kid != key.id() {
        return Err(ReceiptError::OtherKey {
            signed: header.kid.chars().take(64).collect(),
            wanted: key.id(),
        });
    }
    if !key.has_signed(signed.as_bytes(), &decode(signature)?) {
        return Err(ReceiptError::Signature);
    }
    serde_json::from_slice(&decode(payload)?)
        .map_err(|error| ReceiptError::Contents(error.to_string()))
}

/// A public key as a JSON Web Key (RFC 8037, section 2).
#[must_use]
pub fn jwk(key: &PublicKey) -> String {
    let x = URL_SAFE_NO_PAD.encode(key.as_bytes());
    json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.id(), "alg": "EdDSA", "use": "sig" })
        .to_string()
}

/// A public key as PEM.
#[must_use]
pub fn pem(key: &PublicKey) -> String {
    let der = [&SPKI[..], key.as_bytes()].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
        STANDARD.encode(der)
    )
}

/// Reads a public key in any of its forms: 64 hexadecimal digits, a JSON Web Key, or PEM.
#[must_use]
pub fn public_key(text: &str) -> Option<PublicKey> {
    #[derive(Deserialize)]
    struct Jwk {
        kty: String,
        crv: String,
        x: String,
    }
    let text = text.trim();
    if text.len() > MAX_KEY {
        return None;
    }
    if let Some(inside) = text.strip_prefix("-----BEGIN PUBLIC KEY-----") {
        let (inside, _) = inside.split_once("-----END PUBLIC KEY-----")?;
        let base64: String = inside.split_whitespace().collect();
        let der = STANDARD.decode(base64).ok()?;
        return PublicKey::from_bytes(der.strip_prefix(&SPKI[..])?);
    }
    if text.starts_with('{') {
        let jwk: Jwk = serde_json::from_str(text).ok()?;
        let of_ed25519 = jwk.kty == "OKP" && jwk.crv == "Ed25519";
        let bytes = URL_SAFE_NO_PAD.decode(jwk.x).ok().filter(|_| of_ed25519)?;
        return PublicKey::from_bytes(&bytes);
    }
    PublicKey::parse(text)
}

#[cfg(test)]
mod tests {
    use super::super::tests::receipt;
    use super::*;

    fn key() -> (tempfile::TempDir, SigningKey) {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::open(&folder.path().join("receipt.key")).unwrap();
        (folder, key)
    }

    #[test]
    fn receipt_is_verified_and_every_changed_character_is_found() {
        let (_folder, key) = key();
        let public = key.public();
        let text = sign(&receipt(), &key).unwrap();
        assert_eq!(verify(&format!("{text}\n"), &public), Ok(receipt().into()));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(
                changed == text || verify(&changed, &public).is_err(),
                "character {at}"
            );
        }
        assert_eq!(
            verify(&text, &super::tests::key().1.public())
                .unwrap_err()
                .to_string()
                .split(',')
                .next(),
            Some(format!("it is signed by the key {}", public.id()).as_str())
        );
    }

    #[test]
    fn every_changed_field_is_found() {
        let (_folder, key) = key();
        let text = sign(&receipt(), &key).unwrap();
        let parts: Vec<&str> = text.split('.').collect();
        let whole = serde_json::to_value(receipt()).unwrap();
        let mut changes = 0;
        for (name, _) in whole.as_object().unwrap() {
            let mut changed = whole.clone();
            changed[name] = "changed".into();
            let payload = URL_SAFE_NO_PAD.encode(changed.to_string());
            let forged = format!("{}.{payload}.{}", parts[0], parts[2]);
            assert_eq!(
                verify(&forged, &key.public()),
                Err(ReceiptError::Signature),
                "{name}"
            );
            changes += 1;
        }
        assert!(changes >= 11);
    }

    #[test]
    fn receipt_of_a_request_in_an_older_version_is_verified_without_what_it_does_not_state() {
        let (_folder, key) = key();
        let receipt = receipt();
        let mut usage = json!({ "cpu_ms": 1.5, "elapsed_ms": 2.0, "sent_bytes": 3 });
        let mut stated = json!({
            "version": 1, "jti": "00", "command": "serve", "instance": "shop",
            "code": receipt.code, "policy": receipt.policy, "runtime": receipt.runtime,
            "request": { "id": "a", "method": "GET", "url_sha256": "b" },
            "started": receipt.started, "ended": receipt.ended, "usage": usage, "refused": 4,
            "result": { "status": 200, "complete": true },
        });
        let verified = |stated: &serde_json::Value| {
            let text = sign(stated, &key).unwrap();
            let of_request = match verify(&text, &key.public()).unwrap() {
                Statement::Request(receipt) => Some(receipt),
                Statement::Run(_) => None,
            };
            of_request.unwrap()
        };
        let first = verified(&stated);
        assert_eq!((first.refused, first.refused_grants), (4, None));
        assert_eq!(
            (first.usage.received_bytes, first.usage.egress),
            (None, None)
        );
        // What is verified is passed on as it was.
        assert_eq!(serde_json::to_value(&first).unwrap(), stated);
        for (name, value) in [
            ("received_bytes", 5),
            ("egress_requests", 6),
            ("egress_sent_bytes", 7),
            ("egress_received_bytes", 8),
        ] {
            usage[name] = value.into();
        }
        (stated["version"], stated["usage"], stated["refused_grants"]) =
            (2.into(), usage, 9.into());
        let second = verified(&stated);
        let egress = second.usage.egress.unwrap();
        assert_eq!(
            (egress.egress_requests, egress.egress_received_bytes),
            (6, 8)
        );
        assert_eq!(
            (second.usage.received_bytes, second.refused_grants),
            (Some(5), Some(9))
        );
        assert_eq!(serde_json::to_value(&second).unwrap(), stated);
    }

    #[test]
    fn other_algorithms_types_and_forms_are_refused() {
        let (_folder, key) = key();
        let text = sign(&receipt(), &key).unwrap();
        let (_, rest) = text.split_once('.').unwrap();
        for header in [
            r#"{"alg":"none","typ":"stockade-receipt+jws","kid":"KID"}"#,
            r#"{"alg":"HS256","typ":"stockade-receipt+jws","kid":"KID"}"#,
            r#"{"alg":"EdDSA","typ":"JWT","kid":"KID"}"#,
            r#"{"alg":"EdDSA","typ":"stockade-receipt+jws","kid":"KID","crit":["b64"],"b64":false}"#,
            r#"{}"#,
            r#"[]"#,
        ] {
            let header = header.replace("KID", &key.public().id());
            // Even if the key signs it.
            let payload = rest.split_once('.').unwrap().0;
            let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(&header));
            let forged = format!(
                "{signed}.{}",
                URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()))
            );
            assert!(
                matches!(verify(&forged, &key.public()), Err(ReceiptError::Form(_))),
                "{header}"
            );
        }
        for text in ["", ".", "..", "a.b", "é.é.é", "a.b.c.d"] {
            assert!(
                matches!(verify(text, &key.public()), Err(ReceiptError::Form(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn public_key_is_read_in_every_form() {
        let (folder, key) = key();
        let public = key.public();
        for text in [jwk(&public), pem(&public), public.to_hex()] {
            assert_eq!(public_key(&text).as_ref(), Some(&public), "{text}");
        }
        // What OpenSSL makes of the private half is the same, where there is an OpenSSL that reads it.
        let made = std::process::Command::new("openssl")
            .args(["pkey", "-inform", "DER", "-pubout", "-in"])
            .arg(folder.path().join("receipt.key"))
            .output();
        if let Ok(made) = made
            && made.status.success()
        {
            let text = String::from_utf8(made.stdout).unwrap();
            assert_eq!(public_key(&text), Some(public));
        }
        for text in [
            "",
            "00",
            "{}",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        ] {
            assert_eq!(public_key(text), None, "{text}");
        }
    }

    #[test]
    fn receipt_of_a_request_is_read_as_one() {
        let (_folder, key) = key();
        let run = receipt();
        let request = crate::receipt::RequestReceipt {
            version: run.version,
            jti: run.jti,
            command: "serve".to_owned(),
            instance: "shop".to_owned(),
            code: super::super::Code {
                modules: Default::default(),
                ..run.code
            },
            policy: run.policy,
            runtime: run.runtime,
            request: crate::receipt::Asked {
                id: "1".to_owned(),
                method: "GET".to_owned(),
                url_sha256: String::new(),
            },
            started: run.started,
            ended: run.ended,
            usage: crate::receipt::RequestUse {
                cpu_ms: 0.5,
                elapsed_ms: 1.0,
                sent_bytes: 5,
                received_bytes: Some(6),
                egress: None,
            },
            refused: 1,
            refused_grants: Some(2),
            result: crate::receipt::Answered {
                status: 200,
                complete: true,
            },
        };
        let text = sign(&request, &key).unwrap();
        assert_eq!(verify(&text, &key.public()), Ok(request.into()));
    }
}
