//! A key as the operator wrote it down: PEM, JWK, or the bytes of a shared secret.
//!
//! | algorithm | PEM | JWK `kty` | bytes in an `encoding` |
//! |---|---|---|---|
//! | `RS…`, `PS…`, `RSA-OAEP…` | `PRIVATE KEY` (PKCS#8), `RSA PRIVATE KEY` (PKCS#1) | `RSA` | no |
//! | `ES256`, `ES384` | `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` (SEC 1) | `EC` | no |
//! | `Ed25519` | `PRIVATE KEY` (PKCS#8) | `OKP` | no |
//! | `HS…`, `A…GCM` | no | `oct` | yes |
//!
//! Invariant: an error names what is wrong with a key and shows nothing of it.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Algorithm, LessSafeKey, UnboundKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{
    KeyPair as RsaKeyPair, KeyPairComponents, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256,
    OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512, OaepAlgorithm, OaepPrivateDecryptingKey,
    PrivateDecryptingKey, PublicKeyComponents,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use stockade_config::{KeyAlgorithm, KeyEncoding};

/// A key that is ready to be used.
pub(super) enum Material {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Oaep(OaepPrivateDecryptingKey, &'static OaepAlgorithm),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(Box<hmac::Key>),
    Gcm(Box<LessSafeKey>),
}

/// What may be known of a key.
pub(super) struct Shown {
    /// `SubjectPublicKeyInfo` in DER, of a key that has a public half.
    pub(super) spki: Option<Vec<u8>>,
    /// Bits of a key without one.
    pub(super) bits: usize,
}

/// A JSON Web Key, RFC 7517 and 7518. Members that say what it may be used for are left to the grant.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<String>,
    p: Option<String>,
    q: Option<String>,
    dp: Option<String>,
    dq: Option<String>,
    qi: Option<String>,
    k: Option<String>,
}

/// The forms of a private key.
enum Form<'a> {
    Pem(PrivateKeyDer<'static>),
    Jwk(Box<Jwk>),
    /// Neither: the bytes of a shared secret, in the encoding that the grant names.
    Text(&'a str),
}

/// Reads a key.
///
/// # Errors
/// Why the text is not a key of this algorithm.
pub(super) fn read(
    text: &str,
    algorithm: KeyAlgorithm,
    encoding: Option<KeyEncoding>,
) -> Result<(Material, Shown), String> {
    let form = form(text, encoding)?;
    match algorithm {
        KeyAlgorithm::Rs256 => rsa(form, &RSA_PKCS1_SHA256),
        KeyAlgorithm::Rs384 => rsa(form, &RSA_PKCS1_SHA384),
        KeyAlgorithm::Rs512 => rsa(form, &RSA_PKCS1_SHA512),
        KeyAlgorithm::Ps256 => rsa(form, &RSA_PSS_SHA256),
        KeyAlgorithm::Ps384 => rsa(form, &RSA_PSS_SHA384),
        KeyAlgorithm::Ps512 => rsa(form, &RSA_PSS_SHA512),
        KeyAlgorithm::RsaOaep => oaep(form, &OAEP_SHA1_MGF1SHA1),
        KeyAlgorithm::RsaOaep256 => oaep(form, &OAEP_SHA256_MGF1SHA256),
        KeyAlgorithm::RsaOaep384 => oaep(form, &OAEP_SHA384_MGF1SHA384),
        KeyAlgorithm::RsaOaep512 => oaep(form, &OAEP_SHA512_MGF1SHA512),
        KeyAlgorithm::Es256 => ecdsa(form, &ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32),
        KeyAlgorithm::Es384 => ecdsa(form, &ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48),
        KeyAlgorithm::Ed25519 => ed25519(form),
        KeyAlgorithm::Hs256 => hmac_key(form, encoding, hmac::HMAC_SHA256),
        KeyAlgorithm::Hs384 => hmac_key(form, encoding, hmac::HMAC_SHA384),
        KeyAlgorithm::Hs512 => hmac_key(form, encoding, hmac::HMAC_SHA512),
        KeyAlgorithm::A128Gcm => gcm(form, encoding, &AES_128_GCM),
        KeyAlgorithm::A192Gcm => gcm(form, encoding, &AES_192_GCM),
        KeyAlgorithm::A256Gcm => gcm(form, encoding, &AES_256_GCM),
    }
}

fn form(text: &str, encoding: Option<KeyEncoding>) -> Result<Form<'_>, String> {
    let start = text.trim_start();
    if encoding.is_some() {
        return Ok(Form::Text(text));
    }
    if start.starts_with('{') {
        // The message of the parser may quote a part of the key.
        let jwk = serde_json::from_str(start)
            .map_err(|_| "the JSON is no JWK (RFC 7517): texts kty, k or d and their like")?;
        return Ok(Form::Jwk(Box::new(jwk)));
    }
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
    {
        return Err(
            "the PEM is encrypted: `openssl pkey -in FILE -out FILE2` decrypts it".to_owned(),
        );
    }
    if text.contains("-----BEGIN ") {
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
            "the PEM has no PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY section that can be read"
        })?;
        return Ok(Form::Pem(key));
    }
    Ok(Form::Text(text))
}

fn rsa(form: Form<'_>, encoding: &'static dyn RsaEncoding) -> Result<(Material, Shown), String> {
    let pair = rsa_pair(form)?;
    let shown = public(pair.public_key())?;
    Ok((Material::Rsa(pair, encoding), shown))
}

fn oaep(form: Form<'_>, algorithm: &'static OaepAlgorithm) -> Result<(Material, Shown), String> {
    let pair = rsa_pair(form)?;
    let shown = public(pair.public_key())?;
    let broken = |_| "the RSA key cannot be used for RSA-OAEP".to_owned();
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(broken)?;
    let key = PrivateDecryptingKey::from_pkcs8(der.as_ref()).map_err(|error| rejected(&error))?;
    let key = OaepPrivateDecryptingKey::new(key).map_err(broken)?;
    Ok((Material::Oaep(key, algorithm), shown))
}

fn rsa_pair(form: Form<'_>) -> Result<RsaKeyPair, String> {
    let pair = match form {
        Form::Pem(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        Form::Pem(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        Form::Jwk(jwk) if jwk.kty == "RSA" => RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents {
                n: member(&jwk.n, "n")?,
                e: member(&jwk.e, "e")?,
            },
            d: member(&jwk.d, "d")?,
            p: member(&jwk.p, "p")?,
            q: member(&jwk.q, "q")?,
            dP: member(&jwk.dp, "dp")?,
            dQ: member(&jwk.dq, "dq")?,
            qInv: member(&jwk.qi, "qi")?,
        }),
        other => {
            return Err(unfit(
                &other,
                "an RSA private key: PKCS#8 or PKCS#1 in PEM, or a JWK of kty RSA",
            ));
        }
    };
    pair.map_err(|error| rejected(&error))
}

fn ecdsa(
    form: Form<'_>,
    algorithm: &'static EcdsaSigningAlgorithm,
    curve: &str,
    coordinate: usize,
) -> Result<(Material, Shown), String> {
    let pair = match form {
        Form::Pem(PrivateKeyDer::Pkcs8(der)) => {
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der())
        }
        Form::Pem(PrivateKeyDer::Sec1(der)) => {
            EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der())
        }
        Form::Jwk(jwk) if jwk.kty == "EC" && jwk.crv.as_deref() == Some(curve) => {
            // An uncompressed point, SEC 1 section 2.3.3.
            let mut point = vec![4];
            for (value, name) in [(&jwk.x, "x"), (&jwk.y, "y")] {
                let bytes = member(value, name)?;
                if bytes.len() != coordinate {
                    return Err(format!(
                        "member {name} of the JWK has {} bytes, not {coordinate}",
                        bytes.len()
                    ));
                }
                point.extend_from_slice(&bytes);
            }
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, &member(&jwk.d, "d")?, &point)
        }
        other => {
            let what = format!(
                "a private key on {curve}: PKCS#8 or SEC 1 in PEM, or a JWK of kty EC and crv {curve}"
            );
            return Err(unfit(&other, &what));
        }
    };
    let pair = pair.map_err(|error| rejected(&error))?;
    let shown = public(pair.public_key())?;
    Ok((Material::Ecdsa(pair), shown))
}

fn ed25519(form: Form<'_>) -> Result<(Material, Shown), String> {
    let pair = match form {
        Form::Pem(PrivateKeyDer::Pkcs8(der)) => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
        }
        Form::Jwk(jwk) if jwk.kty == "OKP" && jwk.crv.as_deref() == Some("Ed25519") => {
            Ed25519KeyPair::from_seed_and_public_key(&member(&jwk.d, "d")?, &member(&jwk.x, "x")?)
        }
        other => {
            return Err(unfit(
                &other,
                "an Ed25519 private key: PKCS#8 in PEM, or a JWK of kty OKP and crv Ed25519",
            ));
        }
    };
    let pair = pair.map_err(|error| rejected(&error))?;
    let shown = public(pair.public_key())?;
    Ok((Material::Ed25519(pair), shown))
}

fn hmac_key(
    form: Form<'_>,
    encoding: Option<KeyEncoding>,
    algorithm: hmac::Algorithm,
) -> Result<(Material, Shown), String> {
    let bytes = secret_bytes(form, encoding)?;
    let shown = Shown {
        spki: None,
        bits: bytes.len() * 8,
    };
    Ok((
        Material::Hmac(Box::new(hmac::Key::new(algorithm, &bytes))),
        shown,
    ))
}

fn gcm(
    form: Form<'_>,
    encoding: Option<KeyEncoding>,
    algorithm: &'static Algorithm,
) -> Result<(Material, Shown), String> {
    let bytes = secret_bytes(form, encoding)?;
    let key = UnboundKey::new(algorithm, &bytes).map_err(|_| {
        format!(
            "the key has {} bytes, and {} are needed",
            bytes.len(),
            algorithm.key_len()
        )
    })?;
    let shown = Shown {
        spki: None,
        bits: bytes.len() * 8,
    };
    Ok((Material::Gcm(Box::new(LessSafeKey::new(key))), shown))
}

fn secret_bytes(form: Form<'_>, encoding: Option<KeyEncoding>) -> Result<Vec<u8>, String> {
    let bytes = match (form, encoding) {
        (Form::Jwk(jwk), _) if jwk.kty == "oct" => member(&jwk.k, "k")?,
        (Form::Text(text), Some(KeyEncoding::Text)) => text.as_bytes().to_vec(),
        (Form::Text(text), Some(KeyEncoding::Base64)) => {
            // Both alphabets, with and without padding.
            let text = text
                .trim()
                .trim_end_matches('=')
                .replace('+', "-")
                .replace('/', "_");
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| "the secret is not base64")?
        }
        (Form::Text(text), Some(KeyEncoding::Hex)) => {
            hex(text.trim()).ok_or("the secret is not an even number of hexadecimal digits")?
        }
        (Form::Text(_), None) => {
            return Err(
                "the secret is no JWK: `encoding: text`, `base64` or `hex` says what its bytes are"
                    .to_owned(),
            );
        }
        (other, _) => {
            return Err(unfit(
                &other,
                "a shared secret: a JWK of kty oct, or text with an `encoding`",
            ));
        }
    };
    if bytes.is_empty() {
        return Err("the secret has no bytes".to_owned());
    }
    Ok(bytes)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn member(value: &Option<String>, name: &str) -> Result<Vec<u8>, String> {
    let text = value
        .as_deref()
        .ok_or_else(|| format!("the JWK has no member {name}"))?;
    URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| format!("member {name} of the JWK is not base64url"))
}

fn public(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<Shown, String> {
    let der = key
        .as_der()
        .map_err(|_| "the public half of the key cannot be written".to_owned())?;
    Ok(Shown {
        spki: Some(der.as_ref().to_vec()),
        bits: 0,
    })
}

fn unfit(form: &Form<'_>, needed: &str) -> String {
    let what = match form {
        Form::Pem(PrivateKeyDer::Pkcs1(_)) => "an RSA key (PKCS#1)",
        Form::Pem(PrivateKeyDer::Sec1(_)) => "an elliptic curve key (SEC 1)",
        Form::Pem(_) => "a key in PEM",
        Form::Jwk(_) => "a JWK of another kind",
        Form::Text(_) => "neither PEM nor a JWK",
    };
    format!("the text is {what}, and the algorithm needs {needed}")
}

/// The library says what kind of fault a key has, and nothing of the key.
fn rejected(error: &KeyRejected) -> String {
    format!(
        "the key does not fit the algorithm: {}",
        error.description_()
    )
}

/// The bytes of public facts, as the guest's script reads them.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
