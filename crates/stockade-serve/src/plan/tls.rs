//! From the configuration's TLS sections to the options of certificate stores, and to what routes ask of clients.

use std::sync::Arc;

use stockade_config as config;
use stockade_config::{ClientAuth, ClientAuthMode, Config, ExpiredCrl, Tls, TlsVersion};
use stockade_http::{HostPattern, Scheme};
use stockade_tls as tls;
use stockade_tls::{ClientRule, PolicyId};

/// What the options of a listener's store are made of: equal keys, equal stores.
#[derive(Clone, PartialEq)]
pub(crate) struct StoreKey {
    pub(crate) tls: Arc<Tls>,
    http2: bool,
    handshakes: usize,
    hosts: Vec<(String, ClientAuth)>,
}

/// Whom the routes of a site let in, beyond what the handshake checked.
pub(crate) fn rule(config: &Config, site: &config::Instance) -> ClientRule {
    let listeners = config.listeners.iter();
    let mut of_listeners = listeners.filter_map(|listener| listener.tls.as_ref());
    let (auth, required) = match &site.client_auth {
        Some(auth) => (Some(auth), auth.mode == ClientAuthMode::Required),
        None => {
            let restricted = |tls: &&Arc<Tls>| restricts(&tls.client_auth);
            (
                of_listeners.find(restricted).map(|tls| &tls.client_auth),
                false,
            )
        }
    };
    let Some(auth) = auth else {
        return ClientRule::default();
    };
    ClientRule {
        required,
        policy: site
            .client_auth
            .as_ref()
            .filter(|auth| auth.mode != ClientAuthMode::None)
            .map(|auth| PolicyId::of(&client_auth(auth))),
        ..certificates(auth)
    }
}

/// Whom the listener of the admin API lets in, beyond what the handshake checked.
pub(crate) fn admin_rule(tls: &Tls) -> ClientRule {
    ClientRule {
        required: tls.client_auth.mode == ClientAuthMode::Required,
        ..certificates(&tls.client_auth)
    }
}

/// The certificates that are allowed, where a client shows one.
fn certificates(auth: &ClientAuth) -> ClientRule {
    let kinds = ["DNS", "IP", "URI", "email"];
    ClientRule {
        subjects: auth.subjects.clone(),
        names: auth
            .san
            .iter()
            .flat_map(|name| kinds.map(|kind| format!("{kind}:{name}")))
            .collect(),
        ..ClientRule::default()
    }
}

fn restricts(auth: &ClientAuth) -> bool {
    !auth.subjects.is_empty() || !auth.san.is_empty()
}

/// Hosts whose clients must show something else than the listener asks for.
fn hosts(config: &Config) -> Vec<(String, ClientAuth)> {
    let mut hosts = Vec::new();
    for site in config.instances.values() {
        let Some(auth) = &site.client_auth else {
            continue;
        };
        for url in &site.urls {
            if url.scheme == Some(Scheme::Http) {
                continue;
            }
            let host = match &url.host {
                // The whole listener: the route asks, not the handshake.
                HostPattern::Any => continue,
                host => host.to_string(),
            };
            if !hosts.iter().any(|(known, _)| *known == host) {
                hosts.push((host, auth.clone()));
            }
        }
    }
    hosts
}

fn client_auth(auth: &ClientAuth) -> tls::ClientAuth {
    tls::ClientAuth {
        mode: match auth.mode {
            ClientAuthMode::None => tls::ClientAuthMode::None,
            ClientAuthMode::Optional => tls::ClientAuthMode::Optional,
            ClientAuthMode::Required => tls::ClientAuthMode::Required,
        },
        ca: auth.ca.clone(),
        crl: auth.crl.clone(),
        revocation: tls::Revocation {
            allow_expired: auth.expired_crl == ExpiredCrl::Accept,
            ..tls::Revocation::default()
        },
    }
}

pub(crate) fn acme_options(acme: &config::Acme) -> tls::AcmeOptions {
    tls::AcmeOptions {
        directory: acme.directory.clone(),
        contact: acme.contact.clone(),
        // The configuration has no ACME without that.
        terms_agreed: true,
        certificates: acme.domains.iter().map(|name| vec![name.clone()]).collect(),
        challenge: match acme.challenge {
            config::AcmeChallenge::Http01 => tls::AcmeChallenge::Http01,
            config::AcmeChallenge::TlsAlpn01 => tls::AcmeChallenge::TlsAlpn01,
        },
        cache: acme.cache.clone(),
        server_ca: acme.ca.clone(),
        ..tls::AcmeOptions::default()
    }
}

/// The options of a store.
pub(crate) fn options(key: &StoreKey) -> tls::TlsOptions {
    let tls = &key.tls;
    let certificates = tls.certificates.iter();
    let hosts = key.hosts.iter();
    tls::TlsOptions {
        certificates: certificates
            .map(|files| tls::CertificateFiles {
                cert: files.cert.clone(),
                key: files.key.clone(),
                ocsp: files.ocsp.clone(),
            })
            .collect(),
        min_version: match tls.min_version {
            TlsVersion::V1_2 => tls::TlsVersion::V12,
            TlsVersion::V1_3 => tls::TlsVersion::V13,
        },
        strict_sni: tls.strict_sni,
        client_auth: client_auth(&tls.client_auth),
        hosts: hosts
            .map(|(host, auth)| tls::HostClientAuth {
                host: host.clone(),
                client_auth: client_auth(auth),
            })
            .collect(),
        http2: key.http2,
        waiting_handshakes: key.handshakes,
        ..tls::TlsOptions::default()
    }
}

/// What the store of each listener is made of, in their order, and then that of the admin API, if it has a listener;
/// `None` where one is plain.
pub(crate) fn keys(config: &Config) -> Vec<Option<StoreKey>> {
    let hosts = hosts(config);
    let listeners = config.listeners.iter();
    let key = |listener: &config::Listener| {
        let tls = listener.tls.as_ref()?;
        Some(StoreKey {
            tls: Arc::clone(tls),
            http2: listener.http2,
            handshakes: config.limits.handshakes,
            hosts: hosts.clone(),
        })
    };
    let admin = config.admin.iter().map(|admin| {
        Some(StoreKey {
            tls: Arc::clone(admin.tls.as_ref()?),
            http2: true,
            handshakes: config.limits.handshakes,
            hosts: Vec::new(),
        })
    });
    listeners.map(key).chain(admin).collect()
}

/// The options that all listeners come to, as text.
#[cfg(test)]
pub(crate) fn planned(config: &Config) -> String {
    let keys = keys(config);
    let planned = keys.iter().map(|key| {
        let acme = key.as_ref().and_then(|key| key.tls.acme.as_ref());
        let options = key.as_ref().map(options);
        format!("{options:?} {:?}", acme.map(acme_options))
    });
    planned.collect()
}

/// Whether listeners differ in what the routes of all sites ask, so that routes could not decide which one applies.
pub(crate) fn rules_differ(config: &Config) -> bool {
    let listeners = config.listeners.iter();
    let mut rules = listeners
        .filter_map(|listener| listener.tls.as_ref())
        .map(|tls| (&tls.client_auth.subjects, &tls.client_auth.san));
    let first = rules.next();
    let mut sites = config.instances.values();
    rules.any(|rule| Some(rule) != first) && sites.any(|site| site.client_auth.is_none())
}
