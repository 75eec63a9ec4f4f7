//! JSON Web Tokens (RFC 7519), signed (RFC 7515) by a key of a set that the operator has (RFC 7517).
//!
//! Invariants:
//! 1. The algorithm is one that the options name, and one of the kind of the key. There are only algorithms with
//!    public keys, so that a public key is never taken for a secret, and `none` is not among them.
//! 2. A header decides only which key of the set is used: keys or addresses of keys in a token (`jwk`, `jku`, `x5c`,
//!    `x5u`) have no effect, and a token with `crit` is refused.
//! 3. A token without `exp` is refused.
//! 4. What a check costs is bounded: the length of a token, the number of keys, one signature for each token.
//! 5. A set that cannot be read replaces no other: the keys before it stay in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{
    self, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::{Map, Value};
use stockade_limits::without_value;
use tokio::sync::Notify;

use crate::store::seconds;

/// Bytes of a token.
pub const MAX_TOKEN: usize = 8192;

/// Bytes of a set of keys.
pub const MAX_JWKS: u64 = 1 << 20;

/// Keys of a set.
const MAX_KEYS: usize = 100;

/// An algorithm of a signature (RFC 7518, section 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// The same with SHA-384.
    Rs384,
    /// The same with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// The same with SHA-384.
    Ps384,
    /// The same with SHA-512.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    /// Reads the name that `alg` has.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, algorithm)| *algorithm)
    }

    fn kind(self) -> KeyKind {
        match self {
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
            Self::EdDsa => KeyKind::Ed25519,
            _ => KeyKind::Rsa,
        }
    }
}

/// What tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtOptions {
    /// Algorithms of their signatures.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Their issuers, of which one must be `iss`; none: any.
    pub issuers: Vec<String>,
    /// Their audiences, of which one must be in `aud`; none: any.
    pub audiences: Vec<String>,
    /// How far the clocks of the server and of the issuer may differ.
    pub leeway: Duration,
    /// Claims that must have, or be a list with, one of these values.
    pub claims: Vec<(String, Vec<String>)>,
}

/// The public keys of issuers. They may be replaced while verifiers use them.
#[derive(Debug, Default)]
pub struct JwtKeys {
    keys: RwLock<Arc<[Jwk]>>,
    /// A token named a key that is not in the set.
    wanted: Notify,
}

/// The public keys of issuers, and what is accepted of what they sign.
#[derive(Debug)]
pub struct JwtVerifier {
    options: JwtOptions,
    keys: Arc<JwtKeys>,
}

/// A token that was found valid.
#[derive(Debug, Clone)]
pub struct Token {
    claims: Map<String, Value>,
    /// When it ends, in seconds since 1970, the leeway included.
    expires: u64,
}

/// Why a token is not accepted. A client does not learn which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN`].
    #[error("it is too long")]
    Long,
    /// Not three parts of base64url and JSON.
    #[error("it has not the form of a signed token")]
    Form,
    /// An algorithm that is not accepted, or not that of the key.
    #[error("its algorithm is not accepted")]
    Algorithm,
    /// No key, or more than one, could have signed it.
    #[error("there is no key for it")]
    Key,
    /// The signature is not that of the key.
    #[error("its signature is wrong")]
    Signature,
    /// It ended, or has no end.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it is not valid yet")]
    Early,
    /// Another issuer, audience or claim than is asked for.
    #[error("a claim of it is not accepted")]
    Claim,
}

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a set of public keys.
    #[error("{path} is not a set of public keys (RFC 7517): {why}")]
    Form {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

#[derive(Debug)]
struct Jwk {
    id: Option<String>,
    algorithm: Option<JwtAlgorithm>,
    kind: KeyKind,
    /// RSA: the modulus. Curves: the point, not compressed. Ed25519: the key.
    public: Vec<u8>,
    exponent: Vec<u8>,
}

#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<Map<String, Value>>,
}

/// `alg`, and what decides about the key. Members given twice are refused.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl JwtKeys {
    /// Takes the keys of a set in place of all that are there, and returns how many of them can verify a token.
    ///
    /// # Errors
    /// Why the text is not a set of public keys, for a person. The keys stay as they are.
    pub fn replace(&self, text: &[u8]) -> Result<usize, String> {
        if text.len() as u64 > MAX_JWKS {
            return Err(format!("it has more than {MAX_JWKS} bytes"));
        }
        let set: WrittenSet =
            serde_json::from_slice(text).map_err(|error| without_value(&error))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("it has more than {MAX_KEYS} keys"));
        }
        let mut keys = Vec::new();
        for (index, written) in set.keys.iter().enumerate() {
            let key = Jwk::parse(written).map_err(|why| format!("keys[{index}]: {why}"))?;
            keys.extend(key);
        }
        // A set without keys is what an issuer publishes that takes back its last key.
        if keys.is_empty() && !set.keys.is_empty() {
            return Err("no key in it is for an algorithm that can be used".to_owned());
        }
        let count = keys.len();
        *self.keys.write() = keys.into();
        Ok(count)
    }

    /// Waits until a token has named a key that is not in the set.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn now(&self) -> Arc<[Jwk]> {
        Arc::clone(&self.keys.read())
    }
}

impl JwtVerifier {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// When the file cannot be read, or has no key that an algorithm of the options fits.
    pub fn read(path: &Path, options: JwtOptions) -> Result<Self, JwksError> {
        use std::io::Read as _;
        let mut text = Vec::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(MAX_JWKS + 1).read_to_end(&mut text));
        read.map_err(|source| JwksError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, options).map_err(|why| JwksError::Form {
            path: path.to_owned(),
            why,
        })
    }

    /// Verifies by keys that are replaced from elsewhere.
    #[must_use]
    pub const fn new(keys: Arc<JwtKeys>, options: JwtOptions) -> Self {
        Self { options, keys }
    }

    fn parse(text: &[u8], options: JwtOptions) -> Result<Self, String> {
        let keys = JwtKeys::default();
        keys.replace(text)?;
        let used = |key: &Jwk| {
            let mut algorithms = options.algorithms.iter();
            algorithms.any(|algorithm| key.fits(*algorithm))
        };
        if !keys.now().iter().any(used) {
            return Err("no key in it is for one of the algorithms".to_owned());
        }
        Ok(Self::new(Arc::new(keys), options))
    }

    /// Checks a token, which any client may have sent.
    ///
    /// # Errors
    /// [`TokenError`] says why it is not accepted, for the log and for tests.
    pub fn check(&self, token: &[u8], now: SystemTime) -> Result<Token, TokenError> {
        // The form (RFC 7515, section 7.1).
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Long);
        }
        let token = std::str::from_utf8(token).map_err(|_| TokenError::Form)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Form)?;
        let header: Header = json(header)?;
        let is_jwt = |typ: &String| {
            let typ = typ.to_ascii_lowercase();
            matches!(
                typ.strip_prefix("application/").unwrap_or(&typ),
                "jwt" | "at+jwt"
            )
        };
        if header.crit.is_some() || !header.typ.as_ref().is_none_or(is_jwt) {
            return Err(TokenError::Form);
        }

        // The algorithm and the key: never what the token would like.
        let algorithm = JwtAlgorithm::parse(&header.alg)
            .filter(|algorithm| self.options.algorithms.contains(algorithm))
            .ok_or(TokenError::Algorithm)?;
        let keys = self.keys.now();
        let mut fitting = keys
            .iter()
            .filter(|key| key.fits(algorithm) && (header.kid.is_none() || key.id == header.kid));
        let (Some(key), None) = (fitting.next(), fitting.next()) else {
            if header.kid.is_some() && keys.iter().all(|key| key.id != header.kid) {
                self.keys.wanted.notify_one();
            }
            return Err(TokenError::Key);
        };
        let signature = decode(signature)?;
        if !key.has_signed(algorithm, signed.as_bytes(), &signature) {
            return Err(TokenError::Signature);
        }

        // The claims.
        let claims: Map<String, Value> = json(payload)?;
        self.check_claims(claims, seconds(now))
    }

    fn check_claims(&self, claims: Map<String, Value>, now: u64) -> Result<Token, TokenError> {
        let leeway = self.options.leeway.as_secs();
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            // A NumericDate may have a fraction (RFC 7519, section 2).
            Some(value) => match value.as_f64() {
                Some(time) if (0.0..1e15).contains(&time) => Ok(Some(time as u64)),
                _ => Err(TokenError::Form),
            },
        };
        let expires = time("exp")?
            .ok_or(TokenError::Expired)?
            .saturating_add(leeway);
        if expires <= now {
            return Err(TokenError::Expired);
        }
        if time("nbf")?.is_some_and(|begins| begins > now.saturating_add(leeway)) {
            return Err(TokenError::Early);
        }
        let has = |name: &str, accepted: &[String]| {
            let is = |value: &Value| accepted.iter().any(|one| value.as_str() == Some(one));
            match claims.get(name) {
                Some(Value::Array(values)) => values.iter().any(is),
                Some(value) => is(value),
                None => false,
            }
        };
        let options = &self.options;
        let required = options.claims.iter();
        let accepted = (options.issuers.is_empty() || has("iss", &options.issuers))
            && (options.audiences.is_empty() || has("aud", &options.audiences))
            && required.clone().all(|(name, values)| has(name, values));
        if !accepted {
            return Err(TokenError::Claim);
        }
        Ok(Token { claims, expires })
    }
}

impl Token {
    /// What the site gets to know of it, as JSON: `{"subject","claims"}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let subject = self.claims.get("sub").and_then(Value::as_str);
        serde_json::json!({ "subject": subject, "claims": self.claims }).to_string()
    }

    /// A claim as JSON.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<String> {
        self.claims.get(name).map(Value::to_string)
    }

    /// Ends when the token does, by the system's clock.
    pub fn until_expired(&self) -> impl Future<Output = ()> + Send + use<> {
        let expires = self.expires;
        async move {
            loop {
                let left = expires.saturating_sub(seconds(SystemTime::now()));
                if left == 0 {
                    return;
                }
                // The clock may jump.
                tokio::time::sleep(Duration::from_secs(left.min(60))).await;
            }
        }
    }
}

impl Jwk {
    /// Reads a key; `None` for one that signs nothing here. A secret in the set is an error.
    fn parse(written: &Map<String, Value>) -> Result<Option<Self>, String> {
        let text = |name: &str| written.get(name).and_then(Value::as_str);
        if written.contains_key("d") || text("kty") == Some("oct") {
            return Err("it is secret; the set is for public keys alone".to_owned());
        }
        let signs = text("use").is_none_or(|to| to == "sig")
            && written
                .get("key_ops")
                .and_then(Value::as_array)
                .is_none_or(|to| to.iter().any(|one| one == "verify"));
        let algorithm = text("alg").map(JwtAlgorithm::parse);
        if !signs || algorithm == Some(None) {
            return Ok(None);
        }
        let bytes = |name: &str| {
            let text = text(name).ok_or_else(|| format!("it has no {name}"))?;
            decode(text).map_err(|_| format!("its {name} is not base64url"))
        };
        // A coordinate has the length of the field (RFC 7518, section 6.2.1.2).
        let point = |length: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != length || y.len() != length {
                return Err("its point has another length than its curve".to_owned());
            }
            Ok([&[4], &x[..], &y[..]].concat())
        };
        let (kind, public, exponent) = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => (KeyKind::Rsa, bytes("n")?, bytes("e")?),
            (Some("EC"), Some("P-256")) => (KeyKind::P256, point(32)?, Vec::new()),
            (Some("EC"), Some("P-384")) => (KeyKind::P384, point(48)?, Vec::new()),
            (Some("OKP"), Some("Ed25519")) => (KeyKind::Ed25519, bytes("x")?, Vec::new()),
            _ => return Ok(None),
        };
        if kind == KeyKind::Rsa && public.len() < 256 {
            return Err("an RSA key has at least 2048 bits".to_owned());
        }
        Ok(Some(Self {
            id: text("kid").map(str::to_owned),
            algorithm: algorithm.flatten(),
            kind,
            public,
            exponent,
        }))
    }

    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        self.kind == algorithm.kind() && self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn has_signed(&self, algorithm: JwtAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let with = |verifier: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(verifier, &self.public).verify(message, signature)
        };
        let rsa = |parameters| {
            let (n, e) = (&self.public, &self.exponent);
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
        };
        let verified = match algorithm {
            JwtAlgorithm::Rs256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
            JwtAlgorithm::Rs384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
            JwtAlgorithm::Rs512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
            JwtAlgorithm::Ps256 => rsa(&RSA_PSS_2048_8192_SHA256),
            JwtAlgorithm::Ps384 => rsa(&RSA_PSS_2048_8192_SHA384),
            JwtAlgorithm::Ps512 => rsa(&RSA_PSS_2048_8192_SHA512),
            JwtAlgorithm::Es256 => with(&signature::ECDSA_P256_SHA256_FIXED),
            JwtAlgorithm::Es384 => with(&signature::ECDSA_P384_SHA384_FIXED),
            JwtAlgorithm::EdDsa => with(&signature::ED25519),
        };
        verified.is_ok()
    }
}

fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Form)
}

/// Reads a part of a token. A NUL in it has a meaning in messages to guests.
fn json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let text = decode(part)?;
    if memchr::memmem::find(&text, b"\\u0000").is_some() {
        return Err(TokenError::Form);
    }
    serde_json::from_slice(&text).map_err(|_| TokenError::Form)
}

#[cfg(test)]
mod tests;
