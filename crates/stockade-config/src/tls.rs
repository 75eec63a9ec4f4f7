//! Certificates, versions and who must show a certificate.

use std::path::PathBuf;

use stockade_http::{Host, HostPattern};

use crate::fields::Fields;
use crate::keys::{FILE, HOST, Key, Kind, NEW, Section, TEXT};
use crate::mistake::shown;
use crate::tree::Remark;
use crate::url;

/// How a listener speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// In the order of the file; the first is shown to clients that name no known host. Empty only
    /// with [`Acme`].
    pub certificates: Vec<Certificate>,
    /// The lowest version spoken.
    pub min_version: TlsVersion,
    /// Whether clients that ask for a host without a certificate are refused, not shown the first one.
    pub strict_sni: bool,
    /// Who must show a certificate, unless an instance says otherwise.
    pub client_auth: ClientAuth,
    /// Certificates fetched from an authority.
    pub acme: Option<Acme>,
}

/// A chain and its key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// The server's certificate first, then those above it.
    pub cert: PathBuf,
    /// The private key: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
    /// A stapled OCSP response, DER.
    pub ocsp: Option<PathBuf>,
}

/// A version of TLS; lower ones can't be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// Who must show a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// Whether one is asked for.
    pub mode: ClientAuthMode,
    /// Who may have signed it; there is at least one unless the mode is [`ClientAuthMode::None`].
    pub ca: Vec<PathBuf>,
    /// What has been taken back; PEM or DER.
    pub crl: Vec<PathBuf>,
    /// Whether a list of revocations past its next update refuses every certificate it is for.
    pub refuse_expired_crl: bool,
    /// Subjects allowed, RFC 4514; empty allows any.
    pub subjects: Vec<String>,
    /// Subject alternative names allowed (DNS names, addresses, URIs, mail addresses), one of which
    /// must be in the certificate; empty allows any.
    pub san: Vec<String>,
}

impl Default for ClientAuth {
    fn default() -> Self {
        Self {
            mode: ClientAuthMode::None,
            ca: Vec::new(),
            crl: Vec::new(),
            refuse_expired_crl: true,
            subjects: Vec::new(),
            san: Vec::new(),
        }
    }
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ClientAuthMode {
    /// Not asked.
    #[default]
    None,
    /// Asked; one that is shown must be good.
    Optional,
    /// Refused without one.
    Required,
}

/// How certificates are fetched (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The URL of the authority's directory.
    pub directory: String,
    /// Mail addresses, each with `mailto:`.
    pub contact: Vec<String>,
    /// Names to have certificates for, lower case.
    pub domains: Vec<String>,
    /// How control of a name is proved.
    pub challenge: AcmeChallenge,
    /// The folder of the account's key and of certificates.
    pub cache: PathBuf,
    /// A root to trust instead of the public ones when talking to the authority; PEM.
    pub ca: Option<PathBuf>,
}

/// How control of a name is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// RFC 8555, section 8.3: over plain HTTP on port 80.
    Http01,
    /// RFC 8737: within TLS on port 443.
    TlsAlpn01,
}

/// `tls`.
pub(crate) const TLS: Section = Section {
    name: "tls",
    doc: "Certificates and who must show one.",
    keys: &[
        Key::with(
            "enabled",
            Kind::Flag,
            "true",
            "`false` leaves the section out of use.",
        ),
        Key::derived(
            "certificates",
            Kind::List(&Kind::Section(&CERTIFICATE)),
            "that of `cert_path` and `key_path`",
            "Certificates, chosen by the name a client asks for. The first serves clients that ask for none.",
        ),
        Key::maybe(
            "cert_path",
            Kind::Text(FILE),
            "Short for the `cert` of a single certificate.",
        ),
        Key::maybe(
            "key_path",
            Kind::Text(FILE),
            "Short for the `key` of a single certificate.",
        ),
        Key::with(
            "min_version",
            Kind::Words(&["1.2", "1.3"]),
            "1.2",
            "The lowest version of TLS spoken; there is nothing below 1.2.",
        ),
        Key::with(
            "strict_sni",
            Kind::Flag,
            "false",
            "Refuses clients that ask for a name no certificate is for, in place of showing the first one.",
        ),
        Key::maybe(
            "client_auth",
            Kind::Either(&[Kind::Words(MODES), Kind::Section(&CLIENT_AUTH)]),
            "Who must show a certificate. An instance may have its own.",
        ),
        Key::with(
            "enable_mtls",
            Kind::Flag,
            "false",
            "Short for a `client_auth`: asks clients for a certificate.",
        ),
        Key::maybe(
            "client_ca_path",
            Kind::Text(FILE),
            "Short for the `ca` of `client_auth`.",
        ),
        Key::with(
            "require_client_cert",
            Kind::Flag,
            "true",
            "With `enable_mtls`: whether clients without a certificate are refused.",
        ),
        Key::maybe(
            "acme",
            Kind::Section(&ACME),
            "Fetches certificates from an authority (RFC 8555).",
        ),
    ],
};

const CERTIFICATE: Section = Section {
    name: "certificate",
    doc: "A certificate and its key. Files that change are read again.",
    keys: &[
        Key::needed(
            "cert",
            Kind::Text(FILE),
            "The chain, PEM: the server's certificate first.",
        )
        .like(&["tls/example.com.crt"]),
        Key::needed("key", Kind::Text(FILE), "The private key, PEM.")
            .like(&["tls/example.com.key"]),
        Key::maybe("ocsp", Kind::Text(FILE), "A stapled OCSP response, DER."),
    ],
};

/// The words of `client_auth`.
pub(crate) const MODES: &[&str] = &["none", "optional", "required"];

/// A `client_auth` section.
pub(crate) const CLIENT_AUTH: Section = Section {
    name: "client_auth",
    doc: "Who must show a certificate. TLS asks for it by host name, so instances that share a host must agree.",
    keys: &[
        Key::with(
            "mode",
            Kind::Words(MODES),
            "required",
            "`none` asks for none, `optional` takes one that is good, `required` refuses clients without one.",
        ),
        Key::maybe(
            "ca",
            Kind::Either(&[Kind::Text(FILE), Kind::List(&Kind::Text(FILE))]),
            "Files with the authorities, PEM, that may have signed it. Needed unless the mode is `none`.",
        ),
        Key::maybe(
            "crl",
            Kind::List(&Kind::Text(FILE)),
            "Files with revocations, PEM or DER.",
        ),
        Key::with(
            "expired_crl",
            Kind::Words(&["refuse", "accept"]),
            "refuse",
            "What becomes of certificates whose list of revocations is past its next update.",
        ),
        Key::maybe(
            "subjects",
            Kind::List(&Kind::Text(TEXT)),
            "Subjects allowed, as RFC 4514 writes them. Without it any subject is.",
        )
        .like(&["[\"CN=billing,O=Example\"]"]),
        Key::maybe(
            "san",
            Kind::List(&Kind::Text(TEXT)),
            "Subject alternative names, one of which a certificate must have. Without it any will do.",
        )
        .like(&["[\"billing.internal\"]"]),
    ],
};

const ACME: Section = Section {
    name: "acme",
    doc: "Certificates from an authority (RFC 8555). Off unless `enabled` is set.",
    keys: &[
        Key::with(
            "enabled",
            Kind::Flag,
            "false",
            "Fetches and renews certificates.",
        ),
        Key::with(
            "directory",
            Kind::Text(TEXT),
            "https://acme-v02.api.letsencrypt.org/directory",
            "The URL of the authority's directory.",
        ),
        Key::with(
            "accept_terms",
            Kind::Flag,
            "false",
            "That you agree to the authority's terms; without it nothing is fetched.",
        ),
        Key::maybe(
            "contact",
            Kind::List(&Kind::Text(TEXT)),
            "Mail addresses that the authority may write to.",
        )
        .like(&["[admin@example.com]"]),
        Key::derived(
            "domains",
            Kind::List(&Kind::Text(HOST)),
            "every exact host name of an https URL",
            "Names to have certificates for.",
        ),
        Key::with(
            "challenge",
            Kind::Words(&["http-01", "tls-alpn-01"]),
            "tls-alpn-01",
            "How control of a name is proved: over plain HTTP on port 80, or within TLS on port 443.",
        ),
        Key::with(
            "cache",
            Kind::Text(NEW),
            "./acme",
            "The folder of the account's key and the certificates; made with mode 0700.",
        ),
        Key::maybe(
            "ca",
            Kind::Text(FILE),
            "A root, PEM, to trust in place of the public ones when talking to the authority.",
        ),
    ],
};

/// Reads `tls`; `None` where it is switched off.
pub(crate) fn read(fields: &Fields<'_>) -> Option<Tls> {
    if !fields.flag("enabled") {
        return None;
    }
    let acme = acme(&fields.section("acme"));
    Some(Tls {
        certificates: certificates(fields, acme.is_some()),
        min_version: fields
            .word(
                "min_version",
                &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)],
            )
            .unwrap_or(TlsVersion::V1_2),
        strict_sni: fields.flag("strict_sni"),
        client_auth: short_client_auth(fields),
        acme,
    })
}

fn certificates(fields: &Fields<'_>, acme: bool) -> Vec<Certificate> {
    let mut out = Vec::new();
    for item in fields.list("certificates") {
        let Some(one) = Fields::new(fields.reader(), &CERTIFICATE, &item) else {
            continue;
        };
        // Both are read before either is missed, so that both are told.
        let (cert, key, ocsp) = (one.path("cert"), one.path("key"), one.path("ocsp"));
        if let (Some(cert), Some(key)) = (cert, key) {
            out.push(Certificate { cert, key, ocsp });
        }
    }
    let (cert, key) = (fields.path("cert_path"), fields.path("key_path"));
    match (cert, key) {
        (Some(cert), Some(key)) => {
            if fields.has("certificates") {
                fields.refuse(
                    "cert_path",
                    Remark::allowed("there is a list `certificates` too", "one of both"),
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
    let named = ["certificates", "cert_path", "key_path"];
    let empty = fields.list("certificates").is_empty();
    if out.is_empty() && !acme && (empty && !named[1..].iter().any(|key| fields.has(key))) {
        let what = "TLS needs a certificate";
        let allowed = "`certificates` with `cert` and `key`, or `acme` with `enabled: true`";
        fields
            .reader()
            .source
            .error(fields.at, &fields.path, Remark::allowed(what, allowed));
    }
    out
}

/// `client_auth`, or its short form in three keys.
fn short_client_auth(fields: &Fields<'_>) -> ClientAuth {
    let full = client_auth(fields, "client_auth");
    if !fields.flag("enable_mtls") {
        // Switched off in so many words the others may wait for their day; left out, it was forgotten.
        for key in ["client_ca_path", "require_client_cert"] {
            if fields.has(key) && !fields.has("enable_mtls") {
                let what = "without `enable_mtls: true` no client is asked for a certificate";
                fields.refuse(key, Remark::allowed(what, "enable_mtls: true beside it"));
            }
        }
        return full.unwrap_or_default();
    }
    if fields.has("client_auth") {
        let what = "there is a section `client_auth` too";
        fields.refuse("enable_mtls", Remark::allowed(what, "one of both"));
    }
    let ca: Vec<_> = fields.path("client_ca_path").into_iter().collect();
    if ca.is_empty() && !fields.has("client_ca_path") {
        fields.missing("client_ca_path");
    }
    let mode = if fields.flag("require_client_cert") {
        ClientAuthMode::Required
    } else {
        ClientAuthMode::Optional
    };
    ClientAuth {
        mode,
        ca,
        ..ClientAuth::default()
    }
}

const MODE_WORDS: &[(&str, ClientAuthMode)] = &[
    ("none", ClientAuthMode::None),
    ("optional", ClientAuthMode::Optional),
    ("required", ClientAuthMode::Required),
];

/// The `client_auth` of a section: a word or a section.
pub(crate) fn client_auth(fields: &Fields<'_>, name: &str) -> Option<ClientAuth> {
    let found = fields.find(name)?;
    let reader = fields.reader();
    if found.node.map().is_none() {
        let word = found.node.text().unwrap_or_default();
        match MODE_WORDS.iter().find(|(known, _)| *known == word) {
            Some((_, ClientAuthMode::None)) => {}
            Some(_) => reader.refuse(&found, needs_ca()),
            None => reader.wrong(&found, &Kind::Words(MODES)),
        }
        return Some(ClientAuth::default());
    }
    let inner = fields.nearest_section(name);
    let ca = match inner.find("ca") {
        Some(one) if one.node.text().is_some() => reader.path(&one, FILE).into_iter().collect(),
        Some(_) => {
            let mut paths = Vec::new();
            for item in inner.list("ca") {
                paths.extend(reader.path(&item, FILE));
            }
            paths
        }
        None => Vec::new(),
    };
    let mode = inner.word("mode", MODE_WORDS).unwrap_or_default();
    if mode != ClientAuthMode::None && ca.is_empty() && !inner.has("ca") {
        reader.refuse(&found, needs_ca());
    }
    let expired = inner.word("expired_crl", &[("refuse", true), ("accept", false)]);
    let owned = |text: &str| Ok(text.to_owned());
    Some(ClientAuth {
        mode,
        ca,
        crl: inner.paths("crl", FILE),
        refuse_expired_crl: expired.unwrap_or(true),
        subjects: inner.texts("subjects", owned),
        san: inner.texts("san", owned),
    })
}

fn needs_ca() -> Remark {
    Remark::allowed(
        "certificates of clients can't be checked without an authority",
        "client_auth with `ca`, the file of the authorities that sign them",
    )
}

fn acme(fields: &Fields<'_>) -> Option<Acme> {
    let enabled = fields.flag("enabled");
    let directory = fields.text("directory").unwrap_or_default();
    let secure = directory.starts_with("https://");
    if !secure {
        let allowed = "a URL that begins with https://";
        fields.refuse("directory", Remark::allowed("not an https URL", allowed));
    }
    let contact = fields.texts("contact", |text| {
        let mail = text.strip_prefix("mailto:").unwrap_or(text);
        if mail
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
        {
            Ok(format!("mailto:{mail}"))
        } else {
            let what = format!("{:?} is no mail address", shown(text));
            Err(Remark::allowed(what, "an address, as admin@example.com"))
        }
    });
    let domains = fields.texts("domains", |text| match url::host(text)? {
        HostPattern::Exact(Host::Name(name)) => Ok(name),
        _ => Err(Remark::allowed(
            format!("no certificate can be fetched for {:?}", shown(text)),
            "a host name; wildcards and addresses can't be proved by these challenges",
        )),
    });
    let challenge = fields
        .word(
            "challenge",
            &[
                ("http-01", AcmeChallenge::Http01),
                ("tls-alpn-01", AcmeChallenge::TlsAlpn01),
            ],
        )
        .unwrap_or(AcmeChallenge::TlsAlpn01);
    let (cache, ca) = (fields.path("cache").unwrap_or_default(), fields.path("ca"));
    if !enabled {
        return None;
    }
    if !fields.flag("accept_terms") {
        let what = "certificates can't be fetched before you agree to the authority's terms";
        fields.refuse("accept_terms", Remark::allowed(what, "accept_terms: true"));
    }
    Some(Acme {
        directory,
        contact,
        domains,
        challenge,
        cache,
        ca,
    })
}
