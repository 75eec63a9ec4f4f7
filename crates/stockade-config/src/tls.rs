//! Certificates, versions and who must show a certificate.

use std::path::PathBuf;

use stockade_http::{Host, HostPattern};

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{FILE, HOST, Key, Kind, NEW, TEXT, boolean, either, list, text};
use crate::section::{Parse, Record, Words, section, words};
use crate::tree::Message;
use crate::url;

section! {
    /// Certificates, and the rule for client certificates.
    pub struct Tls "tls" {
        /// `false` disables the section.
        key "enabled" = boolean().default("true"),
        /// Certificates, selected by the name that a client requests. Clients that
        /// request no name get the first one.
        pub certificates: Vec<Certificate> = list(&Certificate::KIND)
            .derived("that of `cert_path` and `key_path`") => certificates,
        /// Short for the `cert` of a single certificate.
        key "cert_path" = text(FILE),
        /// Short for the `key` of a single certificate.
        key "key_path" = text(FILE),
        /// The minimum version of TLS. Versions below 1.2 are not supported.
        pub min_version: TlsVersion = Key::of(TlsVersion::KIND).default("1.2"),
        /// Rejects clients that request a name without a certificate, instead of
        /// presenting the first one.
        pub strict_sni: bool = boolean().default("false"),
        /// The rule for client certificates. An instance can have its own.
        pub client_auth: ClientAuth = either(CLIENT_AUTH) => short_client_auth,
        /// Short for a `client_auth` that requests a certificate.
        key "enable_mtls" = boolean().default("false"),
        /// Short for the `ca` of `client_auth`.
        key "client_ca_path" = text(FILE),
        /// With `enable_mtls`: rejects clients without a certificate.
        key "require_client_cert" = boolean().default("true"),
        /// Orders certificates from an authority (RFC 8555).
        pub acme: Option<Acme> = Key::of(Acme::KIND) => acme,
    }
}

section! {
    /// A certificate and its key. The files are read again when they change.
    pub struct Certificate "certificate" {
        /// The certificate chain (PEM), the server's certificate first.
        pub cert: PathBuf = text(FILE).required().like(&["tls/example.com.crt"]),
        /// The private key (PEM).
        pub key: PathBuf = text(FILE).required().like(&["tls/example.com.key"]),
        /// An OCSP response (DER) to staple.
        pub ocsp: Option<PathBuf> = text(FILE),
    }
}

section! {
    /// The rule for client certificates. TLS applies it by host name, so instances that
    /// share a host must have the same rule.
    pub struct ClientAuth "client_auth" {
        /// `none` requests no certificate, `optional` accepts a valid one, `required`
        /// rejects clients without one.
        pub mode: ClientAuthMode = Key::of(ClientAuthMode::KIND).default("required"),
        /// Files with the accepted authorities (PEM). Required unless the mode is
        /// `none`.
        pub ca: Vec<PathBuf> = either(&[Kind::Text(FILE), Kind::List(&Kind::Text(FILE))]).nonempty() => authorities,
        /// Revocation lists, PEM or DER.
        pub crl: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// How client certificates are handled whose revocation list has expired.
        pub expired_crl: ExpiredCrl = Key::of(ExpiredCrl::KIND).default("refuse"),
        /// Accepted subjects, in the form of RFC 4514. The default accepts all.
        pub subjects: Vec<String> = list(&Kind::Text(TEXT)).nonempty().like(&["[\"CN=billing,O=Example\"]"]),
        /// Subject alternative names, of which a certificate must have one. The default
        /// accepts all.
        pub san: Vec<String> = list(&Kind::Text(TEXT)).nonempty().like(&["[\"billing.internal\"]"]),
    }
}

section! {
    /// Certificates from an authority (RFC 8555). Off unless `enabled` is set.
    pub struct Acme "acme" {
        /// Orders and renews certificates.
        key "enabled" = boolean().default("false"),
        /// The URL of the authority's directory.
        pub directory: String = text(TEXT)
            .default("https://acme-v02.api.letsencrypt.org/directory") => directory,
        /// States that you agree to the authority's terms. Without it, no certificate
        /// is ordered.
        key "accept_terms" = boolean().default("false"),
        /// Mail addresses at which the authority may contact you.
        pub contact: Vec<String> = list(&Kind::Text(TEXT)).like(&["[admin@example.com]"]) => contact,
        /// Names to order certificates for.
        pub domains: Vec<String> = list(&Kind::Text(HOST))
            .nonempty()
            .derived("every exact host name of an https URL") => domains,
        /// How to prove control of a name: over plain HTTP on port 80, or in TLS on
        /// port 443.
        pub challenge: AcmeChallenge = Key::of(AcmeChallenge::KIND).default("tls-alpn-01"),
        /// The folder for the account's key and the certificates. It is created with
        /// mode 0700.
        pub cache: PathBuf = text(NEW).default("./acme"),
        /// A root certificate (PEM) to trust instead of the public ones in connections
        /// to the authority.
        pub ca: Option<PathBuf> = text(FILE),
    }
}

words! {
    /// A version of TLS; lower ones can't be named.
    pub enum TlsVersion {
        /// RFC 5246.
        V1_2 = "1.2",
        /// RFC 8446.
        V1_3 = "1.3",
    }
}

words! {
    /// Whether clients are asked for a certificate.
    #[derive(Default)]
    pub enum ClientAuthMode {
        /// Not asked.
        #[default]
        None = "none",
        /// Asked; one that is shown must be good.
        Optional = "optional",
        /// Refused without one.
        Required = "required",
    }
}

words! {
    /// How client certificates are handled whose revocation list has expired.
    #[derive(Default)]
    pub enum ExpiredCrl {
        /// They are refused.
        #[default]
        Refuse = "refuse",
        /// The list counts as if it were new.
        Accept = "accept",
    }
}

words! {
    /// How control of a name is proved.
    pub enum AcmeChallenge {
        /// RFC 8555, section 8.3: over plain HTTP on port 80.
        Http01 = "http-01",
        /// RFC 8737: within TLS on port 443.
        TlsAlpn01 = "tls-alpn-01",
    }
}

impl Default for ClientAuth {
    /// No client is asked for a certificate.
    fn default() -> Self {
        Self {
            mode: ClientAuthMode::None,
            ca: Vec::new(),
            crl: Vec::new(),
            expired_crl: ExpiredCrl::Refuse,
            subjects: Vec::new(),
            san: Vec::new(),
        }
    }
}

/// The kinds of `client_auth`: a word or a section.
pub(crate) const CLIENT_AUTH: &[Kind] = &[ClientAuthMode::KIND, ClientAuth::KIND];

/// Reads `tls`; `None` where it is switched off.
pub(crate) fn read(fields: &Fields<'_>) -> Option<Tls> {
    let enabled: bool = fields.get("enabled");
    enabled.then(|| Tls::read(fields))
}

fn certificates(fields: &Fields<'_>) -> Vec<Certificate> {
    let mut out: Vec<Certificate> = fields.get("certificates");
    let (cert, key): (Option<PathBuf>, Option<PathBuf>) =
        (fields.get("cert_path"), fields.get("key_path"));
    match (cert, key) {
        (Some(cert), Some(key)) => {
            if fields.has("certificates") {
                fields.refuse(
                    "cert_path",
                    Message::allowed("there is a list `certificates` too", "one of both"),
                );
            }
            out.push(Certificate {
                cert,
                key,
                ocsp: None,
            });
        }
        (Some(_), None) if !fields.has("key_path") => fields.missing("key_path"),
        (None, Some(_)) if !fields.has("cert_path") => fields.missing("cert_path"),
        _ => {}
    }
    let acme: bool = fields.section("acme").get("enabled");
    let named = ["cert_path", "key_path"].iter().any(|key| fields.has(key));
    if out.is_empty() && !acme && !named && fields.list("certificates").is_empty() {
        let what = "TLS needs a certificate";
        let allowed = "`certificates` with `cert` and `key`, or `acme` with `enabled: true`";
        fields
            .reader()
            .source
            .error(fields.at, &fields.path, Message::allowed(what, allowed));
    }
    out
}

/// `client_auth`, or its short form in three keys.
fn short_client_auth(fields: &Fields<'_>) -> ClientAuth {
    let full = client_auth(fields);
    let (enabled, required): (bool, bool) =
        (fields.get("enable_mtls"), fields.get("require_client_cert"));
    let ca: Option<PathBuf> = fields.get("client_ca_path");
    if !enabled {
        // With an explicit `false` the other keys may stay in the file; without it `true` was forgotten.
        for key in ["client_ca_path", "require_client_cert"] {
            if fields.has(key) && !fields.has("enable_mtls") {
                let what = "without `enable_mtls: true` no client is asked for a certificate";
                fields.refuse(
                    key,
                    Message::allowed(what, "enable_mtls: true in the same section"),
                );
            }
        }
        return full.unwrap_or_default();
    }
    if fields.has("client_auth") {
        let what = "there is a section `client_auth` too";
        fields.refuse("enable_mtls", Message::allowed(what, "one of both"));
    }
    if !fields.has("client_ca_path") {
        fields.missing("client_ca_path");
    }
    ClientAuth {
        mode: if required {
            ClientAuthMode::Required
        } else {
            ClientAuthMode::Optional
        },
        ca: ca.into_iter().collect(),
        ..ClientAuth::default()
    }
}

/// The `client_auth` of a section: a word or a section.
pub(crate) fn client_auth(fields: &Fields<'_>) -> Option<ClientAuth> {
    let found = fields.find("client_auth")?;
    let reader = fields.reader();
    if found.node.map().is_none() {
        let mode = ClientAuthMode::parse(reader, &found, &ClientAuthMode::KIND);
        if mode.is_some_and(|mode| mode != ClientAuthMode::None) {
            reader.refuse(&found, needs_ca());
        }
        return Some(ClientAuth::default());
    }
    let inner = fields.nearest_section("client_auth");
    let auth = ClientAuth::read(&inner);
    if auth.mode != ClientAuthMode::None && !inner.has("ca") {
        reader.refuse(&found, needs_ca());
    }
    Some(auth)
}

/// `ca`: a path, or a list of paths.
fn authorities(fields: &Fields<'_>) -> Vec<PathBuf> {
    match fields.find("ca") {
        Some(one) if one.node.text().is_some() => {
            let path = PathBuf::parse(fields.reader(), &one, &Kind::Text(FILE));
            path.into_iter().collect()
        }
        _ => {
            let items = fields.list("ca");
            let path = |item| PathBuf::parse(fields.reader(), item, &Kind::Text(FILE));
            items.iter().filter_map(path).collect()
        }
    }
}

fn needs_ca() -> Message {
    Message::allowed(
        "certificates of clients can't be checked without an authority",
        "client_auth with `ca`, the file of the authorities that sign them",
    )
}

/// Reads `acme`; `None` where it is switched off.
fn acme(tls: &Fields<'_>) -> Option<Acme> {
    let fields = tls.section("acme");
    let (enabled, agreed): (bool, bool) = (fields.get("enabled"), fields.get("accept_terms"));
    let acme = Acme::read(&fields);
    if !enabled {
        return None;
    }
    if !agreed {
        let what = "certificates can't be fetched before you agree to the authority's terms";
        fields.refuse("accept_terms", Message::allowed(what, "accept_terms: true"));
    }
    Some(acme)
}

fn directory(fields: &Fields<'_>) -> String {
    let directory: String = fields.get("directory");
    if !directory.starts_with("https://") {
        let allowed = "a URL that begins with https://";
        fields.refuse("directory", Message::allowed("not an https URL", allowed));
    }
    directory
}

fn contact(fields: &Fields<'_>) -> Vec<String> {
    fields.texts("contact", |text| {
        let mail = text.strip_prefix("mailto:").unwrap_or(text);
        if mail
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
        {
            Ok(format!("mailto:{mail}"))
        } else {
            let what = format!("{:?} is not a mail address", shown(text));
            Err(Message::allowed(what, "an address, as admin@example.com"))
        }
    })
}

fn domains(fields: &Fields<'_>) -> Vec<String> {
    fields.texts("domains", |text| match url::host(text)? {
        HostPattern::Exact(Host::Name(name)) => Ok(name),
        _ => Err(Message::allowed(
            format!("no certificate can be fetched for {:?}", shown(text)),
            "a host name; wildcards and addresses can't be proved by these challenges",
        )),
    })
}
