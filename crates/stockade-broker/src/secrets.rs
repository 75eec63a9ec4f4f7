//! Secrets that a guest can use and cannot read.
//!
//! A guest's environment holds a placeholder, `stockade-secret-` and 32 random hexadecimal digits. In
//! the headers of a request (Basic credentials included), and in its URL where the secret allows it,
//! the broker puts the value in the placeholder's place, if the host is one that the secret is bound
//! to. Towards every other host a placeholder refuses the request.
//!
//! Invariant: a value is in no error, event or log, and `Debug` does not show it. In headers of
//! responses the broker puts the placeholder back; a bound host that echoes its requests in bodies,
//! or changes the value's form, can still hand the value to the guest: bind secrets to hosts that
//! do not.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue};
use hyper::ext::ReasonPhrase;
use stockade_http::HostPattern;

use crate::audit::{Misplaced, Reason};
use crate::pattern::matches;
use crate::target::Target;

const PREFIX: &[u8] = b"stockade-secret-";
const DIGITS: usize = 32;
const LENGTH: usize = PREFIX.len() + DIGITS;

/// Values shorter than this are not looked for in responses: they would match by chance.
const MIN_MASKED: usize = 8;

/// The value of a secret. Shows itself to nobody but the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<str>);

impl SecretValue {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(value.into())
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A secret and where it may go.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Its name in the guest's environment.
    pub name: String,
    /// Its value.
    pub value: SecretValue,
    /// The hosts that it is sent to.
    pub hosts: Vec<HostPattern>,
    /// Also over connections that TLS does not protect, on which others can read it.
    pub over_plain_text: bool,
    /// Also in paths and queries. Servers write these to their logs.
    pub in_urls: bool,
}

/// A secret that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// Nothing to keep.
    #[error("the secret {name} is empty")]
    Empty {
        /// Its name.
        name: String,
    },
    /// A line break or another control character: no header may have it.
    #[error(
        "the secret {name} has a control character at byte {at}; no header may have one (a line break at the end of its file?)"
    )]
    Control {
        /// Its name.
        name: String,
        /// Where, from zero.
        at: usize,
    },
    /// It would go nowhere.
    #[error("the secret {name} is bound to no host; list the hosts that it may be sent to")]
    Unbound {
        /// Its name.
        name: String,
    },
    /// The kernel gave no random bytes.
    #[error("no random bytes for a placeholder: {0}")]
    Random(String),
}

/// The secrets of one instance. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    secret: Secret,
    placeholder: String,
}

impl Secrets {
    /// Checks secrets. `placeholder` gives the placeholder of a name.
    pub(crate) fn new(
        secrets: Vec<Secret>,
        mut placeholder: impl FnMut(&str) -> Result<String, SecretsError>,
    ) -> Result<Self, SecretsError> {
        let mut kept = Vec::with_capacity(secrets.len());
        for secret in secrets {
            let name = secret.name.clone();
            if secret.value.0.is_empty() {
                return Err(SecretsError::Empty { name });
            }
            if let Some(at) = secret.value.0.bytes().position(|b| b.is_ascii_control()) {
                return Err(SecretsError::Control { name, at });
            }
            if secret.hosts.is_empty() {
                return Err(SecretsError::Unbound { name });
            }
            let placeholder = placeholder(&secret.name)?;
            kept.push(Kept {
                secret,
                placeholder,
            });
        }
        Ok(Self(Arc::new(kept)))
    }

    /// What the guest's environment gets: names and placeholders.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|kept| (kept.secret.name.as_str(), kept.placeholder.as_str()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fills placeholders in headers.
    pub(crate) fn fill_headers(
        &self,
        headers: &mut HeaderMap,
        target: &Target,
    ) -> Result<(), Reason> {
        for (name, value) in headers.iter_mut() {
            if let Some(reason) = self.misplaced(name.as_str().as_bytes()) {
                return Err(reason);
            }
            let filled = match self.fill(value.as_bytes(), target, false)? {
                Some(filled) => Some(filled),
                None => self.fill_basic(value.as_bytes(), target)?,
            };
            if let Some(filled) = filled {
                *value = HeaderValue::from_bytes(&filled).map_err(|_| unusable())?;
                value.set_sensitive(true);
            }
        }
        Ok(())
    }

    /// Fills placeholders in a path and query.
    pub(crate) fn fill_path(&self, target: &mut Target) -> Result<(), Reason> {
        let Some(filled) = self.fill(target.path.as_bytes(), target, true)? else {
            return Ok(());
        };
        target.path = String::from_utf8(filled).map_err(|_| unusable())?;
        Ok(())
    }

    /// `Basic` credentials hide the placeholder in Base64.
    fn fill_basic(&self, value: &[u8], target: &Target) -> Result<Option<Vec<u8>>, Reason> {
        let Some(encoded) = value
            .get(6..)
            .filter(|_| value[..6].eq_ignore_ascii_case(b"basic "))
        else {
            return Ok(None);
        };
        let Ok(decoded) = STANDARD.decode(encoded.trim_ascii()) else {
            return Ok(None);
        };
        let filled = self.fill(&decoded, target, false)?;
        Ok(filled.map(|filled| [b"Basic ", STANDARD.encode(filled).as_bytes()].concat()))
    }

    /// The text with values for placeholders; `None` where there is none.
    fn fill(&self, text: &[u8], target: &Target, in_url: bool) -> Result<Option<Vec<u8>>, Reason> {
        let mut filled = Vec::new();
        let mut rest = text;
        while let Some(at) = holds(rest) {
            let placeholder = &rest[at..at + LENGTH];
            let kept = self
                .0
                .iter()
                .find(|kept| kept.placeholder.as_bytes() == placeholder);
            let secret = &kept
                .ok_or_else(|| elsewhere("", Misplaced::Unknown))?
                .secret;
            let refuse = |why| Err(elsewhere(&secret.name, why));
            if !secret
                .hosts
                .iter()
                .any(|pattern| matches(pattern, &target.host))
            {
                return refuse(Misplaced::Host);
            }
            if !target.scheme.is_secure() && !secret.over_plain_text {
                return refuse(Misplaced::PlainText);
            }
            if in_url && !secret.in_urls {
                return refuse(Misplaced::Url);
            }
            filled.extend_from_slice(&rest[..at]);
            if in_url {
                let encode = percent_encoding_of(&secret.value.0);
                filled.extend_from_slice(encode.as_bytes());
            } else {
                filled.extend_from_slice(secret.value.0.as_bytes());
            }
            rest = &rest[at + LENGTH..];
        }
        if filled.is_empty() && rest.len() == text.len() {
            return Ok(None);
        }
        filled.extend_from_slice(rest);
        Ok(Some(filled))
    }

    /// Why `text` may not go out, whereto ever: a placeholder is in it.
    pub(crate) fn misplaced(&self, text: &[u8]) -> Option<Reason> {
        let at = holds(text)?;
        let placeholder = &text[at..at + LENGTH];
        let is_it = |kept: &&Kept| {
            kept.placeholder
                .as_bytes()
                .eq_ignore_ascii_case(placeholder)
        };
        Some(match self.0.iter().find(is_it) {
            Some(kept) => elsewhere(&kept.secret.name, Misplaced::Body),
            None => elsewhere("", Misplaced::Unknown),
        })
    }

    /// Puts placeholders back for values that a server echoed in its headers.
    pub(crate) fn mask_headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            if let Some(masked) = self.mask(value.as_bytes())
                && let Ok(masked) = HeaderValue::from_bytes(&masked)
            {
                *value = masked;
            }
        }
    }

    /// What a server calls its status, with placeholders for values; `None` where it cannot stand there.
    pub(crate) fn mask_reason(&self, reason: &ReasonPhrase) -> Option<ReasonPhrase> {
        match self.mask(reason.as_bytes()) {
            Some(masked) => ReasonPhrase::try_from(masked).ok(),
            None => Some(reason.clone()),
        }
    }

    /// The text with placeholders for values; `None` where there is none.
    pub(crate) fn mask(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut masked: Option<Vec<u8>> = None;
        for kept in self
            .0
            .iter()
            .filter(|kept| kept.secret.value.0.len() >= MIN_MASKED)
        {
            let value = kept.secret.value.0.as_bytes();
            let current = masked.as_deref().unwrap_or(text);
            let mut out = Vec::new();
            let mut rest = current;
            let mut found = false;
            while let Some(at) = position(rest, value) {
                found = true;
                out.extend_from_slice(&rest[..at]);
                out.extend_from_slice(kept.placeholder.as_bytes());
                rest = &rest[at + value.len()..];
            }
            if found {
                out.extend_from_slice(rest);
                masked = Some(out);
            }
        }
        masked
    }

    /// Bytes at the end of `text` that may be the beginning of a value.
    pub(crate) fn partial(&self, text: &[u8]) -> usize {
        let longest = |value: &[u8]| {
            let most = (value.len() - 1).min(text.len());
            (1..=most)
                .rev()
                .find(|&n| text.ends_with(&value[..n]))
                .unwrap_or(0)
        };
        let masked = self
            .0
            .iter()
            .filter(|kept| kept.secret.value.0.len() >= MIN_MASKED);
        masked
            .map(|kept| longest(kept.secret.value.0.as_bytes()))
            .max()
            .unwrap_or(0)
    }
}

/// The number of bytes in a placeholder.
pub(crate) const PLACEHOLDER_LENGTH: usize = LENGTH;

/// A new placeholder.
pub(crate) fn placeholder() -> Result<String, SecretsError> {
    let mut random = [0_u8; DIGITS / 2];
    let mut done = 0;
    while done < random.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        done += rustix::rand::getrandom(&mut random[done..], flags)
            .map_err(|error| SecretsError::Random(error.to_string()))?;
    }
    let mut text = String::from_utf8_lossy(PREFIX).into_owned();
    for byte in random {
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

fn elsewhere(secret: &str, why: Misplaced) -> Reason {
    Reason::SecretElsewhere {
        secret: secret.into(),
        why,
    }
}

/// A value was checked to be fit for where it is put.
fn unusable() -> Reason {
    elsewhere("", Misplaced::Unknown)
}

/// Where a placeholder, of whichever secret, begins.
fn holds(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = position(&text[from..], PREFIX).map(|at| at + from) {
        let digits = text.get(at + PREFIX.len()..at + LENGTH);
        if digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Some(at);
        }
        from = at + PREFIX.len();
    }
    None
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    let first = *part.first()?;
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.iter().position(|&b| b == first)?;
        if text[at..].starts_with(part) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// All but the unreserved characters of RFC 3986, 2.3.
fn percent_encoding_of(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(change: impl FnOnce(&mut Secret)) -> (Secrets, String) {
        let mut secret = Secret {
            name: "KEY".to_owned(),
            value: SecretValue::new("s3cret/value"),
            hosts: vec![HostPattern::parse("*.api.example").unwrap()],
            over_plain_text: false,
            in_urls: false,
        };
        change(&mut secret);
        let secrets = Secrets::new(vec![secret], |_| placeholder()).unwrap();
        let placeholder = secrets.environment().next().unwrap().1.to_owned();
        (secrets, placeholder)
    }

    fn target(url: &str) -> Target {
        Target::parse(&url.parse().unwrap()).unwrap()
    }

    fn fill(secrets: &Secrets, value: &str, url: &str) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", value.parse().unwrap());
        secrets.fill_headers(&mut headers, &target(url))?;
        Ok(headers["authorization"].to_str().unwrap().to_owned())
    }

    #[test]
    fn placeholder_towards_a_bound_host_becomes_the_value() {
        let (secrets, key) = secrets(|_| ());
        let filled = fill(&secrets, &format!("Bearer {key}"), "https://a.api.example/");
        assert_eq!(filled.as_deref(), Ok("Bearer s3cret/value"));
        let twice = fill(&secrets, &format!("{key},{key}."), "https://a.api.example/");
        assert_eq!(twice.as_deref(), Ok("s3cret/value,s3cret/value."));
    }

    #[test]
    fn placeholder_in_basic_credentials_becomes_the_value() {
        let (secrets, key) = secrets(|_| ());
        let basic = format!("basic {}", STANDARD.encode(format!("user:{key}")));
        let filled = fill(&secrets, &basic, "https://a.api.example/").unwrap();
        assert_eq!(
            filled,
            format!("Basic {}", STANDARD.encode("user:s3cret/value"))
        );
        assert!(fill(&secrets, &basic, "https://evil.example/").is_err());
    }

    #[test]
    fn placeholder_towards_another_host_or_in_clear_text_is_refused() {
        let (secrets, key) = secrets(|_| ());
        for (url, why) in [
            ("https://evil.example/", Misplaced::Host),
            ("https://api.example/", Misplaced::Host),
            ("http://a.api.example/", Misplaced::PlainText),
        ] {
            let reason = fill(&secrets, &key, url).unwrap_err();
            assert_eq!(reason, elsewhere("KEY", why), "{url}");
        }
    }

    #[test]
    fn placeholder_of_another_instance_is_refused() {
        let (_, theirs) = secrets(|_| ());
        let (ours, _) = secrets(|_| ());
        assert!(fill(&ours, &theirs, "https://a.api.example/").is_err());
        assert!(fill(&Secrets::default(), &theirs, "https://a.api.example/").is_err());
    }

    #[test]
    fn text_that_only_resembles_a_placeholder_stays() {
        let (secrets, _) = secrets(|_| ());
        let text = "stockade-secret-stockade-secret-0123";
        assert_eq!(
            fill(&secrets, text, "https://evil.example/").as_deref(),
            Ok(text)
        );
    }

    #[test]
    fn placeholder_in_a_url_is_filled_only_where_the_secret_allows_it() {
        let (closed, key) = secrets(|_| ());
        let mut at = target(&format!("https://a.api.example/?key={key}"));
        assert!(closed.fill_path(&mut at).is_err());
        let (open, key) = secrets(|secret| secret.in_urls = true);
        let mut at = target(&format!("https://a.api.example/?key={key}&x"));
        open.fill_path(&mut at).unwrap();
        assert_eq!(at.path, "/?key=s3cret%2Fvalue&x");
    }

    #[test]
    fn value_echoed_in_a_header_is_masked() {
        let (secrets, key) = secrets(|_| ());
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", "Bearer s3cret/value".parse().unwrap());
        secrets.mask_headers(&mut headers);
        assert_eq!(headers["x-echo"], format!("Bearer {key}"));
    }

    #[test]
    fn value_echoed_in_the_name_of_a_status_is_masked() {
        let (secrets, key) = secrets(|_| ());
        let reason = ReasonPhrase::from_static(b"No s3cret/value");
        let masked = secrets.mask_reason(&reason).unwrap();
        assert_eq!(masked.as_bytes(), format!("No {key}").as_bytes());
        let other = ReasonPhrase::from_static(b"Odd");
        assert_eq!(secrets.mask_reason(&other), Some(other));
    }

    #[test]
    fn secret_that_is_empty_unbound_or_has_a_line_break_is_refused() {
        let new = |secret| Secrets::new(vec![secret], |_| placeholder()).map(|_| ());
        let good = Secret {
            name: "K".to_owned(),
            value: SecretValue::new("v"),
            hosts: vec![HostPattern::parse("a.example").unwrap()],
            over_plain_text: false,
            in_urls: false,
        };
        assert!(new(good.clone()).is_ok());
        assert!(
            new(Secret {
                value: SecretValue::new(""),
                ..good.clone()
            })
            .is_err()
        );
        assert!(
            new(Secret {
                value: SecretValue::new("v\n"),
                ..good.clone()
            })
            .is_err()
        );
        assert!(
            new(Secret {
                hosts: Vec::new(),
                ..good
            })
            .is_err()
        );
    }

    #[test]
    fn secret_in_debug_output_is_not_shown() {
        let (secrets, _) = secrets(|_| ());
        assert!(!format!("{secrets:?}").contains("s3cret"));
    }
}
